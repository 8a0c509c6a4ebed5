"""A plan writes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import CLI


@pytest.mark.slow
def test_dry_run_writes_nothing_and_tells_the_plan(cli: CLI, tmp_path: Path, synth_pages: Path):
    result = cli("train", synth_pages, "--dry-run", "--json", "--set", "data.crop=64", "--set", "data.short_side=96")
    assert result.returncode == 0, result.stderr
    plan = json.loads(result.stdout)
    assert plan["train_pages"] == 6
    assert plan["steps"] == plan["steps_per_epoch"] * 100 == 100
    assert plan["precision"] == "fp32"
    assert plan["parameters"] > 100_000
    assert not list(tmp_path.iterdir())
