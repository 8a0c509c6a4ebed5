"""A LightningModule that is not ours: a small segmentation net on synthetic arrays."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Segmenter(LightningModule):
    """Finds bright pixels; its loss is computed in fp32, from logits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 1, 1))

    def loss(self, batch: Any) -> torch.Tensor:
        image, truth = batch
        return nn.functional.binary_cross_entropy_with_logits(self.net(image).float(), truth.float())

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss = self.loss(batch)
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val/loss", self.loss(batch))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.9)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def bright_pixels(count: int = 24, side: int = 12, batch: int = 2, bad: int | None = None) -> DataLoader[Any]:
    """Images of noise and where it is bright; ``bad`` is the index of an infinite one."""
    image = torch.randn(count, 1, side, side, generator=torch.Generator().manual_seed(1))
    truth = (image > 0.5).float()
    if bad is not None:
        image[bad] = torch.inf
    return DataLoader(TensorDataset(image, truth), batch_size=batch)


def quiet_trainer(**more: Any) -> Trainer:
    given = {
        "accelerator": "cpu", "devices": 1, "logger": False, "enable_checkpointing": False, "enable_progress_bar": False,
        "enable_model_summary": False, "num_sanity_val_steps": 0, "log_every_n_steps": 1,
    }  # fmt: skip
    return Trainer(**{**given, **more})
