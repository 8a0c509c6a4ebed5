"""Folders of installed plug-ins."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.packages import MEDDLING, SLOW, install

NEWER = "ocrsdk_api_version = 99"

CACHE = """
from ocrsdk import hookimpl
from ocrsdk.cache.base import CacheBackend, Usage
class Bad(CacheBackend):
    name = "bad"
    summary = "raises in a worker"
    def get(self, key): raise ZeroDivisionError("only in a worker")
    def set(self, key, value): raise ZeroDivisionError("only in a worker")
    def delete(self, key): return False
    def __iter__(self): return iter(())
    def usage(self): return Usage(0, 0)
    def versions(self): return []
    def remove_version(self, version): pass
    def health(self, fix=False): return []
    def close(self): pass
@hookimpl
def ocrsdk_register_cache_backends():
    return [Bad]
"""

STRATEGY = """
from ocrsdk import hookimpl
from ocrsdk.precision.base import PrecisionStrategy
class Bad(PrecisionStrategy):
    name = "bad"
    summary = "raises"
    def check(self, device): raise KeyError("device")
    def trainer_kwargs(self, device): return {}
@hookimpl
def ocrsdk_register_precision_strategies():
    return [Bad]
"""

LOGGER = """
from ocrsdk import hookimpl
from ocrsdk.loggers.base import LoggerFactory
class Bad(LoggerFactory):
    name = "bad"
    summary = "raises"
    def build(self, run): raise OSError("no server")
@hookimpl
def ocrsdk_register_loggers():
    return [Bad]
"""


@pytest.fixture
def bad_site(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "site"
    folder.mkdir()
    for name, code in (
        ("meddling", MEDDLING), ("newer", NEWER), ("slow", SLOW), ("cache", CACHE), ("strategy", STRATEGY), ("logger", LOGGER),
        ("missing", "import no_such_module"),
    ):  # fmt: skip
        install(folder, name, code)
    info = folder / "opencv_python-4.10.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: opencv-python\nVersion: 4.10.0\n")
    wants = folder / "ocrsdk_slow-1.0.dist-info/METADATA"
    wants.write_text(wants.read_text() + "Requires-Dist: numpy<1.0\n")
    return {"PYTHONPATH": str(folder)}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    return folder
