"""Shared fixtures: golden data, generated pages, and real ones where they are at hand."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from ocrsdk.cache.store import SampleCache
    from tests.packages import Environment
    from tests.warm import WarmCommands


GOLDEN = Path(__file__).parent / "golden"
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"

CLI = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session", autouse=True)
def signals_are_heeded():
    """Commands that are tested ignore what this process ignores, as all signals of a terminal under nohup or in the background."""
    for number, handler in ((signal.SIGHUP, signal.SIG_DFL), (signal.SIGINT, signal.default_int_handler)):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.fixture(scope="session", autouse=True)
def own_cache_folder(tmp_path_factory: pytest.TempPathFactory):
    """Tests never see or fill the user's cache."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache-home"))
    yield
    if before is None:
        del os.environ["XDG_CACHE_HOME"]
    else:
        os.environ["XDG_CACHE_HOME"] = before


def _variants(shared: Path) -> list[str]:
    """Our own pages always; those that are shared beside the repository where they are."""
    return ["own", *(["shared"] if shared.is_dir() else [])]


@pytest.fixture(scope="session", params=_variants(SHARED / "sroie-mini"))
def receipts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Receipts with train/ and val/, all of whose lines are quadrilaterals: generated, and real ones."""
    if request.param == "shared":
        return SHARED / "sroie-mini"
    from ocrsdk.data.synth import write_pages

    root = tmp_path_factory.mktemp("receipts")
    for split, count, seed in (("train", 8, 2), ("val", 4, 3)):
        list(write_pages(root / split, count, seed, scenes=0))
    with (root / "train/labels/gt_0000.txt").open("a", encoding="utf-8") as file:
        file.write("4,4,90,4,90,14,4,14,NO. 5, HIGH STREET,\n")
    return root


@pytest.fixture(scope="session", params=_variants(SHARED / "formats"))
def formats(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny example of each annotation format."""
    from tests.examples import write_examples

    return SHARED / "formats" if request.param == "shared" else write_examples(tmp_path_factory.mktemp("formats"))


@pytest.fixture(scope="session")
def synth_pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generated data folder: 6 training and 2 validation pages. Tests must not change it."""
    from ocrsdk.data.synth import write_pages

    root = tmp_path_factory.mktemp("synth") / "data"
    for split, count, seed in (("train", 6, 0), ("val", 2, 1)):
        list(write_pages(root / split, count, seed))
    return root


@pytest.fixture(scope="session")
def warm() -> Iterator[list[WarmCommands]]:
    """Where the process is kept that slow tests fork their commands from."""
    started: list[WarmCommands] = []
    yield started
    for server in started:
        server.close()


@pytest.fixture
def cli(tmp_path: Path, request: pytest.FixtureRequest, warm: list[WarmCommands]) -> CLI:
    """Runs ``ocrsdk`` in a process of its own in an empty folder."""
    from tests.warm import WarmCommands

    slow = request.node.get_closest_marker("slow") is not None

    def run(*args: str | Path, env: dict[str, str] | None = None, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("OCRSDK_", "WANDB_"))}
        environment = {**clean, **(env or {})}
        if slow and not any(name.startswith("PYTHON") and name != "PYTHONPATH" for name in env or {}):
            if not warm:
                warm.append(WarmCommands())
            return warm[0].run(list(map(str, args)), tmp_path, environment, timeout)
        return subprocess.run(
            [sys.executable, "-m", "ocrsdk", *map(str, args)],
            capture_output=True,
            text=True,
            errors="surrogateescape",
            cwd=tmp_path,
            env=environment,
            timeout=timeout,
            check=False,
        )

    return run


def ragged(points: np.ndarray, offsets: np.ndarray) -> list[np.ndarray]:
    """The items of a ragged list as golden files hold it."""
    return [points[a:b] for a, b in itertools.pairwise(offsets)]


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[SampleCache]:
    """A cache on disk, with counters."""
    from ocrsdk.cache.base import CacheLocation
    from ocrsdk.cache.disk.backend import DiskCache
    from ocrsdk.cache.stats import Counter
    from ocrsdk.cache.store import SampleCache
    from ocrsdk.fingerprint import fingerprint

    made = SampleCache(DiskCache(CacheLocation(tmp_path / "c", fingerprint({}), {})), Counter(tmp_path / "stats", "test"))
    yield made
    made.close()


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """Variables that put the cache below this test's folder."""
    return {"OCRSDK_CACHE__DIR": str(tmp_path / "cache")}


@pytest.fixture
def data(tmp_path: Path, synth_pages: Path) -> Path:
    """A small good data folder that a test may spoil."""
    return Path(shutil.copytree(synth_pages, tmp_path / "data"))


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A checkpoint of a model that was never trained."""
    import torch

    from tests.commands import untrained

    torch.save(untrained(), tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    """A fresh venv for real installs."""
    from tests.packages import Environment

    return Environment(tmp_path / "venv")
