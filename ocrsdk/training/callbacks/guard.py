"""The precision guard of a detector: it names pages and modules, and a run that must stop leaves a file that replays it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocrsdk.errors import NonFiniteError
from ocrsdk.precision.guard import PrecisionGuard, PrecisionMonitor
from ocrsdk.precision.numerics import explain_nonfinite
from ocrsdk.training.module import detection_module
from ocrsdk.training.replay import write_replay

if TYPE_CHECKING:
    from pathlib import Path

    from pytorch_lightning import LightningModule, Trainer

    from ocrsdk.training.values import RunValues


class DetectionGuard(PrecisionGuard):
    """As ``PrecisionGuard``, for ``DetectionModule``.

    Args:
        folder: Where replay files go; None writes none.
    """

    def __init__(self, folder: Path | None) -> None:
        super().__init__()
        self.folder = folder

    @property
    def state_key(self) -> str:
        """Under which its state is kept in checkpoints, whatever the class is called."""
        return "PrecisionGuard"

    def names(self) -> str:
        """File names of the pages."""
        return ", ".join(sorted({sample.annotation.image.name for batch in self.window for sample in batch.samples}))

    def explain(self, trainer: Trainer, module: LightningModule) -> str:
        """By the network's own modules, and the parts of the loss."""
        detector = detection_module(module)
        context = trainer.precision_plugin.forward_context
        return explain_nonfinite(detector.model, detector.loss_of, self.window, context, self.used_scale(trainer))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Keep what is needed to see it happen again."""
        if isinstance(exception, NonFiniteError) and self.window and self.folder is not None:
            self.restore()
            path = write_replay(self.folder, detection_module(pl_module), self.window, str(exception), self.used_scale(trainer))
            exception.args = (f"{exception}. To see it again: ocrsdk precision replay {path}",)
        super().on_exception(trainer, pl_module, exception)


class DetectionMonitor(PrecisionMonitor):
    """As ``PrecisionMonitor``, by stages of the backbone, into the run's own rows.

    Args:
        guard: Counts skipped updates.
        values: Of the run.
    """

    def __init__(self, guard: PrecisionGuard, values: RunValues) -> None:
        super().__init__(guard)
        self.values = values

    def record(self, module: LightningModule, values: dict[str, object]) -> None:
        """Into the row of the update."""
        self.values.step.update(values)

    def block_of(self, parameter: str) -> str:
        """A stage of the backbone, the neck or the head."""
        parts = parameter.removeprefix("model.").split(".")
        return ".".join(parts[:2]) if parts[0] == "backbone" else parts[0]
