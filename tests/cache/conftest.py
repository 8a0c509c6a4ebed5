"""A cache of its own for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cache.stores import make


@pytest.fixture
def disk(tmp_path: Path):
    cache = make(tmp_path / "c")
    cache.prepare()
    yield cache
    cache.close()
