"""The rows of a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ocrsdk import Pipeline
from ocrsdk.loggers.rows import read_rows
from ocrsdk.training.module import DetectionModule
from ocrsdk.types import Batch
from tests.training.runs import settings


@pytest.mark.slow
def test_the_loss_of_an_update_is_the_mean_over_its_batches(tmp_path: Path, synth_pages: Path, monkeypatch: pytest.MonkeyPatch):
    losses: list[float] = []
    original = DetectionModule.training_step

    def training_step(self: DetectionModule, batch: Batch, batch_idx: int) -> torch.Tensor:
        total = original(self, batch, batch_idx)
        losses.append(float(total.detach()))
        return total

    monkeypatch.setattr(DetectionModule, "training_step", training_step)
    given = settings(tmp_path / "run", epochs=1)
    Pipeline(given.model_copy(update={"trainer": given.trainer.model_copy(update={"accumulate": 2})})).fit(synth_pages)
    logged = [row["train/loss"] for row in read_rows(tmp_path / "run/metrics.jsonl") if "train/loss" in row]
    assert logged == pytest.approx([(losses[0] + losses[1]) / 2, losses[2]], rel=1e-6)
