"""Lightning trainers that leave nothing behind."""

from __future__ import annotations

import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from ocrsdk.training.module import step_loss


def quiet_trainer(device: str, precision_kwargs: dict[str, Any], **more: Any) -> Trainer:
    """A trainer that writes and shows nothing, on one device.

    Args:
        device: Accelerator.
        precision_kwargs: What the precision strategy gives.
        more: Further arguments of Lightning's trainer.
    """
    return Trainer(
        accelerator=device,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **precision_kwargs,
        **more,
    )


class OneStep(Callback):
    """Times the first step of a dry run."""

    def __init__(self) -> None:
        self.loss = float("nan")
        self.seconds = 0.0
        self._started = 0.0

    def on_train_batch_start(self, *_args: object) -> None:
        """The batch is there."""
        self._started = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, outputs: object, *_args: object) -> None:
        """The step is done."""
        self.seconds, self.loss = time.monotonic() - self._started, step_loss(outputs)
