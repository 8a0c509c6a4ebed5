"""Random views are made anew, from the same cached page."""

from __future__ import annotations

from pathlib import Path

from ocrsdk.cache.store import SampleCache
from ocrsdk.data.dataset import ReproducibleViews, SampleIndex, TrainDataset
from ocrsdk.data.folder import load_annotations
from ocrsdk.data.source import SampleSource
from ocrsdk.data.transforms import EvalTransform, TrainTransform
from ocrsdk.settings.sections import TargetSettings


def test_random_views_are_not_cached_and_differ(cache: SampleCache, synth_pages: Path):
    annotations, _ = load_annotations(synth_pages / "val")
    dataset = TrainDataset(annotations, TrainTransform(crop=64, page=EvalTransform(96)), TargetSettings(), 1, SampleSource(cache))
    views = [ReproducibleViews(dataset)[SampleIndex(epoch, 0)].image for epoch in range(4)]
    assert len({view.tobytes() for view in views}) == 4
    assert cache.counts().writes == 1
