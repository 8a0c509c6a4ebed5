"""A file that makes an update with NaN or infinity happen again: weights, batches and settings, without any code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ocrsdk.errors import CheckpointError
from ocrsdk.models.checkpoint import read_checkpoint
from ocrsdk.training.checkpoint import AtomicCheckpointIO
from ocrsdk.types import Batch, TargetMaps

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from ocrsdk.training.module import DetectionModule


@dataclass(frozen=True)
class Replay:
    """What ``write_replay`` keeps."""

    metadata: dict[str, Any]
    """As in a checkpoint: the model, the settings, the precision."""
    state: dict[str, torch.Tensor]
    """The network's weights before the update."""
    batches: list[Batch]
    """The batches of the update; without samples."""
    names: list[list[str]]
    """Image files of each batch."""
    step: int
    message: str
    scale: float
    """What each batch's loss was multiplied with."""


def write_replay(folder: Path, module: DetectionModule, batches: list[Batch], message: str, scale: float) -> Path:
    """Write ``nonfinite-step-<n>.ckpt``.

    Args:
        folder: The run folder.
        module: With the weights from before the update.
        batches: Those of the update.
        message: What was wrong.
        scale: What each batch's loss was multiplied with.
    """
    path = folder / f"nonfinite-step-{module.global_step}.ckpt"
    kept = []
    for batch in batches:
        assert batch.targets is not None
        names = [str(sample.annotation.image) for sample in batch.samples]
        kept.append({"image": batch.image.cpu(), "targets": [m.cpu() for m in batch.targets], "names": names})
    content = {
        "ocrsdk": module.metadata,
        "state_dict": {f"model.{name}": value.cpu() for name, value in module.model.state_dict().items()},
        "global_step": module.global_step,
        "replay": {"batches": kept, "message": message, "scale": scale},
    }
    AtomicCheckpointIO().save_checkpoint(content, path)
    return path


def read_replay(path: Path) -> Replay:
    """Read what ``write_replay`` wrote.

    Raises:
        CheckpointError: The file is missing, damaged, unsafe, or no replay.
    """
    content = read_checkpoint(path)
    kept = content.get("replay")
    if kept is None:
        raise CheckpointError(
            f"{path}: a checkpoint, not a replay; a run that NaN or infinity stopped leaves nonfinite-step-N.ckpt"
        )
    try:
        batches = [Batch(item["image"], [], TargetMaps(*item["targets"])) for item in kept["batches"]]
        names = [item["names"] for item in kept["batches"]]
        state = {name.removeprefix("model."): value for name, value in content["state_dict"].items()}
        step, message, scale = int(content["global_step"]), str(kept["message"]), float(kept["scale"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path}: a replay with parts missing or changed ({error!r})") from error
    if not batches:
        raise CheckpointError(f"{path}: a replay without batches")
    return Replay(content["ocrsdk"], state, batches, names, step, message, scale)
