"""A cache that cannot be opened: before a training starts, and during one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import SMALL
from tests.conftest import CLI


@pytest.mark.parametrize("place", ["file", "open"])
@pytest.mark.slow
def test_a_place_that_can_never_work_stops_training_before_it_starts(cli: CLI, synth_pages: Path, tmp_path: Path, place: str):
    (tmp_path / "file").write_text("")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    result = cli("train", synth_pages, "--epochs", "1", "--run-dir", "run", env={"OCRSDK_CACHE__DIR": str(tmp_path / place)})
    assert result.returncode == 2
    assert {"file": "is a file", "open": "anyone may write"}[place] in result.stderr


@pytest.mark.slow
def test_training_goes_on_without_a_broken_cache(cli: CLI, home: dict[str, str], synth_pages: Path, tmp_path: Path):
    cli("cache", "warm", synth_pages, *SMALL, env=home)
    for index in (tmp_path / "cache").rglob("cache.db*"):
        index.write_bytes(b"garbage" * 1000)
    result = cli("train", synth_pages, "--epochs", "1", *SMALL, "--set", "data.crop=64", "--run-dir", "run", env=home)
    assert result.returncode == 0, result.stderr
    assert result.stderr.count("training goes on without a cache") == 1
    assert "cache clear --rebuild" in result.stderr
