"""Commands that are imported when they are called."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CLI


def test_unknown_command_names_the_nearest(cli: CLI):
    result = cli("trian")
    assert result.returncode == 2
    assert "train" in result.stderr


def test_a_command_that_cannot_be_imported_is_no_unknown_command(tmp_path: Path):
    (tmp_path / "broken.py").write_text("{}['no such key']")
    code = (
        "from ocrsdk.cli import Commands, app\n"
        "Commands.homes = {**Commands.homes, 'train': Commands.homes['train']._replace(module='broken')}\n"
        "app(['train', '--help'])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "KeyError: 'no such key'" in result.stderr
    assert "No such command" not in result.stderr


@pytest.mark.parametrize("command", ["train", "cache health", "plugins new"])
def test_f89_help_survives_without_docstrings(command: str):
    asked = [*command.split(), "--help"]
    whole, bare = (
        subprocess.run([sys.executable, *flags, "-m", "ocrsdk", *asked], capture_output=True, text=True, check=True).stdout
        for flags in ([], ["-OO"])
    )
    assert bare == whole
