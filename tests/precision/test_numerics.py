"""Where numbers overflow, and which pin helps."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from ocrsdk.errors import NonFiniteError
from ocrsdk.precision.fp32 import FP32
from ocrsdk.precision.numerics import explain_nonfinite
from ocrsdk.testing.precision import batches, loader, small_module, small_trainer, spoiled
from tests.precision.strategies import half


def test_a_sum_that_overflows_between_modules_is_told_with_a_pin_that_helps(tmp_path: Path):
    def fit(**options: Any) -> None:
        strategy = half(max_skips=2, init_scale=1, **options)
        module = small_module(strategy, tmp_path)
        for lateral in module.model.neck.lateral:
            lateral.register_forward_hook(lambda _m, _a, output: output * 0 + 4e4)  # finite; the sum of two is not, in fp16
        small_trainer(strategy, module).fit(module, loader(batches(2)))

    with pytest.raises(NonFiniteError, match=r"is given has overflowed between the modules before it; keep neck in fp32"):
        fit()
    with pytest.raises(NonFiniteError, match="2 updates in a row") as caught:
        fit(fp32_modules=["neck"])
    assert "keep neck in fp32" not in str(caught.value)


@pytest.mark.slow
def test_weights_whose_gradient_overflows_first_are_named():
    """It sums over all pixels, so it does so long before the gradient of any activation."""
    strategy = half()
    module, (batch,) = small_module(strategy), batches(1, side=128)
    context = strategy.trainer_kwargs("cpu")["plugins"][0].forward_context
    for scale in (2.0**power for power in range(12, 30)):
        module.model.zero_grad()
        with context():
            output = module.model(batch.image)
            total = module.loss(output.prob_logits, output.thresh_logits, batch.targets).total
        (total * scale).backward()
        if broken := {n.rpartition(".")[0] for n, p in module.model.named_parameters() if not p.grad.isfinite().all()}:
            break
    where = explain_nonfinite(module.model, module.loss_of, [batch], context, scale)
    name = re.fullmatch(rf"the gradient of the weights of (\S+) \(\w+\) overflows \(loss scale {scale:g}\)", where)[1]
    assert name in broken
    assert explain_nonfinite(module.model, module.loss_of, [batch], context, scale / 2).startswith("it could not be repeated")


def test_without_autocast_no_pin_is_advised():
    module, (batch,) = small_module(FP32()), batches(1)
    told = explain_nonfinite(module.model, module.loss_of, [spoiled(batch)], contextlib.nullcontext)
    assert re.fullmatch(r"what backbone\.\S+ \(Conv2d\) is given is not finite", told)
    with torch.no_grad():
        module.model.head.body[1].bias.fill_(torch.nan)
    told = explain_nonfinite(module.model, module.loss_of, [batch], contextlib.nullcontext)
    assert re.fullmatch(r"the activations of head\.body\.1 \(\w+\) are not finite", told)
