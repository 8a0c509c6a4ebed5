"""The rows of a run: one for each logged update, one at the end of an epoch.

Lightning writes what ``self.log`` was given after all callbacks, so a checkpoint made by a callback would miss the row of its own
update, and a run that goes on from it would never write that row. Here rows are written first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytorch_lightning import Callback, LightningModule, Trainer

from ocrsdk.loggers.run_logger import RunLogger
from ocrsdk.training.module import detection_module

if TYPE_CHECKING:
    from ocrsdk.training.callbacks.limits import RunLimits
    from ocrsdk.training.module import DetectionModule
    from ocrsdk.training.values import RunValues
    from ocrsdk.types import Batch


class Rows(Callback):
    """Writes what the module and the callbacks have noted; the last callback but those that make checkpoints.

    Adds ``samples`` (training images seen) and ``wall_time`` (seconds of training, those before a resume included) to every row,
    those of validations included.

    Args:
        limits: Knows the time.
        values: What is to be written.
    """

    def __init__(self, limits: RunLimits, values: RunValues) -> None:
        self._limits, self._values = limits, values
        self.samples = 0
        self._of_update = 0

    def columns(self) -> dict[str, float]:
        """Further columns of every row; the writer asks for them."""
        return {"samples": self.samples, "wall_time": round(self._limits.elapsed(), 3)}

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Write the update's row, if it is one to be logged."""
        module = detection_module(pl_module)
        self.samples += len(batch.image)
        self._of_update += len(batch.image)
        if module.ends_update(batch_idx):
            self._of_update = 0
            if module.logs_last_step:
                self._write(trainer, module, self._values.step)
            self._values.step.clear()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the epoch's row; a validation that was due has written its own."""
        module = detection_module(pl_module)
        if not (self._limits.stop_requested and not trainer.is_last_batch):  # a resumed run ends the epoch, and writes its row
            self._write(trainer, module, self._values.epoch)
        self._values.epoch.clear()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Batches of an update that was not made are seen again by the run that goes on."""
        self.samples -= self._of_update
        self._of_update = 0

    def _write(self, trainer: Trainer, module: DetectionModule, values: dict[str, Any]) -> None:
        if isinstance(trainer.logger, RunLogger) and values:
            numbers = {name: float(value) for name, value in values.items()}
            trainer.logger.log_metrics({**numbers, "epoch": trainer.current_epoch}, module.last_step)

    def state_dict(self) -> dict[str, object]:
        """Training images that the run has seen."""
        return {"samples": self.samples}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.samples = state_dict["samples"]
