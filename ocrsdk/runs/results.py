"""What ``Pipeline.fit`` and ``Pipeline.plan`` return."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pathlib import Path

    from ocrsdk.metrics.hmean import Score


@dataclass(frozen=True)
class FitResult:
    """A finished, stopped or interrupted training run."""

    run_dir: Path
    status: Literal["finished", "stopped"]
    """``stopped``: by a signal, before the end."""
    epochs: int
    steps: int
    seconds: float
    best_hmean: float | None
    """Of ``best.ckpt``; None before the first validation."""
    score: Score | None
    """Of the last validation."""
    best_checkpoint: Path | None
    last_checkpoint: Path
    overlays: Path | None
    """Folder of pictures."""
    precision: str
    """The strategy that it was trained with."""
    validated: bool
    """Whether that strategy is a reference, or holds a certificate for this model, data and device."""
    skipped_steps: int
    """Updates skipped because a gradient was not finite; not among ``steps``."""
    images_per_second: float | None
    """Median over the batches, waiting for data included; None if there were too few."""
    peak_memory_bytes: int
    """Of the process; of the device if it is a GPU."""
    profile: dict[str, Any] | None = None
    """Where the time went, if ``trainer.profile`` was set; see ``training.profile.ProfileReport``."""
    logger_problems: dict[str, str] = field(default_factory=dict)
    """Logger -> why it was switched off or what it lost; all rows are in ``metrics.jsonl`` even so."""
    signal: str | None = None
    """Name of the signal that stopped the run."""

    def as_dict(self) -> dict[str, object]:
        """JSON-ready."""
        return {
            "run_dir": str(self.run_dir),
            "status": self.status,
            "epochs": self.epochs,
            "steps": self.steps,
            "seconds": round(self.seconds, 3),
            "best_hmean": self.best_hmean,
            "score": self.score.as_dict() if self.score else None,
            "best_checkpoint": str(self.best_checkpoint) if self.best_checkpoint else None,
            "last_checkpoint": str(self.last_checkpoint),
            "overlays": str(self.overlays) if self.overlays else None,
            "precision": self.precision,
            "validated": self.validated,
            "skipped_steps": self.skipped_steps,
            "images_per_second": self.images_per_second,
            "peak_memory_bytes": self.peak_memory_bytes,
            "profile": self.profile,
            "logger_problems": self.logger_problems,
            "signal": self.signal,
        }


@dataclass(frozen=True)
class SourcePlan:
    """One of several sources of training pages."""

    path: str
    pages: int
    regions: int
    weight: float
    drawn: int
    """Samples of it in an epoch."""


@dataclass(frozen=True)
class Plan:
    """What a run would do; from ``Pipeline.plan``, after one real step."""

    model: str
    parameters: int
    train_pages: int
    train_regions: int | None
    """None for datasets that do not tell."""
    val_pages: int
    batch_size: int
    steps_per_epoch: int
    steps: int
    device: str
    precision: str
    cache: str
    cache_version: str
    loggers: list[str]
    loss: float
    """Of the one step."""
    step_seconds: float
    peak_memory_bytes: int
    """Resident memory of the process after the step."""
    skipped: list[str] = field(default_factory=list)
    sources: list[SourcePlan] = field(default_factory=list)
    """Where there are several."""

    def as_dict(self) -> dict[str, object]:
        """JSON-ready."""
        from dataclasses import asdict

        return asdict(self)
