"""What a person sees while a run trains, on a real terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pty = pytest.importorskip("pty", reason="terminals of this kind are POSIX's")


def on_a_terminal(tmp_path: Path, *args: str | Path) -> tuple[str, str]:
    """Runs ``ocrsdk`` with a terminal as stderr; what it wrote to stdout and what the terminal got, without colours."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
    command = [sys.executable, "-m", "ocrsdk", *map(str, args)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, cwd=tmp_path, env=environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            part = os.read(ours, 65536)
        except OSError:  # Linux: the other side is closed
            part = b""
        if not part:
            break
        shown += part
    os.close(ours)
    assert process.stdout is not None
    out = process.stdout.read().decode()
    assert process.wait(60) == 0, shown.decode()
    return out, re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())


@pytest.mark.slow
def test_the_bar_shows_share_speed_and_loss_and_leaves_the_scores(tmp_path: Path, synth_pages: Path):
    small = ("--short-side", "96", "--batch-size", "2", "--set", "data.crop=64", "--set", "data.workers=0")
    out, shown = on_a_terminal(tmp_path, "train", synth_pages, "--epochs", "3", *small, "--set", "trainer.overlays=0", "--json")
    frames = [line for line in re.split(r"[\r\n]+", shown) if "training" in line and "epoch" in line]
    assert frames, shown
    assert re.search(r"100 %.* epoch 3  step 9  loss \d+\.\d{3}  \d+\.\d img/s", frames[-1]), frames[-1]
    assert re.search(r"validation after step 9: hmean \d\.\d{4}", shown)
    assert "training" not in out  # the result alone
