"""Updates that are not finite are left out, bounded and told."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import LambdaCallback
from structlog.testing import capture_logs

from ocrsdk.errors import NonFiniteError
from ocrsdk.models.losses import DBLoss, DBLossParts
from ocrsdk.precision.fp32 import FP32
from ocrsdk.precision.numerics import module_ranges
from ocrsdk.testing.precision import batches, loader, small_module, small_trainer, spoiled
from tests.precision.strategies import half


def test_f43_one_infinite_batch_is_one_update_left_out(tmp_path: Path):
    good = batches(4)
    strategy = half()
    module = small_module(strategy, tmp_path)
    trainer = small_trainer(strategy, module)
    steps: list[int] = []
    scheduled: list[int] = []

    def after(*_args: Any) -> None:
        steps.append(trainer.global_step)
        scheduled.append(module.lr_schedulers().last_epoch)

    trainer.callbacks.append(LambdaCallback(on_train_batch_end=after))
    with capture_logs() as logs:
        trainer.fit(module, loader([good[0], spoiled(good[1]), good[2], good[3]]))
    (warning,) = [entry for entry in logs if entry["log_level"] == "warning"]
    assert (warning["step"], warning["samples"], warning["scale"]) == (1, "page-1-0.png, page-1-1.png", 2.0**11)
    assert steps == [1, 1, 2, 3]
    assert scheduled == [1, 1, 2, 3]
    assert (trainer.global_step, module.guard.skipped_steps, module.guard.skip_rate) == (3, 1, 0.25)
    assert trainer.precision_plugin.scale == 2.0**11
    counts = {int(state["step"]) for state in trainer.optimizers[0].state.values() if "step" in state}
    assert counts == {3}


def test_too_many_updates_left_out_stop_the_run_and_name_the_module(tmp_path: Path):
    strategy = half(max_skips=3, init_scale=1)
    module = small_module(strategy, tmp_path)
    with torch.no_grad():
        module.model.neck.lateral[1].weight.fill_(3e4)  # finite in fp16; its activations are not
    before = {name: value.clone() for name, value in module.model.state_dict().items()}
    trainer = small_trainer(strategy, module, epochs=9)
    with pytest.raises(
        NonFiniteError, match=r"3 updates in a row were skipped, .* activations of neck.lateral.1 \(Conv2d\) overflow"
    ):
        trainer.fit(module, loader(batches(2)))
    assert trainer.global_step == 0
    for name, value in module.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    ranges = module_ranges(module.model, module.loss_of, batches(1), contextlib.nullcontext)
    assert max(ranges, key=lambda r: r.activation).name.startswith(("neck", "head"))


@pytest.mark.slow
def test_updates_left_out_count_as_such_when_no_scale_is_left(tmp_path: Path):
    """Two to the power of -149 is the smallest number; half of it is nothing, and nothing is no smaller."""
    strategy = half(max_skips=200, init_scale=1)
    module = small_module(strategy, tmp_path)
    before = {name: value.clone() for name, value in module.model.state_dict().items()}
    with pytest.raises(NonFiniteError, match="200 updates in a row were skipped"):
        small_trainer(strategy, module, epochs=300).fit(module, loader([spoiled(batches(1, side=32)[0])]))
    for name, value in module.model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_an_infinite_loss_with_finite_gradients_is_left_out(tmp_path: Path):
    """The scaler sees gradients only."""
    strategy = half()
    module = small_module(strategy, tmp_path)
    original, calls = module.loss.forward, []

    def forward(*args: Any) -> DBLossParts:
        calls.append(1)
        parts = original(*args)
        return parts._replace(total=parts.total + torch.inf) if len(calls) == 2 else parts

    module.loss.forward = forward
    small_trainer(strategy, module, accumulate_grad_batches=2).fit(module, loader(batches(4)))
    assert (module.global_step, module.guard.skipped_steps) == (1, 1)


class NaiveLoss(DBLoss):
    """As it stands in the paper, in whatever format the logits have: probabilities, logarithms, 1 / (1 + exp(-kx))."""

    def forward(self, prob_logits: Any, thresh_logits: Any, targets: Any) -> DBLossParts:
        prob, thresh = prob_logits.sigmoid(), thresh_logits.sigmoid()
        truth = targets.prob_map.to(prob.dtype)
        bce = -(truth * prob.log() + (1 - truth) * (1 - prob).log()).mean()
        binary = 1 / (1 + torch.exp(-self.settings.k * (prob - thresh)))
        dice = 1 - 2 * (binary * truth).sum() / (binary.sum() + truth.sum() + 1e-6)
        total = 5 * bce + 10 * (thresh - targets.thresh_map).abs().mean() + dice
        return DBLossParts(total, bce.detach(), total.detach(), dice.detach())


def test_f42_the_naive_loss_in_fp16_ends_with_an_error_not_in_silence(tmp_path: Path):
    strategy = half()
    module = small_module(strategy, tmp_path)
    module.loss = NaiveLoss()
    with pytest.raises(NonFiniteError, match="10 updates in a row were skipped.*(the loss is not|gradient of .* overflows)"):
        small_trainer(strategy, module, epochs=30).fit(module, loader(batches(2)))
    torch.manual_seed(0)
    fine = small_module(FP32(), tmp_path)
    fine.loss = NaiveLoss()
    small_trainer(FP32(), fine, epochs=2).fit(fine, loader(batches(2)))  # the same loss is right in fp32
