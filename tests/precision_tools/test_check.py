"""The gate's three outcomes with real runs of real plug-ins."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.conftest import CLI
from tests.packages import TWIN, install

BROKEN = """
import torch
from ocrsdk import hookimpl
from ocrsdk.precision.base import PrecisionStrategy

class Broken(PrecisionStrategy):
    name = "broken"
    summary = "the loss in fp16, a static scale"
    guards = "nothing"
    def check(self, device): pass
    def trainer_kwargs(self, device):
        from pytorch_lightning.plugins.precision import MixedPrecision
        scaler = torch.amp.GradScaler(device, init_scale=65536.0, growth_factor=1.0001, backoff_factor=0.9999)
        return {"plugins": [MixedPrecision("16-mixed", device, scaler)]}
    def prepare(self, model):
        from ocrsdk.models.losses import DBLoss, DBLossParts
        def naive(self, prob_logits, thresh_logits, targets):
            p, t = prob_logits.half().sigmoid(), thresh_logits.half().sigmoid()
            y = targets.prob_map.half()
            bce = -(y * p.log() + (1 - y) * (1 - p).log()).sum() / y.numel()
            b = 1 / (1 + torch.exp(-50 * (p - t)))
            total = 5 * bce + 1 - 2 * (b * y).sum() / (b.sum() + y.sum())
            return DBLossParts(total.float(), bce.detach(), bce.detach(), bce.detach())
        DBLoss.forward = naive

@hookimpl
def ocrsdk_register_precision_strategies():
    return [Broken]
"""


def draw_blocks(folder: Path, count: int, seed: int) -> None:
    """Pages of three dark blocks each, which a network learns to find in a minute."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    for i in range(count):
        page = np.full((160, 160, 3), 220, np.uint8) + rng.integers(0, 20, (160, 160, 3), dtype=np.uint8)
        lines = []
        for row in range(3):
            x, y = int(rng.integers(5, 60)), 10 + row * 50 + int(rng.integers(0, 12))
            w, h = int(rng.integers(50, 90)), int(rng.integers(18, 28))
            cv2.rectangle(page, (x, y), (x + w, y + h), (20, 20, 20), -1)
            lines.append(f"{x},{y},{x + w},{y},{x + w},{y + h},{x},{y + h},word\n")
        cv2.imwrite(str(folder / "images" / f"{i}.png"), page)
        (folder / "labels" / f"{i}.txt").write_text("".join(lines))


@pytest.mark.slow
def test_the_gate_passes_a_twin_fails_a_broken_strategy_and_doubts_a_short_look(cli: CLI, tmp_path: Path):
    site = tmp_path / "site"
    site.mkdir()
    install(site, "twin", TWIN)
    install(site, "broken", BROKEN)
    draw_blocks(tmp_path / "data/train", 12, 0)
    draw_blocks(tmp_path / "data/val", 4, 1)
    env = {"PYTHONPATH": str(site), "XDG_DATA_HOME": str(tmp_path / "share"), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    sets = []
    for pair in (
        "data.short_side=160", "data.crop=128", "data.batch_size=4", "data.workers=0", "augment.scale_min=0.8",
        "augment.scale_max=1.0", "optimizer.lr=0.02",
    ):  # fmt: skip
        sets += ["--set", pair]

    result = cli("precision", "check", "data", "--candidate", "twin", "--seeds", "2", "--epochs", "14", "--json", *sets, env=env)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["outcome"], report["difference"], report["low"], report["high"]) == ("pass", 0, 0, 0)
    assert report["runs"][0]["score"] > 10
    assert len(report["runs"][0]["losses"]) == 42
    assert report["runs"][0]["losses"] == report["runs"][1]["losses"]  # same seed, same order of data
    assert report["runs"][0]["losses"] != report["runs"][2]["losses"]
    folder = tmp_path / report["folder"]
    assert json.loads((folder / "report.json").read_text()) == report
    assert cv2.imread(str(folder / "report.png")).std() > 10

    held = json.loads(cli("precision", "certificates", "--json", env=env).stdout)
    assert [c["binding"]["strategy"] for c in held] == ["twin"]
    assert held[0]["binding"]["versions"]["ocrsdk-twin"] == "1.0"
    train = ("train", "data", "--epochs", "1", *sets)
    result = cli(*train, "--precision", "twin", "--run-dir", "a", env=env)
    assert "twin is validated for this model, data and device" in result.stderr
    assert "not validated" not in result.stderr + result.stdout
    result = cli(*train, "--precision", "twin", "--run-dir", "b", "--set", "model.name=dbnet++", env=env)
    assert result.stderr.count("twin is not validated for this model on this device") == 1
    assert "ocrsdk precision check --config b/settings.yaml --candidate twin" in result.stderr
    assert 'model.name: "dbnet" -> "dbnet++"' in result.stderr
    result = cli(*train, "--precision", "twin", "--set", "model.name=dbnet++", env=env)
    (named,) = re.findall(r"precision check --config (\S+)/settings.yaml", result.stderr)
    assert (tmp_path / named / "settings.yaml").is_file()  # named by the second in which it was made
    result = cli("train", "--resume", "a", "--precision", "fp32", "--epochs", "2", env=env)
    assert result.returncode == 2
    assert "was trained with precision twin, the settings say fp32" in result.stderr
    result = cli("train", "--resume", "a", "--precision", "fp32", "--epochs", "2", "--allow-precision-change", env=env)
    assert result.returncode == 0, result.stderr

    result = cli("precision", "check", "data", "--candidate", "broken", "--seeds", "1", "--epochs", "14", *sets, env=env)
    assert result.returncode == 1, result.stderr
    assert "FAIL: " in result.stdout
    assert "certificate" not in result.stdout

    result = cli("precision", "check", "data", "--candidate", "twin", "--seeds", "1", "--epochs", "1", *sets, env=env)
    assert result.returncode == 3, result.stderr
    assert "INCONCLUSIVE: " in result.stdout


@pytest.mark.slow
def test_f65_a_run_in_which_every_update_was_left_out_is_an_error(cli: CLI, synth_pages: Path):
    small = ("--set", "data.crop=64", "--set", "data.short_side=96", "--set", "data.workers=0", "--set", "trainer.accelerator=cpu")
    result = cli("train", synth_pages, "--precision", "fp16-safe", "--epochs", "1", "--set", "loss.l1_weight=1e36", *small)
    assert result.returncode == 2
    assert "0 steps were made: all 1 updates were skipped" in result.stderr
    result = cli("precision", "check", synth_pages, "--candidate", "fp16-safe", "--seeds", "1", "--epochs", "1", "--json",
                 "--set", "precision.options.init_scale=65536", "--set", "loss.l1_weight=1e9", *small)  # fmt: skip
    assert result.returncode in (1, 3), result.stderr
    assert "0 steps were made" in json.loads(result.stdout)["runs"][1]["stopped"]
