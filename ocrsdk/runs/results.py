"""What ``Pipeline`` returns, and what a run starts from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from ocrsdk.data.folder import DataReport
    from ocrsdk.metrics.hmean import Score
    from ocrsdk.settings.schema import Settings
    from ocrsdk.types import Annotation, PageDetections


class Split(NamedTuple):
    """The pages of one split, and what was found while they were read."""

    annotations: list[Annotation]
    report: DataReport


@dataclass(frozen=True)
class CheckedRun:
    """Settings, plug-ins and data that can be used, found out before PyTorch is loaded."""

    settings: Settings
    """With ``data.root`` filled in."""
    train: Split
    val: Split


@dataclass(frozen=True)
class EvaluationResult:
    """Score and detections of a set of pages."""

    score: Score
    pages: list[PageDetections]
    report: DataReport | None = None
    """What was found while the data folder was read."""

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: the score, and the counts of each page."""
        per_page = [
            {
                "image": str(page.image),
                "matched": image.matched,
                "gt_cared": image.gt_cared,
                "det_cared": image.det_cared,
                "hmean": image.hmean,
            }
            for page, image in zip(self.pages, self.score.per_image, strict=True)
        ]
        skipped = self.report.skipped if self.report else []
        return {**self.score.as_dict(), "skipped": skipped, "per_page": per_page}


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
    """Updates left out because a gradient was not finite; not among ``steps``."""
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

    def as_dict(self) -> dict[str, Any]:
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
class Plan:
    """What a run would do; from ``Pipeline.plan``, after one real step."""

    model: str
    parameters: int
    train_pages: int
    train_regions: int
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

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        from dataclasses import asdict

        return asdict(self)
