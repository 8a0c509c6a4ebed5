"""``ocrsdk train`` with bad input and in bad surroundings: one line that names the remedy; exit code 2; nothing written."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.commands import refused
from tests.conftest import CLI


def test_missing_folder(cli: CLI, tmp_path: Path):
    message = refused(cli, tmp_path, "train", "nowhere")
    assert "nowhere: no such folder" in message
    assert "ocrsdk data synth nowhere" in message


def test_empty_folders(cli: CLI, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    assert "empty: no train/ in it" in refused(cli, tmp_path, "train", "empty")
    (tmp_path / "empty" / "train").mkdir()
    (tmp_path / "empty" / "val").mkdir()
    assert str(Path("empty", "train")) in refused(cli, tmp_path, "train", "empty")


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (("--backbone", "resnet19"), ["--backbone", "resnet18"]),
        (("--model", "dbnett"), ["--model", "dbnet"]),
        (("--precision", "fp23"), ["fp23", "fp32"]),
        (("--cache", "nome"), ["nome", "none"]),
        (("--logger", "json"), ["json", "jsonl"]),
        (("--set", "trainer.epoch=3"), ["trainer.epoch", "trainer.epochs"]),
        (("--set", "trainer.epochs"), ["KEY=VALUE"]),
        (("--set", "trainer.epochs=many"), ["trainer.epochs", "many"]),
        (("--epochs", "0"), ["epochs", "0"]),
        (("--max-time", "soon"), ["max_time", "soon"]),
        (("--on-bad-sample", "skp"), ["on_bad_sample", "skip"]),
        (("--workers", "100"), ["workers", "100", "CPUs"]),
        (("--config", "none.toml"), ["none.toml"]),
        (("--resume", "none"), ["none: no such run folder"]),
        (("--resume", "data/train/images/0002.png"), ["is a file; name the run's folder"]),
        (("--resume", "none", "--run-dir", "there"), ["a run is resumed in its own folder"]),
        (("--run-dir", "data"), ["data: is not empty"]),
        (("--model", "DBNet++"), ["model.name", "Did you mean 'dbnet++'"]),
        (("--set", "optimizer.lr=inf"), ["optimizer.lr", "finite"]),
        (("--set", "loss.negative_ratio=inf"), ["loss.negative_ratio", "finite"]),
        (("--max-time", "99999999999h"), ["max_time", "longer than"]),
        (("--set", "targets.thresh_min=0.8"), ["targets.thresh_min is not smaller"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.slow
def test_wrong_options(cli: CLI, tmp_path: Path, data: Path, args: tuple[str, ...], parts: list[str]):
    message = refused(cli, tmp_path, "train", data, *args)
    for part in parts:
        assert part.lstrip("-").replace("-", "_") in message.replace("-", "_")


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_run_folder_without_permission(cli: CLI, tmp_path: Path, data: Path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "locked" in refused(cli, tmp_path, "train", data, "--run-dir", "locked/run")


@pytest.mark.slow
def test_run_folder_that_cannot_be(cli: CLI, tmp_path: Path, data: Path):
    (tmp_path / "file").write_text("")
    message = refused(cli, tmp_path, "train", data, "--run-dir", "file/run")
    assert "file/run: cannot be created" in message
    assert "--run-dir" in message


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there(cli: CLI, tmp_path: Path, data: Path):
    for more in ((), ("--dry-run",)):
        message = refused(cli, tmp_path, "train", data, "--set", "trainer.accelerator=cuda", *more)
        assert "finds no cuda device on this machine; there are: cpu" in message


SMALL = ("--set", "data.crop=64", "--set", "data.short_side=96", "--workers", "0", "--epochs", "1", "--set", "trainer.overlays=0")


@pytest.mark.slow
@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-", "2> >(true)"])
def test_a_run_goes_on_though_nobody_hears_it(tmp_path: Path, synth_pages: Path, stderr: str):
    command = " ".join([sys.executable, "-m", "ocrsdk", "train", str(synth_pages), "--run-dir", "run", *SMALL, stderr])
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "hmean" in done.stdout
    assert (tmp_path / "run/result.json").exists()


@pytest.mark.slow
def test_names_that_are_no_text(cli: CLI, tmp_path: Path, synth_pages: Path, checkpoint: Path):
    pages = Path(shutil.copytree(synth_pages, tmp_path / os.fsdecode(b"pages\xff")))
    image = next((pages / "val/images").iterdir())
    odd = image.rename(image.with_name(os.fsdecode(b"z\xfe") + image.suffix))
    label = next(path for path in (pages / "val/labels").iterdir() if image.stem in path.name)
    label.rename(label.with_name(label.name.replace(image.stem, odd.stem)))
    result = cli("predict", checkpoint, pages / "val/images", "--json", "out.json")
    assert result.returncode == 0, result.stderr
    assert str(odd) in [page["image"] for page in json.loads((tmp_path / "out.json").read_text())]
    result = cli("train", pages, "--run-dir", "run", *SMALL)
    assert result.returncode == 0, result.stderr
    result = cli("train", "--resume", "run", "--epochs", "2")
    assert result.returncode == 0, result.stderr
