"""How fast a run is, and how much memory it takes."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING

from pytorch_lightning import Callback, LightningModule, Trainer

from ocrsdk.training.memory import peak_memory, reset_peak_memory

if TYPE_CHECKING:
    from ocrsdk.training.values import RunValues
    from ocrsdk.types import Batch


class Resources(Callback):
    """Logs ``speed/images_per_second`` (median over the batches of an epoch) and ``memory/peak_mib`` per epoch.

    A batch lasts from the end of the one before it, so waiting for data is included; validations are not.

    Args:
        device: ``cpu``, ``cuda`` or ``mps``.
        values: Of the run.
    """

    def __init__(self, device: str, values: RunValues) -> None:
        self.device, self.values = device, values
        self._epoch: list[float] = []
        self._all: list[float] = []
        self._ended: float | None = None

    @property
    def images_per_second(self) -> float | None:
        """Median over the run, without the first batch of each epoch; None before there are two."""
        return statistics.median(self._all) if self._all else None

    @property
    def peak_memory_bytes(self) -> int:
        """Highest use since training began; see ``training.memory``."""
        return peak_memory(self.device)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What this process did before is no part of the run."""
        reset_peak_memory(self.device)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The time between epochs belongs to no batch."""
        self._ended = None
        self._epoch.clear()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nor does that of a validation."""
        self._ended = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Note how long the batch took."""
        now = time.perf_counter()
        if self._ended is not None:
            self._epoch.append(len(batch.image) / (now - self._ended))
        self._ended = now

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log speed, memory and learning rate of the epoch."""
        self._all += self._epoch
        if self._epoch:
            self.values.epoch["speed/images_per_second"] = statistics.median(self._epoch)
        self.values.epoch["memory/peak_mib"] = self.peak_memory_bytes / 2**20
