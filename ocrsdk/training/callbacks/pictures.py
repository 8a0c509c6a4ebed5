"""Predictions against truth, for the loggers that take pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pytorch_lightning import Callback, LightningModule, Trainer

from ocrsdk.data.drawing import page_picture
from ocrsdk.loggers.run_logger import RunLogger
from ocrsdk.training.module import detection_module

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray


def of_one_size(pictures: Sequence[NDArray[np.uint8]]) -> list[NDArray[np.uint8]]:
    """The pictures on white of one height and width: W&B shows those of one row side by side, and warns if they differ."""
    height, width = (max(picture.shape[axis] for picture in pictures) for axis in (0, 1))
    found = []
    for picture in pictures:
        canvas = np.full((height, width, 3), 255, np.uint8)
        canvas[: picture.shape[0], : picture.shape[1]] = picture
        found.append(canvas)
    return found


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
            logger.log_images("val/pages", of_one_size(pictures), [page.image.name for page, _ in shown], module.last_step)
