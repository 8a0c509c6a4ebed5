"""Predictions against truth, for the loggers that take pictures."""

from __future__ import annotations

from pytorch_lightning import Callback, LightningModule, Trainer

from ocrsdk.data.drawing import page_picture
from ocrsdk.loggers.run_logger import RunLogger
from ocrsdk.training.module import detection_module


class Pictures(Callback):
    """Logs the first validation pages after each validation, always the same ones.

    Args:
        pages: How many to log.
        side: Longer side of the pictures in pixels.
    """

    def __init__(self, pages: int, side: int = 800) -> None:
        self.pages, self.side = pages, side

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw and log."""
        module = detection_module(pl_module)
        logger = trainer.logger
        if trainer.sanity_checking or not isinstance(logger, RunLogger) or not logger.wants_images():
            return
        shown = module.first_pages(self.pages)
        pictures = [page_picture(page, annotation, self.side) for page, annotation in shown]
        if pictures:
            logger.log_images("val/pages", pictures, [page.image.name for page, _ in shown], module.last_step)
