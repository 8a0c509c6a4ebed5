"""Schedules against their closed forms, and which parameters decay."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ocrsdk.models.dbnet import DBNet
from ocrsdk.training.optimizers import OptimizerSpec, build_optimizer, lr_factor


@given(st.floats(-1, 2))
def test_without_warm_up_the_schedules_are_their_formulas(progress: float):
    inside = min(max(progress, 0), 1)
    cosine = lr_factor(progress, OptimizerSpec(schedule="cosine", warmup=0))
    poly = lr_factor(progress, OptimizerSpec(schedule="poly", warmup=0))
    assert cosine == pytest.approx(math.cos(math.pi * inside / 2) ** 2)
    assert poly == pytest.approx((1 - inside) ** 0.9)


@pytest.mark.parametrize("schedule", ["cosine", "poly"])
def test_the_rate_rises_then_falls_to_zero(schedule: str):
    spec = OptimizerSpec(schedule=schedule, warmup=0.1)
    rates = [lr_factor(i / 1000, spec) for i in range(1001)]
    top = rates.index(max(rates))
    assert 90 <= top <= 110
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert 0 < rates[0] < 0.02
    assert rates[-1] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_biases_and_normalisation_do_not_decay(name: str):
    model = DBNet()
    decayed, free = build_optimizer(model, OptimizerSpec(name=name, weight_decay=0.1)).param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    own = build_optimizer(model, OptimizerSpec(name=name)).param_groups[0]
    assert own["weight_decay"] == {"adamw": 0.3, "sgd": 1e-4}[name]
    norms = {id(p) for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d) for p in m.parameters()}
    biases = {id(p) for n, p in model.named_parameters() if n.endswith(".bias")}
    assert {id(p) for p in free["params"]} == norms | biases
    assert len(decayed["params"]) + len(free["params"]) == len(list(model.parameters()))
