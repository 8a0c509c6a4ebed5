"""What number formats do to the activations and gradients of a detector: ranges, and an update that is run again."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from ocrsdk.errors import CheckpointError
from ocrsdk.models.checkpoint import load_checkpoint
from ocrsdk.models.dbnet import DBNet
from ocrsdk.models.losses import DBLoss
from ocrsdk.plugins.manager import call
from ocrsdk.precision.device import tf32_allowed
from ocrsdk.precision.make import make_strategy, trainer_kwargs
from ocrsdk.precision.numerics import explain_nonfinite, module_ranges
from ocrsdk.runs.build import build_data
from ocrsdk.settings.sections import LossSettings
from ocrsdk.training.replay import read_replay
from ocrsdk.training.trainer import quiet_trainer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from ocrsdk.precision.base import PrecisionStrategy
    from ocrsdk.precision.numerics import Context, ModuleRange, Step
    from ocrsdk.runs.build import RunParts
    from ocrsdk.types import Batch


@dataclass(frozen=True)
class ReplayResult:
    """What a replayed update did."""

    strategy: str
    message: str
    """Why the run stopped."""
    step: int
    names: list[list[str]]
    """Image files of each batch."""
    where: str
    """Where NaN or infinity first appears now."""


def load_weights(parts: RunParts, checkpoint: Path) -> None:
    """Put trained weights into the network of a run.

    Raises:
        CheckpointError: It is of another network.
    """
    model, loaded = parts.model, load_checkpoint(checkpoint).model
    if loaded.architecture != model.architecture:
        raise CheckpointError(f"{checkpoint}: a checkpoint of {loaded.architecture}, but the settings ask for {model.architecture}")
    model.load_state_dict(loaded.state_dict())


def ranges(parts: RunParts, strategy: PrecisionStrategy, count: int) -> list[ModuleRange]:
    """Of so many training batches, closest to overflow first."""
    model = parts.model.train().to(parts.device).to_memory_format(parts.device)
    loader = build_data(parts, None).train_dataloader()
    batches: list[Batch] = [batch.to(parts.device) for batch in islice(loader, count)]
    context, _ = _numbers(strategy, parts.device)
    with tf32_allowed(strategy.tf32):
        return sorted(module_ranges(model, _step(model, parts.loss), batches, context), key=lambda r: r.headroom)


def replay(path: Path, strategy: str | None, device: str) -> ReplayResult:
    """Run the update again that stopped a training run.

    Args:
        path: The ``nonfinite-step-N.ckpt`` that it left.
        strategy: Another precision strategy; None for the one of the run.
        device: ``cpu``, ``cuda`` or ``mps``.

    Raises:
        CheckpointError: The file cannot be used.
    """
    found = read_replay(path)
    name = strategy or found.metadata["precision"]
    options = found.metadata["precision_options"] if name == found.metadata["precision"] else {}
    precision = make_strategy(name, options, device)
    model = DBNet(**found.metadata["model"])
    try:
        model.load_state_dict(found.state)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: its weights do not fit the model {found.metadata['model']}") from error
    call(precision.prepare, model)
    model.train().to(device).to_memory_format(device)
    batches = [batch.to(device) for batch in found.batches]
    context, scale = _numbers(precision, device)
    if name == found.metadata["precision"]:
        scale = found.scale
    loss = DBLoss(LossSettings(**found.metadata["settings"]["loss"]))
    with tf32_allowed(precision.tf32):
        where = explain_nonfinite(model, _step(model, loss), batches, context, scale)
    return ReplayResult(name, found.message, found.step, found.names, where)


def _step(model: DBNet, loss: DBLoss) -> Step:
    def step(batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
        output = model(batch.image)
        parts = loss(output.prob_logits, output.thresh_logits, batch.targets)
        return parts.total, {"bce": parts.bce, "l1": parts.l1, "dice": parts.dice}

    return step


def _numbers(strategy: PrecisionStrategy, device: str) -> tuple[Context, float]:
    """The autocast region and the loss scale, as Lightning would use them."""
    plugin = quiet_trainer(device, trainer_kwargs(strategy, device)).precision_plugin
    return plugin.forward_context, float(getattr(plugin, "scale", 1.0))
