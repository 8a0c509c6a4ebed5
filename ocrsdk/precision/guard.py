"""``PrecisionGuard``: no update that is not finite reaches the weights of a LightningModule, or leaves a trace."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from ocrsdk.errors import NonFiniteError
from ocrsdk.logs import get_logger
from ocrsdk.precision.base import SkipsUpdates
from ocrsdk.precision.numerics import explain_nonfinite

if TYPE_CHECKING:
    from torch import Tensor


def ends_update(trainer: Trainer, batch_idx: int) -> bool:
    """Whether the weights are updated after this training batch; others only add up gradients."""
    return trainer.is_last_batch or (batch_idx + 1) % trainer.accumulate_grad_batches == 0


class PrecisionGuard(Callback):
    """Watches loss and gradients of every update, for any module with one optimizer.

    Under a strategy that may skip updates (``SkipsUpdates``), a skipped one leaves no trace: running statistics are put back, and
    neither ``trainer.global_step`` nor a schedule that moves with every step goes on; too many in a row stop the run. Under any
    other, a loss or gradient that is NaN or infinite stops the run before the weights change.

    It has to be the first callback: others then see a step count that follows real updates.
    """

    def __init__(self) -> None:
        self.skipped_steps = 0
        """Updates that were skipped; ``global_step`` does not count them."""
        self.window: list[Any] = []
        """The batches of the update under way."""
        self._first_batch = 0
        self._buffers: list[tuple[Tensor, Tensor]] = []
        self._schedules: list[tuple[Any, dict[str, Any]]] = []
        self._groups: list[tuple[dict[str, Any], dict[str, Any]]] = []
        self._in_row = 0

    @property
    def skip_rate(self) -> float:
        """Skipped updates among all of ``attempts``."""
        return self.skipped_steps / self._attempts if self._attempts else 0.0

    _attempts = 0

    # ------------------------------------------------------------ what a subclass may know

    def names(self) -> str:
        """What the batches of the update under way are called in messages."""
        last = self._first_batch + len(self.window) - 1
        return f"batch {self._first_batch}" if last == self._first_batch else f"batches {self._first_batch} to {last}"

    def explain(self, trainer: Trainer, module: LightningModule) -> str:
        """Where the batches of the update under way first give NaN or infinity."""

        def step(batch: object) -> tuple[Tensor, dict[str, Tensor]]:
            output = module.training_step(batch, self._first_batch)
            loss = output["loss"] if isinstance(output, dict) else output
            if not isinstance(loss, torch.Tensor):
                raise TypeError("training_step returned no loss")
            return loss, {}

        context = trainer.precision_plugin.forward_context
        return explain_nonfinite(module, step, self.window, context, self.used_scale(trainer))

    # ----------------------------------------------------------------------------- hooks

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Convert weights to the dtype of the strategy before a checkpoint is loaded; Lightning does it later, and would round."""
        trainer.precision_plugin.convert_module(pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Remember what a skipped update would spoil."""
        if not self.window:
            self._first_batch = batch_idx
            self._buffers = [(buffer, buffer.clone()) for buffer in pl_module.buffers()]
            if isinstance(trainer.precision_plugin, SkipsUpdates):
                self._remember_schedules(trainer)
        self.window.append(batch)

    def _remember_schedules(self, trainer: Trainer) -> None:
        moving = [config.scheduler for config in trainer.lr_scheduler_configs if config.interval == "step"]
        self._schedules = [(scheduler, copy.copy(scheduler.state_dict())) for scheduler in moving]
        groups = [group for scheduler in moving for group in scheduler.optimizer.param_groups]
        self._groups = [(group, {key: value for key, value in group.items() if key != "params"}) for group in groups]

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """A loss that is not finite."""
        if torch.isfinite(loss):
            return
        if not isinstance(trainer.precision_plugin, SkipsUpdates):
            value = float(loss.detach()) * trainer.accumulate_grad_batches
            raise NonFiniteError(f"the loss is {value} at step {trainer.global_step} for {self.names()}")
        # no gradient of this update may pass for a finite one
        loss.register_hook(lambda gradient: gradient * torch.nan)  # type: ignore[no-untyped-call]

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Gradients are there, unscaled, and not clipped yet."""
        if isinstance(trainer.precision_plugin, SkipsUpdates):
            return
        gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        if not torch.isfinite(norm):
            raise NonFiniteError(f"a gradient is {float(norm)} at step {trainer.global_step} for {self.names()}")

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: object, batch_idx: int) -> None:
        """After an update, or after one was skipped."""
        if not ends_update(trainer, batch_idx):
            return
        plugin = trainer.precision_plugin
        if isinstance(plugin, SkipsUpdates):
            if plugin.last_skipped:
                self._skipped(trainer, pl_module, plugin)
            else:
                self._in_row = 0
        self._attempts = trainer.global_step + self.skipped_steps
        self.window.clear()

    def _skipped(self, trainer: Trainer, module: LightningModule, plugin: SkipsUpdates) -> None:
        self.restore()
        self.skipped_steps += 1
        self._in_row += 1
        counted = trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step
        for count in (counted.total, counted.current):  # Lightning counts a skipped update
            count.ready -= 1
            count.completed -= 1
        get_logger(__name__).warning(
            "skipped update: a gradient is not finite", step=trainer.global_step, samples=self.names(), in_a_row=self._in_row,
            scale=getattr(plugin, "scale", None),
        )  # fmt: skip
        if self._in_row >= plugin.max_skips:
            raise NonFiniteError(
                f"{self._in_row} updates in a row were skipped, the last one at step {trainer.global_step} for {self.names()}: "
                f"{self._explained(trainer, module)}"
            )

    def _explained(self, trainer: Trainer, module: LightningModule) -> str:
        try:
            return self.explain(trainer, module)
        except Exception as error:  # noqa: BLE001 - a foreign training step may not like to be called once more
            return f"the batches cannot be run again to say where ({error})"

    def restore(self) -> None:
        """Put back running statistics and schedules as they were before the update under way."""
        for buffer, before in self._buffers:
            buffer.copy_(before)
        for scheduler, state in self._schedules:
            scheduler.load_state_dict(state)
        for group, values in self._groups:
            group.update(values)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """The module is left as it was before the update that stopped the run, or whose next batch did not come."""
        if self.window:
            self.restore()
        self.window.clear()

    @staticmethod
    def used_scale(trainer: Trainer) -> float:
        """What each batch's loss was multiplied with."""
        return float(getattr(trainer.precision_plugin, "used_scale", 1.0)) / trainer.accumulate_grad_batches

    def state_dict(self) -> dict[str, object]:
        """Skipped updates, in all and in a row."""
        return {"skipped": self.skipped_steps, "in_row": self._in_row, "attempts": self._attempts}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.skipped_steps, self._in_row, self._attempts = (state_dict[key] for key in ("skipped", "in_row", "attempts"))


class PrecisionMonitor(Callback):
    """Logs ``grad_norm/<block>`` before clipping, ``precision/scale``, ``precision/skipped`` and ``precision/skip_rate``.

    The latter three only under a strategy that may skip updates. It stands behind the guard.

    Args:
        guard: Counts skipped updates.
    """

    def __init__(self, guard: PrecisionGuard) -> None:
        self.guard = guard
        self._norms: dict[str, Any] = {}

    def record(self, module: LightningModule, values: dict[str, Any]) -> None:
        """Where values go: to the module's own log."""
        module.log_dict({name: float(value) for name, value in values.items()}, batch_size=1)

    def block_of(self, parameter: str) -> str:
        """The part of the module that a parameter belongs to."""
        return parameter.partition(".")[0]

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        """Gradients are there, unscaled, and not clipped yet."""
        if not self._is_logged(trainer, trainer.global_step + self.guard.skipped_steps + 1):
            return
        blocks: dict[str, list[Tensor]] = {}
        for name, parameter in pl_module.named_parameters():
            if parameter.grad is not None:
                blocks.setdefault(self.block_of(name), []).append(parameter.grad)
        self._norms = {f"grad_norm/{block}": torch.nn.utils.get_total_norm(grads) for block, grads in blocks.items()}

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: object, batch_idx: int) -> None:
        """Log what the update was like."""
        if not ends_update(trainer, batch_idx):
            return
        values, self._norms = self._norms, {}
        plugin = trainer.precision_plugin
        if isinstance(plugin, SkipsUpdates):
            values |= {"precision/skipped": float(self.guard.skipped_steps), "precision/skip_rate": self.guard.skip_rate}
            logged = self._is_logged(trainer, trainer.global_step + self.guard.skipped_steps)
            if logged and (scale := getattr(plugin, "scale", None)) is not None:
                values["precision/scale"] = scale  # waits for a GPU
        if values:
            self.record(pl_module, values)

    @staticmethod
    def _is_logged(trainer: Trainer, attempts: int) -> bool:
        return attempts % int(trainer.log_every_n_steps) == 0  # type: ignore[attr-defined]
