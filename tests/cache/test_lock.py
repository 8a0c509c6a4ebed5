"""Who has a version open."""

from __future__ import annotations

import pytest

from ocrsdk.cache.disk.backend import DiskCache
from ocrsdk.errors import CacheError
from tests.cache.stores import filled, make


def test_f14_two_live_runs_with_two_budgets(disk: DiskCache):
    filled(disk)
    second = make(disk.location.folder, budget=5_000_000)
    with pytest.raises(CacheError, match=r"cache.budget=1000000000, this one asks for 5000000"):
        second.prepare()
    disk.close()
    second.prepare()
    assert disk.versions()[0].budget == 5_000_000
    assert len(list(disk)) == 8
