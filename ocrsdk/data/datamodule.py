"""Loaders for training and validation."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import cv2
import torch
from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from ocrsdk.data.collate import collate
from ocrsdk.data.dataset import EpochSampler, EvalDataset, TrainDataset
from ocrsdk.data.work_log import WorkLog
from ocrsdk.logs import bind

if TYPE_CHECKING:
    from pathlib import Path

    from ocrsdk.types import Batch


class DetectionDataModule(LightningDataModule):
    """Serves training crops in a reproducible order, and whole validation pages one by one.

    The order of an epoch, and each random view in it, are functions of (seed, epoch) alone. The position within the epoch is part
    of every checkpoint, so a resumed run goes on with the next sample.

    Args:
        train: Crops with target maps.
        val: Whole pages.
        batch_size: Crops in a batch.
        workers: Loader processes for training; 0 loads in the main process.
        seed: Of the order of samples.
        pin_memory: Put batches into memory that a GPU can read by itself.
    """

    def __init__(
        self, train: TrainDataset, val: EvalDataset, batch_size: int, workers: int, seed: int = 0, pin_memory: bool = False
    ) -> None:
        super().__init__()
        self.pin_memory = pin_memory
        self.train, self.val = train, val
        self.batch_size, self.workers = batch_size, workers
        self.sampler = EpochSampler(len(train), seed)
        train.work_log = WorkLog(workers) if workers else None
        val.work_log = WorkLog(workers) if workers else None

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches of crops; the last one of an epoch may be smaller."""
        return self._loader(self.train, self.batch_size, sampler=self.sampler, persistent_workers=self.workers > 0)

    def val_dataloader(self) -> DataLoader[Any]:
        """One page a batch: pages differ in size."""
        return self._loader(self.val, 1)

    def page_of(self, pid: int) -> Path | None:
        """The image on which the loader process ``pid`` was working."""
        for dataset in (self.train, self.val):
            if dataset.work_log is not None and (index := dataset.work_log.index_of(pid)) is not None:
                return dataset.annotations[index].image
        return None

    def dead_workers(self) -> list[int]:
        """Training loader processes that have ended: they should run as long as the run."""
        return self.train.work_log.dead() if self.train.work_log is not None else []

    def _loader(self, dataset: Any, batch_size: int, **kwargs: Any) -> DataLoader[Any]:
        return DataLoader(
            dataset,
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

    def state_dict(self) -> dict[str, Any]:
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
