"""Pictures of the first validation pages, as the best weights see them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytorch_lightning import Callback, Trainer

from ocrsdk.data.drawing import draw_page

if TYPE_CHECKING:
    from pathlib import Path

    from ocrsdk.training.callbacks.checkpoints import BestAndLast
    from ocrsdk.training.module import DetectionModule
    from ocrsdk.types import Annotation


class Overlays(Callback):
    """Draws after each validation whose weights become ``best.ckpt``.

    Args:
        folder: Where the pictures go, one for each page.
        annotations: Validation pages, in the order of the data set.
        best: Knows which weights are the best.
        pages: How many pages to draw.
    """

    def __init__(self, folder: Path, annotations: list[Annotation], best: BestAndLast, pages: int) -> None:
        self.folder, self.annotations, self.best, self.pages = folder, annotations, best, pages

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Draw."""
        module: DetectionModule = pl_module
        # Lightning calls checkpoint callbacks last, so ``best`` does not know this score yet.
        if trainer.sanity_checking or module.score is None or module.score.hmean < self.best.best_hmean:
            return
        for page, annotation in list(zip(module.pages, self.annotations, strict=False))[: self.pages]:
            draw_page(page, self.folder / f"{page.image.stem}.jpg", annotation)
