"""``best.ckpt`` by validation hmean, and ``last.ckpt`` to go on from."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pytorch_lightning.callbacks import Checkpoint

if TYPE_CHECKING:
    from pathlib import Path

    from pytorch_lightning import Trainer

    from ocrsdk.training.module import DetectionModule


class BestAndLast(Checkpoint):
    """Keeps two checkpoints.

    ``last.ckpt`` is written at the end, when a run is stopped, and at the end of an epoch if the previous one is older than
    ``every_seconds``.

    Args:
        folder: Where they go.
        every_seconds: Longest time of training that a crash may cost, in seconds.
    """

    def __init__(self, folder: Path, every_seconds: float = 120.0) -> None:
        self.best_path, self.last_path = folder / "best.ckpt", folder / "last.ckpt"
        self.every_seconds = every_seconds
        self.best_hmean = -1.0
        self.best_step = 0
        self._saved_at = time.monotonic()
        self._saved_step = -1

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Keep the weights if they are the best so far; the later one of two equals."""
        module: DetectionModule = pl_module
        if trainer.sanity_checking or module.score is None or module.score.hmean < self.best_hmean:
            return
        self.best_hmean, self.best_step = module.score.hmean, trainer.global_step
        trainer.save_checkpoint(self.best_path, weights_only=False)

    def on_train_batch_end(self, trainer: Trainer, *_args: Any) -> None:
        """Save at once when the run was asked to stop in the middle of an epoch."""
        if trainer.should_stop:
            self._save_last(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Save if the last one is old."""
        if time.monotonic() - self._saved_at >= self.every_seconds:
            self._save_last(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        """Save the final state."""
        self._save_last(trainer)

    def _save_last(self, trainer: Trainer) -> None:
        if trainer.global_step != self._saved_step:
            trainer.save_checkpoint(self.last_path, weights_only=False)
            self._saved_at, self._saved_step = time.monotonic(), trainer.global_step

    def state_dict(self) -> dict[str, Any]:
        """The best score so far."""
        return {"best_hmean": self.best_hmean, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self.best_hmean, self.best_step = state_dict["best_hmean"], state_dict["best_step"]
