"""What the tests of the cache tools share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ocrsdk import Pipeline, Settings


def settings(tmp_path: Path, **more: Any) -> Settings:
    return Settings(cache={"dir": tmp_path / "cache", **more}, data={"short_side": 96, "workers": 0})


def regenerated(given: Settings, pages: Path) -> Any:
    return Pipeline(given).cache.warm(pages)
