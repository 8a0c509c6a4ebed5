"""Folders that are not ours, files that are not ours, versions of a later ocrsdk."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocrsdk.cache import frame
from ocrsdk.cache.base import Severity
from ocrsdk.cache.disk.backend import DiskCache
from ocrsdk.cache.frame import SCHEMA
from ocrsdk.errors import CacheError, CacheStoreError
from tests.cache.stores import VERSION, filled, make, place


def test_f29_folders_that_are_not_ours_and_files_that_are_not_ours(disk: DiskCache, tmp_path: Path):
    foreign = tmp_path / "d" / "diskcache" / f"v{SCHEMA}" / VERSION
    (foreign / "images").mkdir(parents=True)
    (foreign / "images" / "img_1.jpg").write_text("mine")
    stranger = make(tmp_path / "d")
    assert stranger.health(fix=True)[0].severity is Severity.ERROR
    with pytest.raises(CacheStoreError, match="not a cache of ours"):
        stranger.remove_version(VERSION)
    with pytest.raises(CacheStoreError, match="not a cache of ours"):
        stranger.prepare()
    assert (foreign / "images" / "img_1.jpg").read_text() == "mine"
    filled(disk)
    mine = place(disk) / "labels.json"
    mine.write_text("{}")
    assert any("not the cache's (labels.json)" in f.what for f in disk.health(fix=True))
    with pytest.raises(CacheError, match=r"labels.json.*move them away"):
        disk.clear()
    assert mine.exists()


def test_f13_a_newer_schema_is_left_untouched(disk: DiskCache):
    filled(disk)
    disk.close()
    marker = place(disk) / "version.json"
    text = marker.read_text().replace(f'"schema": {frame.SCHEMA}', '"schema": 9')
    marker.write_text(text)
    with pytest.raises(CacheStoreError, match="schema 9 is newer.*untouched"):
        make(disk.location.folder).prepare()
    assert marker.read_text() == text
