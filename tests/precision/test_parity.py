"""The parity gate: its statistics, what it refuses, and its three outcomes with real runs of real plug-ins."""

from __future__ import annotations

import json
import math
import re
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from ocrsdk import Pipeline, Settings
from ocrsdk.errors import DataError, OcrsdkError
from ocrsdk.models.checkpoint import make_metadata
from ocrsdk.models.dbnet import DBNet
from ocrsdk.precision.equivalence import equivalence
from ocrsdk.precision.gate import ArmRun, ratios, verdict
from tests.conftest import CLI
from tests.test_plugins import install

# ------------------------------------------------------------------------------ statistics


@given(st.lists(st.tuples(st.floats(20, 99), st.floats(20, 99)), min_size=2, max_size=8))
def test_the_interval_is_that_of_a_paired_t_test(pairs: list[tuple[float, float]]):
    base, cand = (np.array(side) for side in zip(*pairs, strict=True))
    found = equivalence(list(base), list(cand), 1.0)
    if np.ptp(cand - base) < 1e-6:
        assert found.low == pytest.approx(found.high, abs=1e-4)
        assert found.outcome == ("pass" if abs(np.mean(cand - base)) < 1e-6 else "inconclusive")
        return
    want = ttest_rel(cand, base).confidence_interval(0.9)
    assert found.low == pytest.approx(want.low, rel=1e-6, abs=1e-6)
    assert found.high == pytest.approx(want.high, rel=1e-6, abs=1e-6)
    tests = (ttest_rel(cand + 1, base, alternative="greater").pvalue, ttest_rel(cand - 1, base, alternative="less").pvalue)
    if all(abs(p - 0.05) > 1e-6 for p in tests):
        if max(tests) < 0.05:
            assert found.outcome == "pass"
        elif found.outcome == "pass":
            assert found.low > 0
    assert (found.outcome == "fail") == (found.high < -1)


@pytest.mark.parametrize(
    ("base", "cand", "outcome", "reason"),
    [
        ([90, 91, 92], [90, 91, 92], "pass", "within the margin of 1"),
        ([90.0, 91.0, 92.0], [89.8, 91.1, 91.9], "pass", "within the margin of 1"),
        ([90, 91, 92], [78.2, 79.3, 80.1], "fail", "all of it below -1"),
        ([90, 91, 92], [88, 93, 92], "inconclusive", "across the margin"),
        ([90, 91, 92], [93, 94.1, 95], "pass", "better"),
        ([90], [90], "inconclusive", "one seed"),
        ([90, 91], [89.5, 90.5], "inconclusive", "all differences are equal"),
        ([0, 0, 0], [0, 0, 0], "inconclusive", "the baseline learned too little"),
    ],
)
def test_outcomes(base: list[float], cand: list[float], outcome: str, reason: str):
    found = equivalence(base, cand, 1.0, least_score=10)
    assert found.outcome == outcome
    assert reason in found.reason


@given(st.lists(st.floats(20, 99), min_size=2, max_size=8), st.sampled_from([-30.0, -3.0, -0.5, 0.0, 0.1, 2.0]))
def test_equal_differences_have_one_outcome_however_they_are_rounded(base: list[float], shift: float):
    found = equivalence(base, [b + shift for b in base], 1.0)
    assert found.outcome == ("inconclusive" if shift else "pass")


def arm_run(arm: str, seed: int, hmean: float, stopped: str = "", speed: float | None = 10.0, memory: int = 100) -> ArmRun:
    return ArmRun(arm, arm, seed, hmean, "", speed, memory, stopped=stopped)


def test_a_stopped_run_fails_the_candidate_and_never_counts_for_the_baseline():
    base = [arm_run("baseline", s, 90) for s in range(3)]
    good = [arm_run("candidate", s, 90, speed=15.0, memory=60) for s in range(2)]
    broken = arm_run("candidate", 2, 0, "NaN", None, 0)
    assert verdict([*base, *good, broken], 1.0).outcome == "fail"
    assert ratios([*base, *good, broken]) == (1.5, 0.6)
    cold = replace(base[0], images_per_second=1.0)  # its run fills the cache
    assert ratios([cold, *base[1:], *good, broken]) == (1.5, 0.6)
    swapped = [replace(r, arm="baseline") for r in (*good, broken)] + [replace(r, arm="candidate") for r in base]
    assert verdict(swapped, 1.0).outcome == "inconclusive"


# --------------------------------------------------------------------- the gate, end to end

TWIN = """
from ocrsdk import hookimpl
from ocrsdk.precision.base import PrecisionStrategy

class Twin(PrecisionStrategy):
    name = "twin"
    summary = "fp32 under another name"
    guards = "nothing"
    def check(self, device): pass
    def trainer_kwargs(self, device): return {"precision": "32-true"}

@hookimpl
def ocrsdk_register_precision_strategies():
    return [Twin]
"""

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

    result = cli("precision", "check", "data", "--candidate", "twin", "--seeds", "2", "--epochs", "20", "--json", *sets, env=env)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["outcome"], report["difference"], report["low"], report["high"]) == ("pass", 0, 0, 0)
    assert report["runs"][0]["score"] > 10
    assert len(report["runs"][0]["losses"]) == 60
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

    result = cli("precision", "check", "data", "--candidate", "broken", "--seeds", "1", "--epochs", "20", *sets, env=env)
    assert result.returncode == 1, result.stderr
    assert "FAIL: " in result.stdout
    assert "certificate" not in result.stdout

    result = cli("precision", "check", "data", "--candidate", "twin", "--seeds", "1", "--epochs", "1", *sets, env=env)
    assert result.returncode == 3, result.stderr
    assert "INCONCLUSIVE: " in result.stdout


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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"margin": math.inf}, "margin=inf: expected more than 0 and at most 10"),
        ({"margin": -1}, "margin=-1: expected more than 0"),
        ({"margin": math.nan}, "margin=nan: expected more than 0"),
        ({"seeds": 0}, "seeds=0: expected 1 or more"),
        ({"epochs": -3}, "epochs=-3: expected 1 or more"),
        ({"candidate": "auto"}, "auto stands for a choice of strategies"),
        ({"candidate": "fp32"}, "proves nothing against itself"),
        ({"candidate": "fp8"}, "no precision strategy named 'fp8'. Installed: auto, bf16, fp16-safe, fp32."),
        ({"candidate": "16-mixed"}, "What Lightning calls 16-mixed is called fp16-safe"),
    ],
)
def test_the_check_refuses_before_it_trains(synth_pages: Path, tmp_path: Path, options: dict[str, Any], said: str):
    pipeline = Pipeline(Settings(trainer={"accelerator": "cpu"}, precision={"certificates": tmp_path / "held"}))
    with pytest.raises(OcrsdkError, match=re.escape(said)):
        pipeline.check_precision(synth_pages, out=tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


def test_the_command_refuses_alike(cli: CLI, synth_pages: Path, tmp_path: Path):
    result = cli("precision", "check", synth_pages, "--margin", "inf")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("error: --margin inf: expected")
    assert not (tmp_path / "runs").exists()


def test_a_probe_refuses_weights_of_another_model(cli: CLI, synth_pages: Path, tmp_path: Path):
    metadata = make_metadata(DBNet(), {}, {}, {}, "fp32")
    state = {f"model.{name}": value for name, value in DBNet().state_dict().items()}
    torch.save({"ocrsdk": metadata, "state_dict": state}, tmp_path / "a.ckpt")
    small = ("--set", "data.crop=64", "--set", "data.short_side=96", "--set", "data.workers=0")
    result = cli("precision", "probe", synth_pages, "--checkpoint", "a.ckpt", "--set", "model.name=dbnet++", *small)
    assert result.returncode == 2
    assert "a.ckpt: a checkpoint of {'name': 'dbnet', 'backbone': 'mobilenet'}, but the settings ask for" in result.stderr


LIAR = TWIN.replace("twin", "liar").replace("Twin", "Liar").replace("32-true", "16-mixed")


def test_a_strategy_that_would_become_another_on_a_cpu_is_refused(cli: CLI, synth_pages: Path, tmp_path: Path):
    site = tmp_path / "site"
    site.mkdir()
    install(site, "liar", LIAR)
    args = ("train", synth_pages, "--precision", "liar", "--set", "trainer.accelerator=cpu")
    result = cli(*args, env={"PYTHONPATH": str(site)})
    assert result.returncode == 2
    assert (
        "asks Lightning for 16-mixed, which on cpu would be bf16 without a loss scale. Use: --precision fp16-safe" in result.stderr
    )


@pytest.mark.slow
def test_a_run_in_which_every_update_was_left_out_is_an_error(cli: CLI, synth_pages: Path):
    small = ("--set", "data.crop=64", "--set", "data.short_side=96", "--set", "data.workers=0", "--set", "trainer.accelerator=cpu")
    result = cli("train", synth_pages, "--precision", "fp16-safe", "--epochs", "1", "--set", "loss.l1_weight=1e36", *small)
    assert result.returncode == 2
    assert "0 steps were made: all 1 updates were skipped" in result.stderr
    result = cli("precision", "check", synth_pages, "--candidate", "fp16-safe", "--seeds", "1", "--epochs", "1", "--json",
                 "--set", "precision.options.init_scale=65536", "--set", "loss.l1_weight=1e9", *small)  # fmt: skip
    assert result.returncode in (1, 3), result.stderr
    assert "0 steps were made" in json.loads(result.stdout)["runs"][1]["stopped"]


@pytest.mark.slow
def test_pages_that_change_under_way_end_the_check(synth_pages: Path, tmp_path: Path):
    pages = Path(shutil.copytree(synth_pages, tmp_path / "pages"))
    label = next((pages / "train/labels").iterdir())
    small = Settings(
        data={"crop": 64, "short_side": 96, "workers": 0},
        trainer={"accelerator": "cpu"},
        precision={"certificates": tmp_path / "held"},
    )

    def edit(*_: object) -> None:
        label.write_text(label.read_text() + "1,1,30,1,30,12,1,12,more\n")

    with pytest.raises(DataError, match="pages: changed while the check was under way"):
        Pipeline(small).precision.check(pages, "fp16-safe", seeds=1, epochs=1, out=tmp_path / "out", on_run=edit)


@pytest.mark.slow
def test_a_page_that_is_gone_at_the_end_costs_no_report(synth_pages: Path, tmp_path: Path):
    pages = Path(shutil.copytree(synth_pages, tmp_path / "pages"))
    small = Settings(
        data={"crop": 64, "short_side": 96, "workers": 0},
        trainer={"accelerator": "cpu"},
        precision={"certificates": tmp_path / "held"},
    )

    def remove(_: object, number: int, of: int) -> None:
        if number == of:
            shutil.rmtree(pages)

    report = Pipeline(small).precision.check(pages, "fp16-safe", seeds=1, epochs=1, out=tmp_path / "out", on_run=remove)
    assert report.ranges == []
    assert json.loads((tmp_path / "out/report.json").read_text())["outcome"] == "inconclusive"


@pytest.mark.slow
def test_a_check_that_is_terminated_ends_its_training(cli: CLI, synth_pages: Path, tmp_path: Path):
    command = [sys.executable, "-m", "ocrsdk", "precision", "check", synth_pages, "--candidate", "fp16-safe", "--epochs", "1000"]
    process = psutil.Popen([*map(str, command), "--set", "data.workers=0"], cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not (children := process.children()) and time.monotonic() < deadline:
        time.sleep(0.1)
    process.terminate()
    assert process.wait(30) == 143
    assert psutil.wait_procs(children, 10)[1] == []
