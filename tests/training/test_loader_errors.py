"""A loader process that dies is named with its page."""

from __future__ import annotations

import re
from pathlib import Path

import psutil
import pytest

from ocrsdk.models.checkpoint import read_checkpoint
from tests.training.runs import SMALL, start, wait_for_rows


@pytest.mark.slow
def test_f66_a_killed_loader_process_is_named_with_its_page(tmp_path: Path, synth_pages: Path):
    process = start(tmp_path, synth_pages, "--epochs", "100000", "--workers", "2", *SMALL, "--run-dir", "run")
    wait_for_rows(process, tmp_path / "run/metrics.jsonl", 3)
    victim = next(p for p in psutil.Process(process.pid).children() if "resource_tracker" not in " ".join(p.cmdline()))
    victim.kill()
    _, err = process.communicate(timeout=120)
    assert process.returncode == 2, err
    told = re.search(rf"the loader process {victim.pid} (was killed|ended unexpectedly).* while it worked on (\S+)", err)
    assert told is not None, err
    assert told[2].startswith(f"{synth_pages}/train/images/")
    assert "Traceback" not in err
    read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")
