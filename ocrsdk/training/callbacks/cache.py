"""What the cache did in an epoch, logged; and a warning when samples are made again that should have been hits."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pytorch_lightning import Callback, LightningModule, Trainer

from ocrsdk.logs import get_logger

if TYPE_CHECKING:
    from ocrsdk.cache.stats import Counts
    from ocrsdk.cache.store import SampleCache
    from ocrsdk.training.values import RunValues


class CacheMonitor(Callback):
    """Logs ``cache/hit_rate`` and ``cache/regenerated`` per epoch, over all loader processes.

    Args:
        cache: The run's cache.
        values: Of the run.
    """

    def __init__(self, cache: SampleCache, values: RunValues) -> None:
        self.cache, self.values = cache, values
        self._before: Counts | None = None
        self._epochs = 0

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """A resumed run counts from here: Lightning starts the loaders' workers before ``on_train_start``."""
        if stage == "fit":
            self._before = replace(self.cache.counts())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the epoch's share, its validations included."""
        now = self.cache.counts()
        epoch = now if self._before is None else now - self._before
        self._before = replace(now)
        self._epochs += 1
        if epoch.hit_rate is None:
            return
        self.values.epoch.update({"cache/hit_rate": epoch.hit_rate, "cache/regenerated": epoch.regenerated})
        again = epoch.regenerated - epoch.new
        if self._epochs > 1 and again:
            remedy = "raise cache.budget" if epoch.not_admitted else "see: ocrsdk cache health"
            get_logger(__name__).warning(
                "samples were made again that should have been in the cache",
                samples=again, of=epoch.accesses, reasons=", ".join(replace(epoch, new=0).reasons()), remedy=remedy,
            )  # fmt: skip
