"""The script for a GPU, at a small size on the CPU: each part gives its figures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_every_part_of_the_gpu_script_gives_its_figures(tmp_path: Path):
    out = tmp_path / "gpu.json"
    command = [sys.executable, "-m", "tests.gpu", "--device", "cpu", "--small", "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(out.read_text())
    assert found["agreement"]["largest_difference"] <= 1e-4
    assert found["recovery"]["reached"]
    assert found["resume"]["largest_difference"] == 0
    assert [row["strategy"] for row in found["speed"]["rows"]] == ["fp32", "fp16-safe", "bf16"]
    assert all(run["finite"] and run["hmean"] is not None for run in found["trained"].values())
    assert all("failed" not in str(value) for value in found.values())


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
@pytest.mark.slow
def test_without_a_gpu_it_says_so(tmp_path: Path):
    done = subprocess.run([sys.executable, "-m", "tests.gpu"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("skipped: ")
