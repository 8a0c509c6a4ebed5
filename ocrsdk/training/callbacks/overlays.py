"""Pictures of the first validation pages, as the best weights see them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytorch_lightning import Callback, LightningModule, Trainer

from ocrsdk.data.drawing import draw_page
from ocrsdk.training.module import detection_module

if TYPE_CHECKING:
    from pathlib import Path

    from ocrsdk.training.callbacks.checkpoints import BestAndLast


class Overlays(Callback):
    """Draws after each validation whose weights become ``best.ckpt``.

    Args:
        folder: Where the pictures go, one for each page.
        best: Knows which weights are the best.
        pages: How many pages to draw.
    """

    def __init__(self, folder: Path, best: BestAndLast, pages: int) -> None:
        self.folder, self.best, self.pages = folder, best, pages

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draw the first pages, if these weights are the best so far."""
        module = detection_module(pl_module)
        # Lightning calls checkpoint callbacks last, so ``best`` does not know this score yet.
        if trainer.sanity_checking or module.score is None or module.score.hmean < self.best.best_hmean:
            return
        for page, annotation in module.first_pages(self.pages):
            draw_page(page, self.folder / f"{page.image.stem}.jpg", annotation)
