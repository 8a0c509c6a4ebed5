"""Loaders for training and validation."""

from __future__ import annotations

import signal
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from ocrsdk.data.dataset import EpochSampler, ReproducibleViews, SampleIndex, annotations_of
from ocrsdk.data.workers import WorkLog
from ocrsdk.logs import bind
from ocrsdk.types import Batch, TargetMaps

if TYPE_CHECKING:
    from collections.abc import Sequence

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


class _Noted(Dataset[Any]):
    """Notes which sample a loader process works on, so that one that dies can be asked about."""

    def __init__(self, dataset: Dataset[Sample], log: WorkLog) -> None:
        self.dataset, self.log = dataset, log

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, where: Any) -> Sample:
        self.log.note(where.index if isinstance(where, SampleIndex) else where)
        return self.dataset[where]


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
    """

    def __init__(
        self,
        train: Dataset[Sample],
        val: Dataset[Sample],
        batch_size: int = 8,
        workers: int = 0,
        seed: int = 0,
        pin_memory: bool = False,
    ) -> None:
        super().__init__()
        self.pin_memory = pin_memory
        self.train, self.val = train, val
        self.batch_size, self.workers = batch_size, workers
        self.sampler = EpochSampler(len(train), seed)  # type: ignore[arg-type]
        self._train_log, self._val_log = (WorkLog(workers) if workers else None for _ in range(2))

    def train_dataloader(self) -> DataLoader[object]:
        """Batches of crops; the last one of an epoch may be smaller."""
        views = ReproducibleViews(self.train)
        return self._loader(views, self._train_log, self.batch_size, sampler=self.sampler, persistent_workers=self.workers > 0)

    def val_dataloader(self) -> DataLoader[object]:
        """One page a batch: pages differ in size."""
        return self._loader(self.val, self._val_log, 1)

    def page_of(self, pid: int) -> str | None:
        """The image, or the number of the sample, on which the loader process ``pid`` was working."""
        for dataset, log in ((self.train, self._train_log), (self.val, self._val_log)):
            if log is not None and (index := log.index_of(pid)) is not None:
                pages = annotations_of(dataset)
                return str(pages[index].image) if pages is not None else f"sample {index}"
        return None

    def dead_workers(self) -> list[int]:
        """Training loader processes that have ended: they should run as long as the run."""
        return self._train_log.dead() if self._train_log is not None else []

    def _loader(self, dataset: Dataset[Sample], log: WorkLog | None, batch_size: int, **kwargs: Any) -> DataLoader[object]:
        return DataLoader(
            _Noted(dataset, log) if log is not None else dataset,
            batch_size=batch_size,
            num_workers=self.workers,
            collate_fn=collate,
            worker_init_fn=_start_worker,
            pin_memory=self.pin_memory,
            **kwargs,
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


def _start_worker(worker: int) -> None:
    """One thread each: workers share the CPUs with the training step. A signal to the group stops the run, not its workers."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    bind(worker=worker)
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
