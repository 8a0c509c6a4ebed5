"""Whatever ends a run: it goes on from where it was, and ends as if nothing had happened."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from ocrsdk.errors import CheckpointError
from ocrsdk.loggers.rows import read_rows
from ocrsdk.loggers.wandb_file import read_history
from ocrsdk.models.checkpoint import read_checkpoint
from ocrsdk.training.checkpoint import AtomicCheckpointIO
from tests.conftest import CLI

SMALL = ("--set", "data.crop=64", "--set", "data.short_side=96", "--batch-size", "2", "--set", "logging.every_n_steps=1")
MEASURED = ("time", "wall_time", "speed/", "memory/", "cache/", "profile/")


def start(folder: Path, *args: Any) -> subprocess.Popen[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OCRSDK_", "WANDB_"))}
    command = [sys.executable, "-m", "ocrsdk", "train", *map(str, args)]
    return subprocess.Popen(
        command, cwd=folder, env=clean, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def wait_for_rows(process: subprocess.Popen[str], path: Path, rows: int) -> None:
    end = time.monotonic() + 120
    while not (path.exists() and path.read_bytes().count(b"\n") >= rows):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def logged(run: Path) -> list[dict[str, Any]]:
    rows = read_rows(run / "metrics.jsonl")
    return [{key: value for key, value in row.items() if not key.startswith(MEASURED)} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "accumulate"), [(0, 1), (2, 2)])
def test_f41_f64_killed_at_any_step_and_resumed_is_bit_equal(
    cli: CLI, tmp_path: Path, synth_pages: Path, workers: int, accumulate: int
):
    common = [
        synth_pages, "--epochs", "6", "--workers", workers, *SMALL, "--set", f"trainer.accumulate={accumulate}",
        "--set", "trainer.validations=5", "--profile",
    ]  # fmt: skip
    result = cli("train", *common, "--run-dir", "whole")
    assert result.returncode == 0, result.stderr
    rng = random.Random(workers)
    args: tuple[Any, ...] = (*common, "--run-dir", "part", "--set", "trainer.save_every=0.001s", "--logger", "wandb")
    for kill_after in (rng.randint(1, 4), rng.randint(6, 12)):
        process = start(tmp_path, *args)
        wait_for_rows(process, tmp_path / "part/metrics.jsonl", kill_after)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        args = ("--resume", "part")
    result = cli("train", "--resume", "part", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["logger_problems"] == {}
    whole, part = (torch.load(tmp_path / run / "checkpoints/last.ckpt", weights_only=True) for run in ("whole", "part"))
    assert whole["global_step"] == part["global_step"] == (18 if accumulate == 1 else 12)
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, part["state_dict"][name]), name
    assert logged(tmp_path / "part") == logged(tmp_path / "whole")
    found = [row for path in sorted((tmp_path / "part").glob("wandb/offline-run-*/*.wandb")) for row in read_history(path)]
    scores = [row for row in found if "row" in row]
    rows = [int(row["row"]) for row in scores]
    assert sorted(rows) == [row["row"] for row in logged(tmp_path / "whole")]
    assert len(set(rows)) == len(rows)
    steps = [row["_step"] for row in found]
    assert steps == sorted(set(steps))
    validated = [row["step"] for row in logged(tmp_path / "whole") if "val/hmean" in row]
    per_epoch = 3 if accumulate == 1 else 2
    assert any((step + 1) % per_epoch for step in validated)  # some in the middle of an epoch
    pictured = [row["trainer/step"] for row in found if "val/pages._type" in row]
    assert pictured == sorted(set(pictured))  # those of the last moment before a kill may be missing
    assert validated[-1] in pictured
    assert set(pictured) <= set(validated)
    assert len({path.name for path in (tmp_path / "part").glob("wandb/offline-run-*/*.wandb")}) == 1  # one id


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


@pytest.mark.slow
def test_a_second_process_may_not_train_in_the_same_folder(cli: CLI, tmp_path: Path, synth_pages: Path):
    process = start(tmp_path, synth_pages, "--epochs", "100000", *SMALL, "--run-dir", "runs/one")
    wait_for_rows(process, tmp_path / "runs/one/metrics.jsonl", 2)
    result = cli("runs", "list", "--json")
    assert [run["state"] for run in json.loads(result.stdout)] == ["running"]
    result = cli("train", "--resume", "last")
    assert result.returncode == 2
    assert "runs/one: another process is training in it" in result.stderr
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=120)
    assert process.returncode == 129
    assert [run["state"] for run in json.loads(cli("runs", "list", "--json").stdout)] == ["stopped"]


def test_f68_any_flipped_bit_in_a_weight_is_found(tmp_path: Path):
    from ocrsdk.models.checkpoint import make_metadata
    from ocrsdk.models.dbnet import DBNet

    path = tmp_path / "a.ckpt"
    weights = {f"model.{i}": torch.randn(400) for i in range(20)}
    AtomicCheckpointIO().save_checkpoint({"state_dict": weights, "ocrsdk": make_metadata(DBNet(), {}, {}, {}, "fp32")}, path)
    content = path.read_bytes()
    rng = random.Random(0)
    caught = 0
    for _ in range(300):
        at = rng.randrange(len(content))
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :])
        try:
            found = read_checkpoint(path)["state_dict"]
        except CheckpointError:
            caught += 1
        else:  # padding between the parts
            assert all(torch.equal(found[name], value) for name, value in weights.items())
    assert caught > 200


@pytest.mark.slow
def test_json_lines_profile_and_curves(cli: CLI, tmp_path: Path, synth_pages: Path):
    secret = "s3cr3t-value-0123456789"
    result = cli(
        "train", synth_pages, "--epochs", "3", "--workers", "2", *SMALL, "--profile", "--log-format", "json", "--json",
        "--run-dir", "runs/a", "--precision", "fp16-safe", env={"MY_API_KEY": secret},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert {"progress", "validation", "profile"} & {line["event"] for line in lines} >= {"validation", "profile"}
    assert {line["run"] for line in lines if line["event"] == "validation"} == {"a"}
    assert secret not in result.stderr
    document = json.loads(result.stdout)
    shares = {name: phase["share"] for name, phase in document["profile"]["phases"].items()}
    assert set(shares) == {"data wait", "to device", "forward", "backward", "optimizer", "validation", "logging"}
    assert 0.2 < sum(shares.values()) <= 1.0
    assert "bound: " in document["profile"]["verdict"]
    assert document["profile"]["memory_tree_bytes"] > document["peak_memory_bytes"] * 0.5
    rows = read_rows(tmp_path / "runs/a/metrics.jsonl")
    assert [row["row"] for row in rows] == list(range(1, len(rows) + 1))
    assert rows[-1]["samples"] == 18
    assert "profile/forward" in rows[-1]

    assert cli("train", synth_pages, "--epochs", "2", *SMALL, "--run-dir", "runs/b", "--seed", "5").returncode == 0
    compared = json.loads(cli("runs", "compare", "runs/a", "runs/b", "--plot", "c.png", "--json").stdout)
    differing = {entry["name"]: entry["values"] for entry in compared["settings"]}
    assert differing["seed"] == [0, 5]
    assert differing["precision.strategy"] == ["fp16-safe", "fp32"]
    assert "data.crop" not in differing
    assert (tmp_path / "c.png").stat().st_size > 5000
    shown = cli("runs", "show", "last").stdout
    assert "runs/b" in shown
    assert "seed: 0 -> 5" in shown
    result = cli("logs", "sync", "runs/a", "--to", "csv", "--json")
    assert json.loads(result.stdout)["sent"] == len(rows)
    assert json.loads(cli("logs", "sync", "runs/a", "--to", "csv", "--json").stdout) == {
        "run": "runs/a", "logger": "csv", "sent": 0, "present": len(rows)
    }  # fmt: skip
    for args, message in (
        (("logs", "sync", "runs/a", "--to", "jsonl"), "is where rows come from"),
        (("train", "--resume", "runs/a"), "0 steps were made"),
        (("train", "--resume", "runs/a", "--epochs", "9", "--batch-size", "3"), "data.batch_size was 2 and is 3"),
        (("runs", "show", "nowhere"), "nowhere: no run in it"),
        (("runs", "compare", "runs/a"), "give at least two runs"),
        (("logs", "sync", "runs/a", "--to", "jsom"), "no logger named 'jsom'"),
        (("train", synth_pages, "--verbose", "--quiet"), "--verbose and --quiet contradict each other"),
        (("train", synth_pages, "--log-format", "xml"), "--log-format xml: expected console or json"),
    ):
        result = cli(*args)
        assert result.returncode == 2
        assert message in result.stderr
    assert [run["state"] for run in json.loads(cli("runs", "list", "--json").stdout)] == ["finished", "finished"]
    before = logged(tmp_path / "runs/b")
    result = cli("train", "--resume", "runs/b", "--epochs", "3", "--json")
    assert result.returncode == 0, result.stderr
    assert logged(tmp_path / "runs/b")[: len(before)] == before
    assert not (tmp_path / "runs/b/metrics.superseded.jsonl").exists()


def test_secrets_are_struck_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from ocrsdk.loggers.base import RunInfo
    from ocrsdk.logs import strike_secrets

    monkeypatch.setenv("SOME_TOKEN", "abcdefgh-token")
    event = {"event": "calling with abcdefgh-token", "api_key": "k", "options": {"password": "p", "size": 3}, "path": "a/b"}
    assert strike_secrets(None, "info", event) == {
        "event": "calling with ***", "api_key": "***", "options": {"password": "***", "size": 3}, "path": "a/b"
    }  # fmt: skip
    monkeypatch.setenv("SOME_CREDENTIALS", str(tmp_path))  # the place of a secret is none
    for address, shown in (
        ("valkey://me:pass@host:1/0", "valkey://***@host:1/0"),
        ("redis://:p/q@s@host", "redis://***@host"),
        ("https://token@host/a", "https://***@host/a"),
        ("valkey://host:1/0", "valkey://host:1/0"),
        ("/mnt//set@1/x", "/mnt//set@1/x"),
        (f"{tmp_path}/data", f"{tmp_path}/data"),
    ):
        assert RunInfo(tmp_path, "r", {"cache": {"options": {"url": address}}}).settings["cache"]["options"]["url"] == shown
    settings = {"credentials": {"login": "bob", "pw": "hunter2"}, "tokens": 5}
    assert RunInfo(tmp_path, "r", settings).settings == {"credentials": "***", "tokens": 5}
