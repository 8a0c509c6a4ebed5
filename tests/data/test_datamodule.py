"""Loaders give one order of samples, with any number of workers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ocrsdk import Pipeline
from tests.training.runs import settings, weights


@pytest.mark.slow
def test_the_order_of_samples_is_a_function_of_seed_and_epoch(tmp_path: Path, synth_pages: Path):
    losses = []
    for number, (workers, seed) in enumerate([(0, 0), (2, 0), (0, 1)]):
        wanted = settings(tmp_path / str(number), 1, workers).model_copy(update={"seed": seed})
        run = Pipeline(wanted).fit(synth_pages)
        losses.append(weights(run.last_checkpoint)["model.head.body.0.0.weight"])
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])
