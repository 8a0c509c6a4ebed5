"""The strategy keeps the contract; the rounding is right on average, and small updates are not lost."""

from __future__ import annotations

import pytest
import torch

from ocrsdk.testing.precision import PrecisionStrategySuite, batches, loader, small_module, small_trainer
from ocrsdk_stochastic import Bf16Stochastic, round_stochastically


class TestBf16Stochastic(PrecisionStrategySuite):
    strategy = Bf16Stochastic


@pytest.mark.parametrize("value", [1.001, -3.14159, 1e-20, 65000.7, 0.0])
def test_rounding_is_right_on_average_and_never_far(value: float):
    generator = torch.Generator().manual_seed(0)
    values = torch.full((200_000,), value)
    rounded = round_stochastically(values, generator).double()
    low, high = rounded.min().item(), rounded.max().item()
    assert low <= value <= high or value == 0
    assert abs(high - low) <= abs(value) / 127
    assert rounded.mean().item() == pytest.approx(value, rel=2e-5, abs=1e-30)


def test_what_bf16_holds_and_what_is_not_finite_stay():
    generator = torch.Generator().manual_seed(0)
    values = torch.tensor([1.0, -2.5, 0.0, float("inf"), float("-inf")])
    assert torch.equal(round_stochastically(values, generator).float(), values)
    assert round_stochastically(torch.tensor([float("nan")]), generator).isnan().all()


def test_small_updates_add_up():
    generator = torch.Generator().manual_seed(0)
    nearest = stochastic = torch.ones(1000, dtype=torch.bfloat16)
    for _ in range(1000):
        nearest = (nearest.float() + 1e-4).to(torch.bfloat16)
        stochastic = round_stochastically(stochastic.float() + 1e-4, generator)
    assert nearest.float().mean().item() == 1.0  # lost
    assert stochastic.float().mean().item() == pytest.approx(1.1, abs=0.01)


def test_weights_are_bf16_between_updates_and_the_optimizer_is_fp32():
    strategy = Bf16Stochastic()
    module = small_module(strategy)
    trainer = small_trainer(strategy, module)
    trainer.fit(module, loader(batches(2)))
    kinds = {p.dtype for p in module.model.parameters() if p.ndim > 1}
    assert kinds == {torch.bfloat16}
    states = trainer.optimizers[0].state.values()
    assert {value.dtype for state in states for value in state.values()} == {torch.float32}
