"""Schedules against their closed forms, and which parameters decay."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ocrsdk.models.dbnet import DBNet
from ocrsdk.settings.sections import OptimizerSettings
from ocrsdk.training.optimizers import align_state, build_optimizer, lr_factor


@given(st.floats(-1, 2))
def test_without_warm_up_the_schedules_are_their_formulas(progress: float):
    inside = min(max(progress, 0), 1)
    cosine = lr_factor(progress, OptimizerSettings(schedule="cosine", warmup=0))
    poly = lr_factor(progress, OptimizerSettings(schedule="poly", warmup=0))
    assert cosine == pytest.approx(math.cos(math.pi * inside / 2) ** 2)
    assert poly == pytest.approx((1 - inside) ** 0.9)


@pytest.mark.parametrize("schedule", ["cosine", "poly"])
def test_the_rate_rises_then_falls_to_zero(schedule: str):
    spec = OptimizerSettings(schedule=schedule, warmup=0.1)
    rates = [lr_factor(i / 1000, spec) for i in range(1001)]
    top = rates.index(max(rates))
    assert 90 <= top <= 110
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert 0 < rates[0] < 0.02
    assert rates[-1] == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", ["muon", "adamw", "sgd"])
def test_biases_and_normalisation_do_not_decay(name: str):
    model = DBNet()
    groups = build_optimizer(model, OptimizerSettings(name=name, weight_decay=0.1)).param_groups
    decayed = [p for group in groups if group["weight_decay"] == 0.1 for p in group["params"]]
    free = [p for group in groups if group["weight_decay"] == 0 for p in group["params"]]
    own = build_optimizer(model, OptimizerSettings(name=name)).param_groups[0]
    assert own["weight_decay"] == {"muon": 0.3, "adamw": 0.3, "sgd": 1e-4}[name]
    norms = {id(p) for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d) for p in m.parameters()}
    biases = {id(p) for n, p in model.named_parameters() if n.endswith(".bias")}
    assert {id(p) for p in free} == norms | biases
    assert len(decayed) + len(free) == len(list(model.parameters()))


@pytest.mark.parametrize("name", ["muon", "adamw", "sgd"])
def test_a_state_from_another_memory_format_goes_on_as_it_was(name: str):
    torch.manual_seed(0)
    one, other = torch.nn.Conv2d(8, 4, 3), torch.nn.Conv2d(8, 4, 3)
    spec = OptimizerSettings(name=name, lr=0.01)
    image = torch.randn(2, 8, 9, 9)

    def update(model: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        model(image).square().sum().backward()
        optimizer.step()

    first = build_optimizer(one, spec)
    update(one, first)
    other.load_state_dict(one.state_dict())
    other.to(memory_format=torch.channels_last)
    second = build_optimizer(other, spec)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    align_state(second)
    update(one, first)
    update(other, second)
    assert not other.weight.is_contiguous()
    torch.testing.assert_close(other.weight, one.weight, rtol=1e-5, atol=1e-6)
