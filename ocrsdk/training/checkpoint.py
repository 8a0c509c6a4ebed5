"""Checkpoints written so that a crash never damages the previous one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from ocrsdk.errors import CheckpointError


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target, flushes to disk, then renames over it."""

    def save_checkpoint(self, checkpoint: dict[str, object], path: Any, storage_options: object = None) -> None:
        """Called by Lightning.

        Raises:
            CheckpointError: The file cannot be written; an earlier file of this name is untouched.
        """
        target = Path(path)
        partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            for left in target.parent.glob(f".{target.name}.*.partial"):  # of a killed process: one process has the folder
                if left != partial:
                    left.unlink(missing_ok=True)
            with partial.open("wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
            _sync_folder(target.parent)
        except (OSError, RuntimeError) as error:
            raise CheckpointError(f"{target}: the checkpoint cannot be written ({_reason(error, target.parent)})") from error
        finally:
            partial.unlink(missing_ok=True)


def _reason(error: Exception, folder: Path) -> str:
    """Torch says "unexpected pos" of every failed write, and not why it failed."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if folder.is_dir() and shutil.disk_usage(folder).free < _FULL:
        return "no space is left on the disk: make room"
    return str(error).splitlines()[0]


_FULL = 2**20
"""A disk with fewer free bytes cannot take the next piece of a checkpoint."""


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
