"""Where a run stands that is resumed, and whether these settings may resume it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ocrsdk.errors import CheckpointError, TrainingError
from ocrsdk.fingerprint import differences
from ocrsdk.runs.folder import last_checkpoint
from ocrsdk.runs.secrets import missing, names_used
from ocrsdk.settings.sources import variable_of

if TYPE_CHECKING:
    from pathlib import Path

    from ocrsdk.runs.build import RunParts
    from ocrsdk.runs.check import TrainingData
    from ocrsdk.settings.schema import Settings


class ResumableRun(NamedTuple):
    """A run that can be resumed."""

    path: Path
    """Its last checkpoint."""
    step: int
    """Updates made and skipped."""
    elapsed: float
    """Seconds of training."""
    metadata: dict[str, Any]
    """What the checkpoint says of the run."""
    loggers: dict[str, Any]
    """What each logger remembered."""


def resumable_run(folder: Path, settings: Settings) -> ResumableRun:
    """Where the run in ``folder`` stands.

    Raises:
        CheckpointError: There is no checkpoint, it cannot be read, or it is of another model.
    """
    from ocrsdk.models.checkpoint import read_checkpoint

    path = last_checkpoint(folder)
    content = read_checkpoint(path)
    metadata = content["ocrsdk"]
    asked = {"name": settings.model.name, "backbone": settings.model.backbone}
    if metadata["model"] != asked:
        raise CheckpointError(f"{path}: a checkpoint of {metadata['model']}, but the settings ask for {asked}")
    step = content["global_step"] + metadata["skipped_steps"]
    elapsed = float(content["callbacks"]["RunLimits"]["elapsed"])
    return ResumableRun(path, step, elapsed, metadata, metadata["loggers"])


def check(parts: RunParts, resumed: ResumableRun, folder: Path, allow_precision_change: bool) -> None:
    """Refuse what cannot go on, or would go on differently, before anything is touched.

    Raises:
        CheckpointError: The parts compute something else than before.
        TrainingError: Nothing is left to do.
    """
    settings, metadata, name = parts.settings, resumed.metadata, parts.precision.strategy.name
    used = names_used(parts.checked.cache.backend, parts.checked.strategy, parts.checked.loggers)
    if lost := missing(metadata["secrets"], used, parts.checked.secrets):
        raise CheckpointError(
            f"{folder}: {lost[0]} is a secret, which is kept nowhere; "
            f"give it again: {variable_of(lost[0])}=... ocrsdk train --resume"
        )
    if metadata["precision"] != name and not allow_precision_change:
        raise CheckpointError(
            f"{folder}: was trained with precision {metadata['precision']}, the settings say {name}. Resume with "
            f"--precision {metadata['precision']}, or if the change is meant: --allow-precision-change"
        )
    options = parts.metadata["precision_options"]
    if metadata["precision"] == name and metadata["precision_options"] != options and not allow_precision_change:
        changed = "; ".join(differences(metadata["precision_options"], options, "precision.options."))
        raise CheckpointError(
            f"{folder}: was trained with other options of {name} ({changed}). If the change is meant: --allow-precision-change"
        )
    for what, before, now in (
        ("data.batch_size", metadata["batch_size"], parts.metadata["batch_size"]),
        ("trainer.accumulate", metadata["accumulate"], parts.accumulate),
        ("optimizer.name", metadata["settings"]["optimizer"]["name"], settings.optimizer.name),
        ("model.backbone_weights", metadata["settings"]["model"]["backbone_weights"], _text(settings.model.backbone_weights)),
    ):
        if before != now:
            remedy = f"Add: --set {what}={before}" if before is not None else "Leave it out"
            raise CheckpointError(
                f"{folder}: {what} was {before} and is {now}; a run is resumed with what it was started with. {remedy}"
            )
    if metadata["data"] != parts.metadata["data"]:
        raise CheckpointError(
            f"{folder}: the pages, labels or weights in {settings.data.root} are not those that it was started with; "
            "start a new run with them"
        )
    batches = -(-draws_of(parts.checked.data) // parts.metadata["batch_size"])
    most, limit = settings.trainer.epochs * -(-batches // parts.accumulate), settings.trainer.max_time
    if resumed.step >= most or (limit is not None and resumed.elapsed >= limit.total_seconds()):
        raise limits_reached(folder, resumed.step)


def draws_of(data: TrainingData) -> int:
    """The number of training samples in an epoch."""
    from ocrsdk.data.dataset import Share
    from ocrsdk.runs.check import FolderData

    if isinstance(data, FolderData):
        return sum(Share(*share).drawn for share in data.train.shares)
    return len(data.train)  # type: ignore[arg-type]


def _text(path: Path | None) -> str | None:
    return str(path) if path is not None else None


def limits_reached(folder: Path, step: int) -> TrainingError:
    """The error of a run that has nothing left to do."""
    return TrainingError(
        f"0 steps were made: {folder} is at step {step} and its limits are reached. Give it more: --epochs or --max-time"
    )
