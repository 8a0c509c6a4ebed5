"""``ocrsdk precision`` with wrong options."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import CLI


@pytest.mark.slow
def test_the_command_refuses_alike(cli: CLI, synth_pages: Path, tmp_path: Path):
    result = cli("precision", "check", synth_pages, "--margin", "inf")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("error: --margin inf: expected")
    assert not (tmp_path / "runs").exists()
