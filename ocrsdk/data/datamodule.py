"""Loaders for training and validation."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule

from ocrsdk.data.dataset import EpochSampler, ReproducibleViews, Share, page_names
from ocrsdk.data.loader import Loader, LoaderWatch
from ocrsdk.types import Batch, TargetMaps

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.utils.data import Dataset

    from ocrsdk.types import Sample


_NO_PIXELS = np.empty((0, 0, 3), dtype=np.uint8)


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples of one size.

    Images stay (B, H, W, 3) in memory and are seen as (B, 3, H, W), which is torch's channels-last layout. Maps become
    (B, 1, H, W). The samples travel along without their pixels.

    Args:
        samples: One or more, with images of equal height and width.
    """
    image = torch.from_numpy(np.stack([s.image for s in samples])).permute(0, 3, 1, 2)
    drawn = [s.targets for s in samples if s.targets is not None]
    targets = None
    if len(drawn) == len(samples):
        names = ("prob_map", "prob_mask", "thresh_map", "thresh_mask")
        stacked = (np.stack([getattr(maps, name) for maps in drawn])[:, None] for name in names)
        targets = TargetMaps(*(torch.from_numpy(maps) for maps in stacked))
    return Batch(image, [replace(s, image=_NO_PIXELS, targets=None) for s in samples], targets)


class DetectionDataModule(LightningDataModule):
    """Serves training crops in a reproducible order, and whole validation pages one by one.

    The order of an epoch, and each random view in it, are functions of (seed, epoch) alone. The position within the epoch is part
    of every checkpoint, so a resumed run goes on with the next sample.

    Args:
        train: Crops with target maps, all of one size: a ``TrainDataset``, or any map-style dataset of ``Sample``.
        val: Whole pages, an ``EvalDataset`` for instance.
        batch_size: Crops in a batch.
        workers: Loader processes for training; 0 loads in the main process.
        seed: Of the order of samples.
        pin_memory: Put batches into memory that a GPU can read by itself.
        shares: Parts of ``train`` that are drawn more or less often; each sample once an epoch if None.
    """

    def __init__(
        self,
        train: Dataset[Sample],
        val: Dataset[Sample],
        batch_size: int = 8,
        workers: int = 0,
        seed: int = 0,
        pin_memory: bool = False,
        shares: Sequence[Share] | None = None,
    ) -> None:
        super().__init__()
        self.pin_memory = pin_memory
        self.train, self.val = train, val
        self.batch_size, self.workers = batch_size, workers
        pages = len(train)  # type: ignore[arg-type]
        self.sampler = EpochSampler(shares if shares is not None else [Share(pages)], seed)
        if (told := sum(share.pages for share in self.sampler.shares)) != pages:
            raise ValueError(f"shares of {told} samples, but there are {pages}")
        self.watches = LoaderWatch(workers, page_names(train)), LoaderWatch(workers, page_names(val))
        """Of the loaders for training and for validation."""

    def train_dataloader(self) -> Loader:
        """Batches of crops; the last one of an epoch may be smaller."""
        views = ReproducibleViews(self.train)
        return self._loader(views, self.watches[0], self.batch_size, sampler=self.sampler, persistent_workers=self.workers > 0)

    def val_dataloader(self) -> Loader:
        """One page a batch: pages differ in size."""
        return self._loader(self.val, self.watches[1], 1)

    def waited(self) -> float:
        """Seconds for which the main process has been waiting for a batch; 0 if it does not."""
        return max(watch.waited() for watch in self.watches)

    def wake_workers(self) -> None:
        """Let loader processes go on that have been stopped."""
        for watch in self.watches:
            watch.wake()

    def kill_workers(self) -> None:
        """End the loader processes that are left, after something went wrong with one."""
        for watch in self.watches:
            watch.kill()

    def _loader(self, dataset: Dataset[Sample], watch: LoaderWatch, batch_size: int, **options: Any) -> Loader:
        return Loader(
            dataset, watch, collate, batch_size=batch_size, num_workers=self.workers, pin_memory=self.pin_memory, **options
        )

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Called by Lightning."""
        return batch.to(device)

    def state_dict(self) -> dict[str, object]:
        """The position in the epoch, for a checkpoint written during or between epochs."""
        trainer = self.trainer
        if trainer is None:
            return {}
        done = trainer.fit_loop.epoch_loop.batch_progress.current.ready
        whole = done * self.batch_size >= len(self.sampler)
        epoch = self.sampler.epoch
        return {"epoch": epoch + 1, "offset": 0} if whole else {"epoch": epoch, "offset": done * self.batch_size}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where the checkpoint was written."""
        self.sampler.epoch, self.sampler.start = state_dict["epoch"], state_dict["offset"]
