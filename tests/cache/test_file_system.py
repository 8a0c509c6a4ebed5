"""Places where no cache can be, and what the errors of a file system mean."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocrsdk.errors import CacheEnvironmentError, CacheError
from ocrsdk.testing.cache import key
from tests.cache.stores import fill, make


def test_f16_full_before_it_is_opened(small_disk: Path):
    (small_disk / "fill").write_bytes(b"")
    with (small_disk / "fill").open("wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
        fill(lambda: file.write(bytes(65536)))
    with pytest.raises(CacheEnvironmentError, match="full"):
        make(small_disk / "c").prepare()


def test_f17_no_inodes_left(small_disk: Path):
    cache = make(small_disk / "c", inline_bytes=0)
    cache.prepare()
    names = iter(range(100))
    with pytest.raises(CacheEnvironmentError, match="inodes"):
        fill(lambda: cache.set(key(next(names)), b"x"))
    cache.close()


def test_f24_places_that_can_never_work(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CacheError, match="is a file"):
        make(tmp_path / "file").prepare()
    with pytest.raises(CacheError, match="is a file"):
        make(tmp_path / "file" / "below").prepare()
    with pytest.raises(CacheError, match="empty"):
        make(Path()).prepare()
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(CacheError, match=r"anyone may write.*chmod o-w"):
        make(tmp_path / "open").prepare()
    assert list((tmp_path / "open").iterdir()) == []
