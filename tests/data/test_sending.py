"""A batch arrives as it was, also without shared memory."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch

from ocrsdk.data import sending
from ocrsdk.data.datamodule import collate
from ocrsdk.types import Batch
from tests.data.test_loader import sample


def test_a_batch_that_does_not_fit_the_shared_memory_arrives_whole():
    batch = collate([sample(index) for index in range(3)])
    assert batch.targets is not None
    sent = pickle.loads(pickle.dumps(sending._Pickled(sending._InPipe.of(batch))))
    assert isinstance(sent, Batch)
    assert sent.image.is_contiguous(memory_format=torch.channels_last)
    for found, expected in zip((sent.image, *sent.targets), (batch.image, *batch.targets), strict=True):
        assert torch.equal(found, expected)
    assert [s.annotation.image for s in sent.samples] == [Path("page 0"), Path("page 1"), Path("page 2")]
