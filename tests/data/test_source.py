"""What goes through a cache comes out equal; what was edited meanwhile is not kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from structlog.testing import capture_logs

from ocrsdk.cache.store import SampleCache
from ocrsdk.data.dataset import EvalDataset, ReproducibleViews, SampleIndex, TrainDataset
from ocrsdk.data.folder import load_annotations
from ocrsdk.data.image import read_image
from ocrsdk.data.preparation import Preparation
from ocrsdk.data.source import SampleSource
from ocrsdk.data.targets import draw_targets
from ocrsdk.data.transforms import EvalTransform, TrainTransform
from ocrsdk.settings.sections import TargetSettings
from ocrsdk.types import Annotation, TextInstance


@pytest.mark.parametrize("codec", ["none", "lz4", "zstd"])
@pytest.mark.parametrize("policy", ["image", "sample", "maps"])
def test_cached_samples_are_equal_to_fresh_ones(cache: SampleCache, synth_pages: Path, codec: Any, policy: Any):
    annotations, _ = load_annotations(synth_pages / "val")
    source = SampleSource(cache, policy, codec=codec, maps_codec=codec)
    page, spec = EvalTransform(96), TargetSettings(min_text_size=1)
    train = TrainTransform(crop=64, page=page)
    for _ in range(2):
        for index in range(len(annotations)):
            fresh = EvalDataset(annotations, page, targets=spec)[index]
            kept = EvalDataset(annotations, page, source, spec)[index]
            height, width = fresh.image.shape[:2]
            for drawn in (fresh.targets, kept.targets, draw_targets(fresh.polygons, fresh.ignore, height, width, spec)):
                np.testing.assert_array_equal(drawn.thresh_map, fresh.targets.thresh_map)
                np.testing.assert_array_equal(drawn.prob_map, fresh.targets.prob_map)
            np.testing.assert_array_equal(fresh.image, kept.image)
            np.testing.assert_array_equal(fresh.matrix, kept.matrix)
            np.testing.assert_array_equal(fresh.ignore, kept.ignore)
            assert fresh.original_size == kept.original_size
            assert len(fresh.polygons) == len(kept.polygons)
            for a, b in zip(fresh.polygons, kept.polygons, strict=True):
                np.testing.assert_array_equal(a, b)
            where = SampleIndex(3, index)
            a = ReproducibleViews(TrainDataset(annotations, train, TargetSettings(), 1))[where]
            b = ReproducibleViews(TrainDataset(annotations, train, TargetSettings(), 1, source))[where]
            np.testing.assert_array_equal(a.image, b.image)
            np.testing.assert_array_equal(a.targets.thresh_map, b.targets.thresh_map)
    counts = cache.counts()
    # Without whole samples, the page of training and the page of evaluation are one entry.
    kinds, look_ups = {"image": (1, 4), "sample": (2, 4), "maps": (3, 6)}[policy]
    entries = len(annotations) * kinds
    assert (counts.new, counts.writes, counts.hits) == (entries, entries, look_ups * len(annotations) - entries)


def test_a_file_that_changes_while_it_is_read_is_not_kept(cache: SampleCache, data: Path, monkeypatch: pytest.MonkeyPatch):
    from ocrsdk.data import source as module

    annotations, _ = load_annotations(data / "val")
    read = module.read_image

    def changed_meanwhile(path: Path):
        image = read(path)
        os.utime(path, ns=(5, 5))
        return image

    monkeypatch.setattr(module, "read_image", changed_meanwhile)
    SampleSource(cache).page(annotations[0], Preparation(96))
    assert cache.counts().writes == 0


def test_two_preparations_of_one_image_live_side_by_side(cache: SampleCache, synth_pages: Path):
    annotations, _ = load_annotations(synth_pages / "val")
    source = SampleSource(cache)
    for _ in range(3):
        for preparation in (Preparation(96), Preparation(96, headroom=1.5)):
            source.page(annotations[0], preparation)
    assert (cache.counts().new, cache.counts().hits) == (2, 4)


def test_maps_of_an_image_that_was_replaced_meanwhile_are_not_kept_for_the_new_one(
    cache: SampleCache, data: Path, monkeypatch: pytest.MonkeyPatch
):
    """The sample of the old image was being made; its maps must not be found under the new image."""
    from ocrsdk.data import source as module

    annotations, _ = load_annotations(data / "val")
    read, new = module.read_image, read_image(annotations[1].image)[:40]

    def replaced_meanwhile(path: Path):
        image = read(path)
        cv2.imwrite(str(path), new)
        return image

    dataset = EvalDataset(annotations, EvalTransform(96), SampleSource(cache, "maps"), TargetSettings(min_text_size=1))
    with monkeypatch.context() as patch:
        patch.setattr(module, "read_image", replaced_meanwhile)
        first = dataset[0]
    assert first.targets.prob_map.shape == first.image.shape[:2]
    assert cache.counts().writes == 0
    for _ in range(2):
        second = dataset[0]
        assert second.targets.prob_map.shape == second.image.shape[:2] != first.image.shape[:2]
    assert cache.counts().writes == 2


def square(text: str = "a", ignore: bool = False, shift: float = 0.0) -> Annotation:
    polygon = np.array([[0, 0], [9, 0], [9, 5], [0, 5]], np.float32) + np.float32(shift)
    return Annotation(Path("x.png"), (TextInstance(polygon, text, ignore),))


def test_keys_differ_with_preparation_and_kind(tmp_path: Path):
    (tmp_path / "x.png").write_bytes(b"1")
    annotation = Annotation(tmp_path / "x.png", square().instances)
    source = SampleSource()
    keys = {
        source.page_key(annotation, p).digest
        for p in (Preparation(), Preparation(96), Preparation(96, 200), Preparation(headroom=2.0))
    }
    for kind in (source.sample_key, source.maps_key):
        keys |= {kind(annotation, Preparation(), r).digest for r in ({"multiple": 32}, {"multiple": 16})}
    assert len(keys) == 8


def test_f88_a_page_that_is_replaced_is_told_once(tmp_path: Path):
    from ocrsdk.data.listing import file_state
    from ocrsdk.data.preparation import Preparation
    from ocrsdk.data.source import SampleSource
    from ocrsdk.data.synth import write_pages
    from ocrsdk.types import Annotation

    list(write_pages(tmp_path, 2, 0))
    first, second = sorted((tmp_path / "images").iterdir())
    source, seen = SampleSource(), {path: file_state(path) for path in (first, second)}
    with capture_logs() as logs:
        for path in (first, second):
            source.page(Annotation(path, (), seen[path]), Preparation())
    assert logs == []
    second.replace(first)
    with capture_logs() as logs:
        for _ in range(2):
            source.page(Annotation(first, (), seen[first]), Preparation())
    (told,) = logs
    assert (told["event"].split(";")[0], told["image"]) == ("a page was replaced during the run", str(first))
