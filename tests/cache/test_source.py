"""What goes through a cache comes out equal; what was edited meanwhile is made again, and the reason is counted."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ocrsdk import Pipeline, Settings
from ocrsdk.cache.base import CacheLocation
from ocrsdk.cache.disk.backend import DiskCache
from ocrsdk.cache.encoding import decode_arrays, encode_arrays
from ocrsdk.cache.keys import EntryKey
from ocrsdk.cache.stats import Counter, read_sessions
from ocrsdk.cache.store import Outcome, SampleCache
from ocrsdk.data.dataset import EvalDataset, ReproducibleViews, SampleIndex, TrainDataset
from ocrsdk.data.folder import load_annotations
from ocrsdk.data.image import read_image
from ocrsdk.data.preparation import Preparation
from ocrsdk.data.source import SampleSource
from ocrsdk.data.targets import draw_targets
from ocrsdk.data.transforms import EvalTransform, TrainTransform
from ocrsdk.fingerprint import fingerprint
from ocrsdk.settings.sections import TargetSettings


@pytest.fixture
def cache(tmp_path: Path):
    made = SampleCache(DiskCache(CacheLocation(tmp_path / "c", fingerprint({}), {})), Counter(tmp_path / "stats", "test"))
    yield made
    made.close()


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.bool_, np.int64, np.float32, np.float64, np.dtype(">i4")]),
        hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=9),
    ),
    st.sampled_from(["none", "lz4", "zstd"]),
)
def test_arrays_come_back_equal(array: np.ndarray, codec: Any):
    found = decode_arrays(encode_arrays({"a": array, "b": np.arange(3)}, codec))
    assert found["a"].dtype == array.dtype
    np.testing.assert_array_equal(found["a"], array)
    np.testing.assert_array_equal(found["b"], np.arange(3))


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compression_makes_even_pages_smaller(codec: Any):
    page = np.full((400, 300, 3), 255, np.uint8)
    assert len(encode_arrays({"a": page}, codec)) < 0.05 * page.nbytes


def test_cut_arrays_are_refused():
    data = encode_arrays({"a": np.arange(100)})
    for bad in (b"", data[:6], data[:40], data[:-80], b"NOPE" + data[4:]):
        with pytest.raises(ValueError, match="bytes|magic|cut|Expecting|buffer"):
            decode_arrays(bad)


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


def test_random_views_are_not_cached_and_differ(cache: SampleCache, synth_pages: Path):
    annotations, _ = load_annotations(synth_pages / "val")
    dataset = TrainDataset(annotations, TrainTransform(crop=64, page=EvalTransform(96)), TargetSettings(), 1, SampleSource(cache))
    views = [ReproducibleViews(dataset)[SampleIndex(epoch, 0)].image for epoch in range(4)]
    assert len({view.tobytes() for view in views}) == 4
    assert cache.counts().writes == 1


# ------------------------------------------------------------------- invalidation


@pytest.fixture
def pages(tmp_path: Path, synth_pages: Path) -> Path:
    shutil.copytree(synth_pages, tmp_path / "data")
    return tmp_path / "data"


def settings(tmp_path: Path, **more: Any) -> Settings:
    return Settings(cache={"dir": tmp_path / "cache", **more}, data={"short_side": 96, "workers": 0})


def regenerated(given: Settings, pages: Path) -> Any:
    return Pipeline(given).cache.warm(pages)


def test_one_edited_label_invalidates_exactly_that_sample(tmp_path: Path, pages: Path):
    given = settings(tmp_path)
    assert regenerated(given, pages).new == 8
    assert regenerated(given, pages).hits == 8
    label = sorted((pages / "train/labels").iterdir())[2]
    label.write_text(label.read_text() + "1,1,30,1,30,12,1,12,more\n")
    counts = regenerated(given, pages)
    assert (counts.hits, counts.stale_annotation, counts.regenerated) == (7, 1, 1)
    counts = regenerated(given, pages)
    assert (counts.hits, counts.regenerated) == (8, 0)
    (version,) = Pipeline(given).cache.status().versions
    assert version.info.usage.entries == 16  # the superseded entry is gone


def test_a_changed_image_is_stale_and_explained(tmp_path: Path, pages: Path):
    given = settings(tmp_path)
    regenerated(given, pages)
    image = sorted((pages / "val/images").iterdir())[0]
    (sample,) = [e for e in Pipeline(given).cache.explain(image) if e.kind == "sample"]
    assert sample.hit
    os.utime(image, ns=(1, 1))
    (sample,) = [e for e in Pipeline(given).cache.explain(image) if e.kind == "sample"]
    assert not sample.hit
    assert [change.split(":")[0] for change in sample.changed] == ["source.mtime_ns"]
    counts = regenerated(given, pages)
    assert (counts.stale_source, counts.hits) == (1, 7)


def test_content_identity_hits_after_a_move(tmp_path: Path, pages: Path):
    given = settings(tmp_path, identity="content")
    regenerated(given, pages)
    pages.rename(tmp_path / "moved")
    for image in (tmp_path / "moved").rglob("*.png"):
        os.utime(image, ns=(1, 1))
    counts = regenerated(given, tmp_path / "moved")
    assert (counts.hits, counts.regenerated) == (8, 0)


def test_explain_names_the_settings_of_another_version(tmp_path: Path, pages: Path):
    given = settings(tmp_path)
    regenerated(given, pages)
    other = given.model_copy(update={"data": given.data.model_copy(update={"short_side": 128})})
    image = sorted((pages / "val/images").iterdir())[0]
    found = Pipeline(other).cache.explain(image)[1]
    assert not found.hit
    assert "version.val.short_side: 96 -> 128" in found.changed
    (version,) = Pipeline(other).cache.status().versions
    assert not version.current
    assert "val.short_side: 96 -> 128" in version.stale_because


def test_a_file_that_changes_while_it_is_read_is_not_kept(cache: SampleCache, pages: Path, monkeypatch: pytest.MonkeyPatch):
    from ocrsdk.data import source as module

    annotations, _ = load_annotations(pages / "val")
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


# --------------------------------------------------------------------- counters


def test_reasons_are_counted_and_survive_the_process(tmp_path: Path, cache: SampleCache):
    first = EntryKey("image:a", {"kind": "image", "source": {"path": "a", "size": 1}, "annotation": "x"})
    relabelled = EntryKey("image:a", {**first.parts, "annotation": "y"})
    resized = EntryKey("image:a", {**first.parts, "source": {"path": "a", "size": 2}})
    assert cache.get(first).reason == "not seen before"
    cache.set(first, b"1")
    assert bytes(cache.get(first).value) == b"1"
    assert cache.get(relabelled).reason == 'annotation: "x" -> "y"'
    assert cache.get(resized).reason == "source.size: 1 -> 2"
    cache.set(resized, b"2")
    assert cache.get(first).outcome is Outcome.MISS  # superseded
    pid = os.fork()
    if pid == 0:
        cache.get(resized)
        os._exit(0)
    os.waitpid(pid, 0)
    ((name, (counts, _)),) = read_sessions(tmp_path / "stats").items()
    assert name == "test"
    assert (counts.hits, counts.new, counts.stale_annotation, counts.stale_source, counts.writes) == (2, 1, 1, 2, 2)
    assert counts == cache.counts()
    assert counts.reasons()[0] == "2 stale source"


@pytest.mark.parametrize("text", ["", "x", "x" * 500])
def test_files_that_are_no_counters_are_left_out(tmp_path: Path, text: str):
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "1.count").write_text(text)
    assert read_sessions(tmp_path)["s"][0].accesses == 0


def test_maps_of_an_image_that_was_replaced_meanwhile_are_not_kept_for_the_new_one(
    cache: SampleCache, pages: Path, monkeypatch: pytest.MonkeyPatch
):
    """The sample of the old image was being made; its maps must not be found under the new image."""
    from ocrsdk.data import source as module

    annotations, _ = load_annotations(pages / "val")
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
