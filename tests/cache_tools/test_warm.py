"""A warmed cache makes what has changed, and nothing else."""

from __future__ import annotations

import os
from pathlib import Path

from ocrsdk import Pipeline
from tests.cache_tools.warmed import regenerated, settings


def test_one_edited_label_invalidates_exactly_that_sample(tmp_path: Path, data: Path):
    given = settings(tmp_path)
    assert regenerated(given, data).new == 8
    assert regenerated(given, data).hits == 8
    label = sorted((data / "train/labels").iterdir())[2]
    label.write_text(label.read_text() + "1,1,30,1,30,12,1,12,more\n")
    counts = regenerated(given, data)
    assert (counts.hits, counts.stale_annotation, counts.regenerated) == (7, 1, 1)
    counts = regenerated(given, data)
    assert (counts.hits, counts.regenerated) == (8, 0)
    (version,) = Pipeline(given).cache.status().versions
    assert version.info.usage.entries == 16  # the superseded entry is gone


def test_content_identity_hits_after_a_move(tmp_path: Path, data: Path):
    given = settings(tmp_path, identity="content")
    regenerated(given, data)
    data.rename(tmp_path / "moved")
    for image in (tmp_path / "moved").rglob("*.png"):
        os.utime(image, ns=(1, 1))
    counts = regenerated(given, tmp_path / "moved")
    assert (counts.hits, counts.regenerated) == (8, 0)
