"""``ocrsdk config`` with wrong variables and files."""

from __future__ import annotations

from pathlib import Path

from tests.commands import refused
from tests.conftest import CLI


def test_wrong_variables_and_files(cli: CLI, tmp_path: Path):
    message = refused(cli, tmp_path, "config", "show", env={"OCRSDK_CAHCE__DIR": "x"})
    assert "OCRSDK_CAHCE__DIR" in message
    assert "OCRSDK_CACHE__DIR" in message
    (tmp_path / "run.toml").write_text("seed = 1\n\n[trainer]\nepohcs = 3\n")
    message = refused(cli, tmp_path, "config", "show", "--config", "run.toml")
    assert "run.toml:4" in message
    assert "'trainer.epochs'" in message
