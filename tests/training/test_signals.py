"""Signals stop a run softly; a second one damages nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from ocrsdk.loggers.rows import read_rows
from ocrsdk.models.checkpoint import read_checkpoint
from ocrsdk.training.checkpoint import AtomicCheckpointIO
from tests.training.runs import SMALL, start, wait_for_rows


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_f60_f61_f62_signals_save_a_checkpoint(tmp_path: Path, synth_pages: Path, number: signal.Signals, code: int):
    args = [sys.executable, "-m", "ocrsdk", "train", str(synth_pages), "--run-dir", "run", "--epochs", "100000"]
    args += ["--set", "data.crop=64", "--set", "data.short_side=96", "--set", "logging.every_n_steps=1"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("OCRSDK_")}
    process = subprocess.Popen(
        args, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    metrics = tmp_path / "run" / "metrics.jsonl"
    end = time.monotonic() + 120
    while not (metrics.exists() and metrics.read_text().count("\n") > 3):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.1)
    os.killpg(process.pid, number)  # a terminal sends Ctrl-C to the whole group, workers included
    out, err = process.communicate(timeout=120)
    assert process.returncode == code, err
    assert f"stopped by {number.name}" in out
    assert "--resume run" in out
    assert "Traceback" not in err
    assert (tmp_path / "run" / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.slow
def test_f73_a_signal_ends_a_wait_for_processes_that_are_stopped(tmp_path: Path, synth_pages: Path):
    process = start(tmp_path, synth_pages, "--run-dir", "run", "--epochs", "100000", "--workers", "2", *SMALL)
    wait_for_rows(process, tmp_path / "run/metrics.jsonl", 4)
    for worker in psutil.Process(process.pid).children():
        if worker.name().startswith("pt_"):
            worker.suspend()
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 143, err
    assert "--resume run" in out
    assert "Traceback" not in err
    steps = read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")["global_step"]
    assert steps == read_rows(tmp_path / "run/metrics.jsonl")[-1]["step"] + 1


@pytest.mark.slow
def test_f75_a_run_under_nohup_outlives_its_terminal(tmp_path: Path, synth_pages: Path):
    command = ["nohup", sys.executable, "-m", "ocrsdk", "train", str(synth_pages), "--run-dir", "run", "--epochs", "100000", *SMALL]
    process = subprocess.Popen(command, cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    rows = tmp_path / "run/metrics.jsonl"
    wait_for_rows(process, rows, 3)
    process.send_signal(signal.SIGHUP)
    wait_for_rows(process, rows, rows.read_text().count("\n") + 8)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 143


@pytest.mark.slow
def test_f63_a_second_signal_during_the_save_leaves_the_previous_checkpoint(tmp_path: Path):
    code = """
import sys, torch
from pathlib import Path
from ocrsdk.training.checkpoint import AtomicCheckpointIO
from ocrsdk.training.signals import StopSignals
stop = StopSignals([])
stop.on_train_start()
io = AtomicCheckpointIO()
io.save_checkpoint({"generation": 1}, "last.ckpt")
print("ready", flush=True)
while True:
    io.save_checkpoint({"generation": 2, "weights": torch.zeros(60_000_000)}, "last.ckpt")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    end = time.monotonic() + 60
    while not list(tmp_path.glob(".last.ckpt.*.partial")):
        assert time.monotonic() < end
        time.sleep(0.001)
    while process.poll() is None:  # signals that meet compiled code are one until it returns
        assert time.monotonic() < end
        process.send_signal(signal.SIGTERM)
        time.sleep(0.02)
    assert process.returncode == 143
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["generation"] in (1, 2)
    AtomicCheckpointIO().save_checkpoint({"generation": 3}, tmp_path / "last.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
