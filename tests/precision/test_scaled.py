"""fp16 with a loss scale, as Lightning uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ocrsdk.precision.base import SkipsUpdates
from ocrsdk.precision.fp32 import FP32
from ocrsdk.precision.scaled import ScaledHalf
from ocrsdk.testing.precision import batches, loader, small_module, small_trainer
from tests.precision.strategies import half


def test_gradients_are_unscaled_before_they_are_clipped_and_summed_over_batches(tmp_path: Path):
    """Same data, same weights: the gradient that reaches the optimizer is that of fp32, whatever the scale."""
    found = {}
    for name, strategy in (("fp32", FP32()), ("half", half(init_scale=2.0**10)), ("more", half(init_scale=2.0**13))):
        module = small_module(strategy, tmp_path)
        module.optimizer = module.optimizer.model_copy(update={"grad_clip": 0.5})
        norms: list[tuple[float, float]] = []
        original = module.configure_gradient_clipping

        def clip(optimizer: Any, original: Any = original, module: Any = module, norms: Any = norms, **kwargs: Any) -> None:
            grads = [p.grad for p in module.model.parameters()]
            before = float(torch.nn.utils.get_total_norm(grads))
            original(optimizer, **kwargs)
            norms.append((before, float(torch.nn.utils.get_total_norm(grads))))

        module.configure_gradient_clipping = clip
        small_trainer(strategy, module, accumulate_grad_batches=2).fit(module, loader(batches(2)))
        assert len(norms) == 1
        found[name] = norms[0]
        assert norms[0][1] <= 0.5 * 1.001
    assert found["fp32"][0] > 0.5  # else nothing was clipped
    assert found["half"][0] == pytest.approx(found["fp32"][0], rel=0.03)
    assert found["more"][0] == pytest.approx(found["half"][0], rel=0.03)


def test_validation_before_training_costs_no_gradient(tmp_path: Path):
    """Autocast's cache of converted weights, filled under ``no_grad``, would cut the weights off."""
    strategy = half()
    module = small_module(strategy, tmp_path)
    plugin = strategy.trainer_kwargs("cpu")["plugins"][0]
    (batch,) = batches(1)
    with plugin.forward_context():
        assert not torch.is_autocast_cache_enabled()  # only a GPU's would show below
        with torch.no_grad():
            module.model(batch.image)
        output = module.model(batch.image)
        total = module.loss(output.prob_logits, output.thresh_logits, batch.targets).total
    total.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for n, p in module.model.named_parameters() if n.endswith("0.weight"))


def test_the_scale_is_part_of_the_checkpoint(tmp_path: Path):
    strategy = half(growth_interval=2)
    module = small_module(strategy, tmp_path)
    trainer = small_trainer(strategy, module, epochs=2)
    trainer.fit(module, loader(batches(2)))
    assert trainer.precision_plugin.scale == 2.0**14
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    rest = small_module(strategy, tmp_path)
    again = small_trainer(half(growth_interval=2), rest, epochs=3)
    again.fit(rest, loader(batches(2)), ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    assert again.precision_plugin.scale == 2.0**15


def test_the_plugin_keeps_the_contract():
    assert isinstance(ScaledHalf("cpu", 2.0**12, 2000, 10), SkipsUpdates)
