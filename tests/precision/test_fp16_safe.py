"""The strategy ``fp16-safe`` keeps the contract, is real fp16, and learns as much as fp32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ocrsdk.precision.bf16 import BF16
from ocrsdk.precision.fp16_safe import FP16Safe
from ocrsdk.precision.fp32 import FP32
from ocrsdk.testing.precision import PrecisionStrategySuite, batches, loader, small_module, small_trainer
from tests.precision.strategies import half


class TestFP16Safe(PrecisionStrategySuite):
    strategy = FP16Safe

    @pytest.mark.slow
    def test_learns(self, tmp_path: Path):
        super().test_learns(tmp_path)


def dtypes_inside(strategy: Any) -> set[torch.dtype]:
    """The formats in which the convolutions of a training step compute."""
    module, seen = small_module(strategy), set()
    for layer in module.model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _m, _a, output: seen.add(output.dtype))
    small_trainer(strategy, module).fit(module, loader(batches(1)))
    assert {p.dtype for p in module.model.parameters()} == {torch.float32}
    return seen


def test_fp16_on_a_cpu_is_fp16_and_bf16_is_bf16():
    assert dtypes_inside(half()) == {torch.float16}
    assert dtypes_inside(BF16(BF16.Options(force=True))) == {torch.bfloat16}
    assert dtypes_inside(FP32()) == {torch.float32}


def text_iou(strategy: Any) -> float:
    """Overlap of the text that a network of 200 updates finds on its own pages with the truth."""
    module = small_module(strategy, lr=4e-3)
    items = batches(2, size=4)
    trainer = small_trainer(strategy, module, epochs=100)
    module.progress = lambda: trainer.global_step / 200  # the learning rate falls, as in any run
    trainer.fit(module, loader(items))
    module.model.train()  # running statistics lag behind in so short a run
    overlap = union = 0.0
    with torch.no_grad():
        for batch in items:
            found = module.model(batch.image).prob_logits > 0
            truth = batch.targets.prob_map.bool()
            overlap, union = overlap + float((found & truth).sum()), union + float((found | truth).sum())
    return overlap / union


@pytest.mark.slow
def test_fp16_learns_as_much_as_fp32():
    full = text_iou(FP32())
    assert full > 0.9
    assert text_iou(half()) == pytest.approx(full, abs=0.01)
