"""Damage is found, repaired and validated."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import SMALL, document
from tests.conftest import CLI


@pytest.mark.slow
def test_damage_is_found_repaired_and_validated(cli: CLI, home: dict[str, str], synth_pages: Path, tmp_path: Path):
    cli("cache", "warm", synth_pages, *SMALL, "--set", "cache.options.inline_bytes=0", env=home)
    options = (*SMALL, "--set", "cache.options.inline_bytes=0")
    path = max((tmp_path / "cache").rglob("*.val"), key=lambda p: p.stat().st_size)
    data = bytearray(path.read_bytes())
    data[5000] ^= 1
    path.write_bytes(data)
    assert document(cli, "validate", "--all", *options, env=home, rc=2)["damaged"]
    assert document(cli, "health", *options, env=home, rc=1)["state"] == "degraded"
    assert "repaired" in cli("cache", "health", "--fix", *options, env=home).stdout
    assert document(cli, "health", *options, env=home)["state"] == "healthy"
    for index in (tmp_path / "cache").rglob("cache.db*"):
        index.write_bytes(b"garbage" * 1000)
    broken = cli("cache", "health", *options, env=home)
    assert broken.returncode == 2
    assert broken.stdout.startswith("BROKEN")
    assert "ocrsdk cache clear" in broken.stdout
    assert cli("cache", "clear", "--rebuild", "-y", *options, env=home).returncode == 0
    assert "8 made and kept" in cli("cache", "warm", synth_pages, *options, env=home).stdout
