"""Loaders give one order of samples, with any number of workers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ocrsdk import DetectionDataModule, Pipeline, TrainDataset, load_annotations
from ocrsdk.data.dataset import EpochSampler, Share
from tests.training import runs


@pytest.mark.slow
def test_the_order_of_samples_is_a_function_of_seed_and_epoch(tmp_path: Path, synth_pages: Path):
    losses = []
    for number, (workers, seed) in enumerate([(0, 0), (2, 0), (0, 1)]):
        wanted = runs.settings(tmp_path / str(number), 1, workers).model_copy(update={"seed": seed})
        run = Pipeline(wanted).fit(synth_pages)
        losses.append(runs.weights(run.last_checkpoint)["model.head.body.0.0.weight"])
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 40), st.floats(0.05, 3.5)), min_size=1, max_size=4),
    st.integers(0, 5),
    st.integers(0, 50),
)
def test_pages_are_drawn_by_weight(shares: list[tuple[int, float]], epoch: int, start: int):
    """Each page as often as its weight says, rounded one way or the other; no view twice; an epoch can begin in its middle."""
    sampler = EpochSampler([Share(*share) for share in shares], seed=3)
    sampler.epoch = epoch
    order, first = list(sampler), 0
    counts = Counter(where.index for where in order)
    for pages, weight in shares:
        drawn = [counts[index] for index in range(first, first + pages)]
        assert sum(drawn) == pytest.approx(pages * weight, abs=0.51) or (weight < 1 and sum(drawn) == 1)
        assert set(drawn) <= {int(weight), int(weight) + 1}
        first += pages
    assert len(order) == len(sampler) == sum(counts.values())
    assert len({where.seed for where in order}) == len(order)
    sampler.start = min(start, len(order))
    assert list(sampler) == order[sampler.start :]


def test_a_share_of_the_pages_is_another_one_each_epoch():
    sampler = EpochSampler([Share(40, 0.5)], seed=0)
    epochs = []
    for epoch in range(12):
        sampler.set_epoch(epoch)
        epochs.append({where.index for where in sampler})
    assert all(len(pages) == 20 for pages in epochs)
    assert set.union(*epochs) == set(range(40))
    assert epochs[0] != epochs[1]


def test_shares_are_of_all_pages(synth_pages: Path):
    pages = TrainDataset(load_annotations(synth_pages / "train")[0])
    with pytest.raises(ValueError, match="shares of 3 samples, but there are 6"):
        DetectionDataModule(pages, pages, shares=[Share(3)])
