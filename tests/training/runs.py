"""Small runs that the tests of training share, in this process and in one of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from ocrsdk import Settings
from ocrsdk.loggers.rows import read_rows

SMALL = ("--set", "data.crop=64", "--set", "data.short_side=96", "--batch-size", "2", "--set", "logging.every_n_steps=1")


def start(folder: Path, *args: Any) -> subprocess.Popen[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OCRSDK_", "WANDB_"))}
    command = [sys.executable, "-m", "ocrsdk", "train", *map(str, args)]
    return subprocess.Popen(
        command, cwd=folder, env=clean, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for_rows(process: subprocess.Popen[Any], path: Path, rows: int) -> None:
    end = time.monotonic() + 120
    while not (path.exists() and path.read_bytes().count(b"\n") >= rows):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


MEASURED = ("time", "wall_time", "speed/", "memory/", "cache/", "profile/")


def logged(run: Path) -> list[dict[str, Any]]:
    rows = read_rows(run / "metrics.jsonl")
    return [{key: value for key, value in row.items() if not key.startswith(MEASURED)} for row in rows]


def settings(run_dir: Path | None, epochs: int = 3, workers: int = 0, **data: object) -> Settings:
    return Settings(
        run_dir=run_dir,
        data={"crop": 64, "batch_size": 2, "workers": workers, "short_side": 96, **data},
        trainer={"epochs": epochs, "validations": 1, "accelerator": "cpu", "overlays": 1},
        logging={"every_n_steps": 1},
    )


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def with_val_loss(tmp_path: Path, name: str, policy: str) -> Settings:
    return Settings(
        run_dir=tmp_path / name,
        data={"crop": 64, "batch_size": 2, "workers": 0, "short_side": 96},
        targets={"min_text_size": 1},
        trainer={"epochs": 1, "validations": 1, "accelerator": "cpu", "overlays": 0, "val_loss": True},
        cache={"dir": tmp_path / "cache", "policy": policy},
    )
