"""Checkpoints read without running code from the file, and without Lightning."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from ocrsdk.errors import CheckpointError, OcrsdkError
from ocrsdk.models.dbnet import DBNet
from ocrsdk.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

FORMAT = 5
_PREFIX = "model."


def make_metadata(
    model: DBNet,
    prepare: dict[str, object],
    postprocess: dict[str, object],
    settings: dict[str, object],
    precision: str,
    **more: object,
) -> dict[str, object]:
    """What stands in a checkpoint under ``ocrsdk``: all that inference needs besides weights, and how they came to be.

    Args:
        model: The network.
        prepare: Arguments of ``EvalTransform``.
        postprocess: Values of ``PostProcessSettings``.
        settings: All settings of the run, without secrets.
        precision: Name of the precision strategy.
        more: What a resumed run is compared with.
    """
    return {
        "format": FORMAT,
        "ocrsdk_version": __version__,
        "model": model.architecture,
        "prepare": prepare,
        "postprocess": postprocess,
        "settings": settings,
        "precision": precision,
        **more,
    }


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A network with trained weights, and what belongs to it."""

    path: Path
    model: DBNet
    prepare: dict[str, Any]
    """Arguments of ``EvalTransform``."""
    postprocess: dict[str, Any]
    """Values of ``PostProcessSettings``."""
    settings: dict[str, Any]
    """The settings of the training run."""
    epoch: int
    step: int
    tuned: dict[str, Any] = field(default_factory=dict)
    """What thresholds were chosen on, if they were: see ``runs.tune``."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint of ours, as plain data and tensors.

    Raises:
        CheckpointError: The file is missing, damaged, unsafe, or none of ours.
    """
    if path.is_dir():
        raise CheckpointError(f"{path}: is a folder; name a checkpoint, of a run for instance {path / 'checkpoints' / 'best.ckpt'}")
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    try:
        _verify(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        kind = (
            "it holds more than tensors and plain data, and was not executed"
            if "weights_only" in str(error)
            else ("truncated, damaged or no checkpoint")
        )
        beside = [p for p in sorted(path.parent.glob("*.ckpt")) if p != path]
        remedy = f". Beside it: {', '.join(p.name for p in beside)}" if beside else ""
        raise CheckpointError(f"{path}: cannot be loaded ({kind}){remedy}") from error
    metadata = content.get("ocrsdk") if isinstance(content, dict) else None
    if not isinstance(metadata, dict) or not isinstance(content.get("state_dict"), dict):
        raise CheckpointError(f"{path}: not a checkpoint of ocrsdk")
    if metadata.get("format") != FORMAT:
        raise CheckpointError(
            f"{path}: checkpoint format {metadata.get('format')}, this version reads {FORMAT}; "
            f"it was written by ocrsdk {metadata.get('ocrsdk_version')}"
        )
    return dict(content)


def _verify(path: Path) -> None:
    """Compare the CRC-32 that torch writes for every part of the file and does not look at itself when it loads."""
    if not zipfile.is_zipfile(path):
        return  # torch says what is wrong with it
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise zipfile.BadZipFile(f"the checksum of {damaged} differs")


def load_checkpoint(path: Path) -> LoadedCheckpoint:
    """A network in evaluation mode, with every weight of the checkpoint.

    Raises:
        CheckpointError: As ``read_checkpoint``, or the weights do not fit the architecture that the file names.
    """
    content = read_checkpoint(path)
    metadata = content["ocrsdk"]
    state = {k.removeprefix(_PREFIX): v for k, v in content["state_dict"].items() if k.startswith(_PREFIX)}
    try:
        model = DBNet(**metadata["model"])
        model.load_state_dict(state)
    except (RuntimeError, TypeError, KeyError, OcrsdkError) as error:
        first = next((line.strip() for line in str(error).splitlines()[1:]), str(error))
        raise CheckpointError(f"{path}: the weights do not fit the model {metadata.get('model')}: {first[:200]}") from error
    if bad := [name for name, value in state.items() if not value.isfinite().all()]:
        raise CheckpointError(f"{path}: {len(bad)} weights hold NaN or infinity, first {bad[0]}; nothing can be found with them")
    prepare, postprocess, settings = (metadata.get(key) for key in ("prepare", "postprocess", "settings"))
    if not (isinstance(prepare, dict) and isinstance(postprocess, dict) and isinstance(settings, dict)):
        raise CheckpointError(f"{path}: holds no preparation, post-processing or settings; it has been changed by hand")
    return LoadedCheckpoint(
        path, model.eval(), prepare, postprocess, settings, content.get("epoch", 0), content.get("global_step", 0),
        metadata.get("tuned") or {},
    )  # fmt: skip
