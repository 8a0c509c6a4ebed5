"""Watches the numbers: gradient norms, updates left out, and what is left behind when a run must stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import Callback, Trainer

from ocrsdk.errors import NonFiniteError
from ocrsdk.logs import get_logger
from ocrsdk.precision.base import SkipsUpdates
from ocrsdk.training.numerics import explain_nonfinite
from ocrsdk.training.replay import write_replay

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from ocrsdk.training.module import DetectionModule
    from ocrsdk.types import Batch


class NumericGuard(Callback):
    """Makes an update that was left out leave no trace, and a run that must stop leave a file that replays it.

    Logs ``grad_norm/<block>``, and for strategies that may skip updates ``precision/scale``, ``precision/skipped`` and
    ``precision/skip_rate``. It has to be the first callback: the others rely on a step count that follows real updates.

    Args:
        folder: Where replay files go.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._window: list[Batch] = []
        """The batches of the update under way."""
        self._buffers: list[tuple[Tensor, Tensor]] = []
        self._in_row = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Batch, batch_idx: int) -> None:
        """Remember the running statistics that an overflow would spoil."""
        if not self._window:
            module: DetectionModule = pl_module
            self._buffers = [(buffer, buffer.clone()) for buffer in module.model.buffers()]
        self._window.append(batch)

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        """Gradients are there, unscaled, and not clipped yet."""
        module: DetectionModule = pl_module
        if not module.logs_this_step:
            return
        blocks: dict[str, list[Tensor]] = {}
        for name, parameter in module.model.named_parameters():
            if parameter.grad is not None:
                blocks.setdefault(block_of(name), []).append(parameter.grad)
        norms = {f"grad_norm/{block}": torch.nn.utils.get_total_norm(grads) for block, grads in blocks.items()}
        module.step_values.update(norms)

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """After an update, or after one was left out."""
        module: DetectionModule = pl_module
        if not module.ends_update(batch_idx):
            return
        plugin = trainer.precision_plugin
        if isinstance(plugin, SkipsUpdates):
            if plugin.last_skipped:
                self._left_out(trainer, module, plugin)
            else:
                self._in_row = 0
            values = {"precision/skipped": float(module.skipped_steps), "precision/skip_rate": module.skip_rate}
            if module.logs_last_step and (scale := getattr(plugin, "scale", None)) is not None:
                values["precision/scale"] = scale  # waits for a GPU
            module.step_values.update(values)
        self._window.clear()

    def _left_out(self, trainer: Trainer, module: DetectionModule, plugin: SkipsUpdates) -> None:
        self._restore()
        module.skipped_steps += 1
        self._in_row += 1
        counted = trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step
        for count in (counted.total, counted.current):  # Lightning counts an update that was left out
            count.ready -= 1
            count.completed -= 1
        get_logger(__name__).warning(
            "update left out: a gradient is not finite", step=trainer.global_step, samples=_names(self._window),
            in_a_row=self._in_row, scale=getattr(plugin, "scale", None),
        )  # fmt: skip
        if self._in_row >= plugin.max_skips:
            where = explain_nonfinite(
                module.model, module.loss, self._window, trainer.precision_plugin.forward_context, _scale(trainer)
            )
            raise NonFiniteError(
                f"{self._in_row} updates in a row were left out, the last one at step {trainer.global_step} for "
                f"{_names(self._window)}: {where}"
            )

    def _restore(self) -> None:
        for buffer, before in self._buffers:
            buffer.copy_(before)

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        """Keep what is needed to see it happen again."""
        if isinstance(exception, NonFiniteError) and self._window:
            self._restore()
            path = write_replay(self.folder, pl_module, self._window, str(exception), _scale(trainer))
            exception.args = (f"{exception}. To see it again: ocrsdk precision replay {path}",)
        self._window.clear()

    def state_dict(self) -> dict[str, Any]:
        """Updates left out in a row."""
        return {"in_row": self._in_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self._in_row = state_dict["in_row"]


def _scale(trainer: Trainer) -> float:
    """What each batch's loss was multiplied with."""
    return float(getattr(trainer.precision_plugin, "used_scale", 1.0)) / trainer.accumulate_grad_batches


def block_of(parameter: str) -> str:
    """The part of the network that a parameter belongs to: a stage of the backbone, the neck or the head."""
    parts = parameter.split(".")
    return ".".join(parts[:2]) if parts[0] == "backbone" else parts[0]


def _names(batches: list[Batch]) -> str:
    return ", ".join(sorted({sample.annotation.image.name for batch in batches for sample in batch.samples}))
