"""What rows are drawn over, besides steps and epochs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytorch_lightning import Callback, Trainer

from ocrsdk.loggers.run_logger import RunLogger

if TYPE_CHECKING:
    from ocrsdk.training.callbacks.limits import RunLimits
    from ocrsdk.types import Batch


class Axes(Callback):
    """Adds ``samples`` (training images seen) and ``wall_time`` (seconds of training, those before a resume included) to every row.

    Args:
        limits: Knows the time.
    """

    def __init__(self, limits: RunLimits) -> None:
        self._limits = limits
        self.samples = 0

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        """Join the writer."""
        for logger in trainer.loggers:
            if isinstance(logger, RunLogger):
                logger.axes = self._columns

    def _columns(self) -> dict[str, float]:
        return {"samples": self.samples, "wall_time": round(self._limits.elapsed(), 3)}

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Count."""
        self.samples += len(batch.image)

    def state_dict(self) -> dict[str, Any]:
        """Images seen."""
        return {"samples": self.samples}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on counting."""
        self.samples = state_dict["samples"]
