"""Why a page is a miss: the exact setting, file or label."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ocrsdk import Pipeline
from tests.cache_tools.warmed import regenerated, settings
from tests.training.runs import with_val_loss


def test_a_changed_image_is_stale_and_explained(tmp_path: Path, data: Path):
    given = settings(tmp_path)
    regenerated(given, data)
    image = sorted((data / "val/images").iterdir())[0]
    (sample,) = [e for e in Pipeline(given).cache.explain(image) if e.kind == "sample"]
    assert sample.hit
    os.utime(image, ns=(1, 1))
    (sample,) = [e for e in Pipeline(given).cache.explain(image) if e.kind == "sample"]
    assert not sample.hit
    assert [change.split(":")[0] for change in sample.changed] == ["source.ctime_ns", "source.mtime_ns"]
    counts = regenerated(given, data)
    assert (counts.stale_source, counts.hits) == (1, 7)


def test_explain_names_the_settings_of_another_version(tmp_path: Path, data: Path):
    given = settings(tmp_path)
    regenerated(given, data)
    other = given.model_copy(update={"data": given.data.model_copy(update={"short_side": 128})})
    image = sorted((data / "val/images").iterdir())[0]
    found = Pipeline(other).cache.explain(image)[1]
    assert not found.hit
    (version,) = Pipeline(other).cache.status().versions
    assert (version.current, version.stale) == (False, False)
    assert "val.short_side: 96 -> 128" in version.differs
    assert "version.val.short_side: 96 -> 128" in found.elsewhere[version.info.version]
    regenerated(other, data)
    hit = Pipeline(other).cache.explain(image)[1]
    assert hit.hit
    assert hit.elsewhere.keys() == {version.info.version}


@pytest.mark.parametrize("how", ["in place", "renamed over"])
def test_f81_other_content_of_equal_size_and_time_is_not_served(tmp_path: Path, data: Path, how: str):
    """As ``rsync -t`` and ``cp -p`` leave it."""
    given = settings(tmp_path)
    regenerated(given, data)
    image = sorted((data / "val/images").iterdir())[0]
    before = image.stat()
    content = image.read_bytes()
    target = image if how == "in place" else image.with_suffix(".new")
    target.write_bytes(content)
    os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))
    target.replace(image)
    after = image.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    counts = regenerated(given, data)
    assert (counts.stale_source, counts.hits) == (1, 7)


def test_another_shrink_ratio_is_another_version_and_explained(tmp_path: Path, synth_pages: Path):
    given = with_val_loss(tmp_path, "x", "maps")
    assert Pipeline(given).cache.warm(synth_pages).new == 10
    assert Pipeline(given).cache.warm(synth_pages).hits == 10
    image = sorted((synth_pages / "val/images").iterdir())[0]
    other = given.model_copy(update={"targets": given.targets.model_copy(update={"shrink_ratio": 0.5})})
    assert [(e.kind, e.hit) for e in Pipeline(other).cache.explain(image)] == [("image", False), ("sample", False), ("maps", False)]
    (_, _, maps) = Pipeline(other).cache.explain(image)
    (apart,) = maps.elsewhere.values()
    assert "version.maps.shrink_ratio: 0.4 -> 0.5" in apart
    batch = given.model_copy(update={"data": given.data.model_copy(update={"batch_size": 4})})
    assert [e.hit for e in Pipeline(batch).cache.explain(image)] == [
        False,
        True,
        True,
    ]  # the page itself is kept for training alone
