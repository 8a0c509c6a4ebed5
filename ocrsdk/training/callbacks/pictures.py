"""Predictions against truth, for the loggers that take pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytorch_lightning import Callback, Trainer

from ocrsdk.data.drawing import page_picture
from ocrsdk.loggers.run_logger import RunLogger

if TYPE_CHECKING:
    from ocrsdk.training.module import DetectionModule
    from ocrsdk.types import Annotation


class Pictures(Callback):
    """Logs the first validation pages after each validation, always the same ones.

    Args:
        annotations: Validation pages, in the order of the data set.
        pages: How many to log.
        side: Longer side of the pictures in pixels.
    """

    def __init__(self, annotations: list[Annotation], pages: int, side: int = 800) -> None:
        self.annotations, self.pages, self.side = annotations, pages, side

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Draw and log."""
        module: DetectionModule = pl_module
        logger = trainer.logger
        if trainer.sanity_checking or not isinstance(logger, RunLogger) or not logger.wants_images():
            return
        shown = list(zip(module.pages, self.annotations, strict=False))[: self.pages]
        pictures = [page_picture(page, annotation, self.side) for page, annotation in shown]
        if pictures:
            logger.log_images("val/pages", pictures, [page.image.name for page, _ in shown], module.last_step)
