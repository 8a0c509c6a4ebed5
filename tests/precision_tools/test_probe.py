"""Ranges of a real detector, and an update that is run again."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch

from ocrsdk.models.checkpoint import make_metadata
from ocrsdk.models.dbnet import DBNet
from tests.conftest import CLI


@pytest.mark.slow
def test_probe_and_replay(cli: CLI, tmp_path: Path, synth_pages: Path):
    small = ("--set", "data.crop=64", "--set", "data.short_side=96", "--set", "data.workers=0")
    result = cli("precision", "probe", synth_pages, "--batches", "2", "--json", *small)
    assert result.returncode == 0, result.stderr
    modules = json.loads(result.stdout)["modules"]
    assert {"loss", "head.body.0.0", "backbone.stem.0"} <= {m["name"] for m in modules}
    assert [m["headroom"] for m in modules] == sorted(m["headroom"] for m in modules)
    largest = [max(m["input"], m["activation"]) for m in modules]
    wanted = [math.log2(65504 / most) if most else m["headroom"] for m, most in zip(modules, largest, strict=True)]
    assert [m["headroom"] for m in modules] == pytest.approx(wanted, abs=0.01)
    result = cli("train", synth_pages, "--epochs", "4", "--run-dir", "run", *small, "--set", "optimizer.lr=1e30", "--set",
                 "optimizer.grad_clip=0", "--set", "optimizer.warmup=0")  # fmt: skip
    assert result.returncode == 2
    assert "To see it again: ocrsdk precision replay run/nonfinite-step-1.ckpt" in result.stderr
    result = cli("precision", "replay", "run/nonfinite-step-1.ckpt")
    assert result.returncode == 0, result.stderr
    assert "is given is not finite" in result.stdout or "are not finite" in result.stdout
    result = cli("precision", "replay", "run/checkpoints/last.ckpt")
    assert result.returncode == 2


@pytest.mark.slow
def test_a_probe_refuses_weights_of_another_model(cli: CLI, synth_pages: Path, tmp_path: Path):
    metadata = make_metadata(DBNet(), {}, {}, {}, "fp32")
    state = {f"model.{name}": value for name, value in DBNet().state_dict().items()}
    torch.save({"ocrsdk": metadata, "state_dict": state}, tmp_path / "a.ckpt")
    small = ("--set", "data.crop=64", "--set", "data.short_side=96", "--set", "data.workers=0")
    result = cli("precision", "probe", synth_pages, "--checkpoint", "a.ckpt", "--set", "model.name=dbnet++", *small)
    assert result.returncode == 2
    assert "a.ckpt: a checkpoint of {'name': 'dbnet', 'backbone': 'mobilenet'}, but the settings ask for" in result.stderr
