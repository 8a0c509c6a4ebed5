"""The profiler: exclusive times, and a verdict that names the bottleneck."""

from __future__ import annotations

import time

import pytest

from ocrsdk.training.profile import PhaseProfiler, verdict

SAMPLE = {"read": 6.0, "view": 3.0, "maps": 1.0}


def shares(**given: float) -> dict[str, float]:
    names = ("data wait", "to device", "forward", "backward", "optimizer", "validation", "logging")
    return {name: given.get(name.replace(" ", "_"), 0.0) for name in names}


def test_inner_actions_count_for_themselves_alone():
    profiler, begin = PhaseProfiler(), time.perf_counter()
    profiler.start("[Strategy]S.optimizer_step")
    time.sleep(0.02)
    profiler.start("[Strategy]S.training_step")
    profiler.start("[LightningModule]M.on_before_zero_grad")  # no phase of its own
    time.sleep(0.06)
    profiler.stop("[LightningModule]M.on_before_zero_grad")
    profiler.stop("[Strategy]S.training_step")
    time.sleep(0.02)
    profiler.stop("[Strategy]S.optimizer_step")
    taken, elapsed = profiler.take(), time.perf_counter() - begin
    assert taken["forward"] >= 0.06
    assert taken["optimizer"] >= 0.04
    assert taken["forward"] + taken["optimizer"] <= elapsed  # nothing counts twice
    assert taken["backward"] == 0
    assert sum(profiler.take().values()) == 0
    profiler.paused = True
    profiler.start("[Strategy]S.training_step")
    profiler.stop("[Strategy]S.training_step")
    assert sum(profiler.take().values()) == 0


@pytest.mark.parametrize(
    ("given", "workers", "cached", "wanted"),
    [
        (shares(data_wait=0.63, forward=0.2), 1, False, ["loader-bound: 63 % waiting", "60 % of making", "--workers 2", "--cache"]),
        (shares(data_wait=0.63, forward=0.2), 4, True, ["loader-bound", "faster disk"]),
        (shares(validation=0.5, forward=0.3), 1, True, ["validation-bound: 50 %", "trainer.validations"]),
        (shares(logging=0.1, forward=0.6), 1, True, ["logging takes 10 %", "logging.every_n_steps"]),
        (shares(data_wait=0.05, forward=0.3, backward=0.6), 1, True, ["compute-bound: forward 30 %, backward 60 %", "--precision"]),
    ],
)
def test_verdicts(given: dict[str, float], workers: int, cached: bool, wanted: list[str]):
    line = verdict(given, SAMPLE, workers, 4, cached).replace("%", " %").replace("  %", " %")
    assert "\n" not in line
    for part in wanted:
        assert part in line
