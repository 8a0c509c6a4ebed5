"""Strategies that change the dtype of what is trained, and a suite that holds each to what it declares."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

import ocrsdk
from ocrsdk.testing.precision import PrecisionStrategySuite
from tests.conftest import CLI
from tests.packages import TWIN, install
from tests.training.runs import SMALL, start, wait_for_rows

FP64 = TWIN.replace("32-true", "64-true")


@pytest.mark.slow
def test_float64_trains_and_goes_on_bit_for_bit_after_a_kill(
    cli: CLI, tmp_path: Path, synth_pages: Path, monkeypatch: pytest.MonkeyPatch
):
    site = tmp_path / "site"
    site.mkdir()
    install(site, "twin", FP64)
    monkeypatch.setenv("PYTHONPATH", str(site))
    env = {"PYTHONPATH": str(site)}
    common = (synth_pages, "--precision", "twin", "--epochs", "4", *SMALL, "--set", "trainer.val_loss=true")
    result = cli("train", *common, "--run-dir", "whole", "--json", env=env)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["precision"] == "twin"
    process = start(tmp_path, *common, "--run-dir", "part", "--set", "trainer.save_every=0.001s")
    wait_for_rows(process, tmp_path / "part/metrics.jsonl", 4)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    result = cli("train", "--resume", "part", "--json", env=env)
    assert result.returncode == 0, result.stderr
    whole, part = (torch.load(tmp_path / run / "checkpoints/last.ckpt", weights_only=True) for run in ("whole", "part"))
    assert {value.dtype for value in whole["state_dict"].values() if value.is_floating_point()} == {torch.float64}
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, part["state_dict"][name]), name
    result = cli("evaluate", "whole/checkpoints/last.ckpt", synth_pages, "--json", env=env)
    assert result.returncode == 0, result.stderr


class Rounds(ocrsdk.PrecisionStrategy):
    """Autocast to bfloat16 that calls itself exact."""

    name = "rounds"
    summary = "says nothing of bfloat16"
    guards = "nothing"

    def check(self, device: str) -> None:
        pass

    def trainer_kwargs(self, device: str) -> dict[str, Any]:
        from pytorch_lightning.plugins.precision import MixedPrecision

        return {"plugins": [MixedPrecision("bf16-mixed", device)]}


class Suite(PrecisionStrategySuite):
    strategy = Rounds


Suite.__test__ = False  # type: ignore[attr-defined]


def test_a_strategy_that_rounds_and_calls_itself_exact_fails_the_suite(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    suite = Suite()
    with pytest.raises(AssertionError, match="which is more than it declares"):
        suite.test_numbers_are_as_it_declares()
    assert "rounds: deviates from fp32 by" in capsys.readouterr().out
    monkeypatch.setattr(Rounds, "deviation", 0.02)
    suite.test_numbers_are_as_it_declares()
