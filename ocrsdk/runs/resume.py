"""Where a run stands that goes on, and whether these settings may go on with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ocrsdk.runs import folder as run_folder
from ocrsdk.cache.keys import differences
from ocrsdk.errors import CheckpointError, TrainingError

if TYPE_CHECKING:
    from pathlib import Path

    from ocrsdk.runs.build import RunParts
    from ocrsdk.settings.schema import Settings


class BegunRun(NamedTuple):
    """A run that can go on."""

    path: Path
    """Its last checkpoint."""
    step: int
    """Updates made and left out."""
    elapsed: float
    """Seconds of training."""
    passport: dict[str, Any]
    """What the checkpoint says of the run."""
    loggers: dict[str, Any]
    """What each logger remembered."""


def begun_run(folder: Path, settings: Settings) -> BegunRun:
    """Where the run in ``folder`` stands.

    Raises:
        CheckpointError: There is no checkpoint, it cannot be read, or it is of another model.
    """
    from ocrsdk.models.checkpoint import read_checkpoint

    path = run_folder.last_checkpoint(folder)
    content = read_checkpoint(path)
    passport = content["ocrsdk"]
    asked = {"name": settings.model.name, "backbone": settings.model.backbone}
    if passport["model"] != asked:
        raise CheckpointError(f"{path}: a checkpoint of {passport['model']}, but the settings ask for {asked}")
    step = content["global_step"] + passport["skipped_steps"]
    elapsed = float(content["callbacks"]["RunLimits"]["elapsed"])
    return BegunRun(path, step, elapsed, passport, passport["loggers"])


def check(parts: RunParts, begun: BegunRun, folder: Path, allow_precision_change: bool) -> None:
    """Refuse what cannot go on, or would go on differently, before anything is touched.

    Raises:
        CheckpointError: The parts compute something else than before.
        TrainingError: Nothing is left to do.
    """
    settings, passport, name = parts.settings, begun.passport, parts.precision.strategy.name
    if passport["precision"] != name and not allow_precision_change:
        raise CheckpointError(
            f"{folder}: was trained with precision {passport['precision']}, the settings say {name}. Go on with "
            f"--precision {passport['precision']}, or if the change is meant: --allow-precision-change"
        )
    options = parts.module.passport["precision_options"]
    if passport["precision"] == name and passport["precision_options"] != options and not allow_precision_change:
        changed = "; ".join(differences(passport["precision_options"], options, "precision.options."))
        raise CheckpointError(
            f"{folder}: was trained with other options of {name} ({changed}). If the change is meant: --allow-precision-change"
        )
    for what, before, now in (
        ("data.batch_size", passport["settings"]["data"]["batch_size"], settings.data.batch_size),
        ("trainer.accumulate", passport["accumulate"], parts.accumulate),
        ("optimizer.name", passport["settings"]["optimizer"]["name"], settings.optimizer.name),
        ("model.backbone_weights", passport["settings"]["model"]["backbone_weights"], _text(settings.model.backbone_weights)),
    ):
        if before != now:
            remedy = f"Add: --set {what}={before}" if before is not None else "Leave it out"
            raise CheckpointError(f"{folder}: {what} was {before} and is {now}; it goes on with what it was begun with. {remedy}")
    if passport["data"] != parts.module.passport["data"]:
        raise CheckpointError(
            f"{folder}: the pages or labels in {settings.data.root} are not those that it was begun with; begin a new run with them"
        )
    batches = -(-len(parts.datamodule.train) // settings.data.batch_size)
    most, limit = settings.trainer.epochs * -(-batches // parts.accumulate), settings.trainer.max_time
    if begun.step >= most or (limit is not None and begun.elapsed >= limit.total_seconds()):
        raise limits_reached(folder, begun.step)


def _text(path: Path | None) -> str | None:
    return str(path) if path is not None else None


def limits_reached(folder: Path, step: int) -> TrainingError:
    """The error of a run that has nothing left to do."""
    return TrainingError(
        f"0 steps were made: {folder} is at step {step} and its limits are reached. Give it more: --epochs or --max-time"
    )
