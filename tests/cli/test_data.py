"""``ocrsdk data``: pages that are generated once, and whole."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ocrsdk.data.folder import load_annotations
from tests.conftest import CLI


def test_command(cli: CLI, tmp_path: Path):
    args = ("data", "synth", "d", "--pages", "2", "--val-pages", "1", "--seed", "4")
    assert cli(*args).returncode == 0
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    result = cli(*args)
    assert result.returncode == 2
    assert "d: " in result.stderr
    result = cli(*args, "--exist-ok")
    assert result.returncode == 0
    assert "is there already" in result.stdout
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupted_drawing_leaves_nothing_in_the_way(cli: CLI, tmp_path: Path, number: signal.Signals):
    args = ("data", "synth", "out", "--pages", "4", "--val-pages", "2", "--exist-ok")
    long = [sys.executable, "-m", "ocrsdk", "data", "synth", "out", "--pages", "9999"]
    process = subprocess.Popen(long, cwd=tmp_path, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".out.*/train/images/*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(30) in (130, -signal.SIGKILL)
    assert not (tmp_path / "out").exists()
    assert (list(tmp_path.iterdir()) == []) == (number == signal.SIGINT)
    assert cli(*args).returncode == 0
    assert len(load_annotations(tmp_path / "out/train")[0]) == 4
    assert "is there already" in cli(*args).stdout


@pytest.mark.slow
def test_check_says_all_of_it_and_exits_by_what_it_found(cli: CLI, synth_pages: Path, tmp_path: Path):
    root = shutil.copytree(synth_pages, tmp_path / "d")
    result = cli("data", "check", "d", "--images")
    assert result.returncode == 0
    assert "0 errors" in result.stdout
    (next((root / "train/labels").iterdir())).write_text("1,2,3\n10,10,90,10,90,40,10,40,fine\nx\n")
    result = cli("data", "check", "d")
    assert result.returncode == 1
    assert ".txt:1: 3 fields" in result.stdout
    assert ".txt:3: 1 fields" in result.stdout
    document = json.loads(cli("data", "check", "d", "--json").stdout)
    assert document["errors"] == 2
    assert document["counts"]["coordinates"] == 2
    assert cli("data", "check", "nowhere").returncode == 2
    result = cli("data", "check", "d", "--format", "cocoo")
    assert result.returncode == 2
    assert "'coco'" in result.stderr


@pytest.mark.slow
def test_convert_show_stats_and_split(cli: CLI, synth_pages: Path, tmp_path: Path):
    result = cli("data", "convert", synth_pages, "c", "--to", "paddleocr", "--json")
    done = json.loads(result.stdout)
    assert [(d["pages"], d["to"], d["lost"]) for d in done] == [(6, "paddleocr", {}), (2, "paddleocr", {})]
    assert "Label.txt" in {path.name for path in (tmp_path / "c/train").iterdir()}
    assert cli("data", "show", "c", "-n", "3", "--targets", "--augment", "-o", "s.png").returncode == 0
    assert (tmp_path / "s.png").stat().st_size > 1000
    figures = json.loads(cli("data", "stats", "c", "--plot", "p.png", "--json").stdout)
    assert figures["pages"] == 8
    assert (tmp_path / "p.png").is_file()
    assert "median" in cli("data", "stats", "c").stdout
    result = cli("data", "split", "c/train", "two", "--val", "0.4", "--json")
    assert json.loads(result.stdout) == {"train": 4, "val": 2, "near_duplicates": 0, "seed": 0}
    assert cli("data", "split", "c/train", "two").returncode == 2
    assert "paddleocr" in cli("data", "formats").stdout


@pytest.mark.slow
def test_pages_in_another_format_train_the_same(cli: CLI, synth_pages: Path, tmp_path: Path):
    """The first ten losses, from ICDAR text and from what it was converted to."""
    losses = []
    for name in ("icdar", "label-studio", "coco"):
        data = synth_pages if name == "icdar" else tmp_path / name
        if name != "icdar":
            assert cli("data", "convert", synth_pages, name, "--to", name).returncode == 0
        size = ("--set", "data.crop=64", "--set", "data.short_side=96", "--set", "logging.every_n_steps=1", "--batch-size", "2")
        run = cli("train", data, "--epochs", "4", *size, "--workers", "0", "--cache", "none", "--run-dir", f"r-{name}", "-q")
        assert run.returncode == 0, run.stderr
        rows = [json.loads(line) for line in (tmp_path / f"r-{name}/metrics.jsonl").read_text().splitlines()]
        losses.append([row["train/loss"] for row in rows if "train/loss" in row][:10])
    assert len(losses[0]) == 10
    assert losses[0] == losses[1] == losses[2]
