"""Updates that are not finite are clipped, skipped, bounded and told; what stops a run can be replayed."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import LambdaCallback
from structlog.testing import capture_logs
from torch import nn

from ocrsdk.errors import CheckpointError, NonFiniteError
from ocrsdk.models.losses import DBLoss, DBLossParts
from ocrsdk.precision.bf16 import BF16
from ocrsdk.precision.fp32 import FP32
from ocrsdk.precision.numerics import explain_nonfinite, module_ranges
from ocrsdk.testing.precision import batches, loader, small_module, small_trainer, spoiled
from ocrsdk.training.replay import read_replay, write_replay
from tests.precision.strategies import half

# --------------------------------------------------------------- clipping, skipping, schedule


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


def test_a_bad_gradient_names_the_pages_of_all_its_batches(tmp_path: Path):
    module = small_module(FP32(), tmp_path)
    trainer = small_trainer(FP32(), module, accumulate_grad_batches=2)
    weight = next(module.model.neck.parameters())
    weight.register_hook(lambda g: g * torch.nan if trainer.global_step == 1 else g)
    names = "page-2-0.png, page-2-1.png, page-3-0.png, page-3-1.png"
    with pytest.raises(NonFiniteError, match=f"a gradient is nan at step 1 for {names}"):
        trainer.fit(module, loader(batches(4)))


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


# ------------------------------------------------------------------------ stopping and replaying


@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("strategy", [FP32(), BF16(BF16.Options(force=True))], ids=["fp32", "bf16"])
def test_f44_nothing_changes_and_a_file_replays_it(tmp_path: Path, where: str, strategy: Any):
    good = batches(3)
    module = small_module(strategy, tmp_path)
    trainer = small_trainer(strategy, module)
    items = [*good[:2], spoiled(good[2]) if where == "loss" else good[2]]
    if where == "gradient":
        weight = module.model.neck.smooth[0][0].weight if isinstance(module.model.neck.smooth[0], nn.Sequential) else None
        target = weight if weight is not None else next(module.model.neck.parameters())
        target.register_hook(lambda g: g * torch.inf if trainer.global_step == 2 else g)
    before: dict[str, torch.Tensor] = {}
    remember = LambdaCallback(
        on_train_batch_start=lambda *_: before.update({k: v.clone() for k, v in module.model.state_dict().items()})
    )
    trainer.callbacks.append(remember)
    told = rf"{'the loss' if where == 'loss' else 'a gradient'} is (nan|inf) at step 2 .*To see it again: ocrsdk precision replay "
    with pytest.raises(NonFiniteError, match=told + r".*nonfinite-step-2.ckpt"):
        trainer.fit(module, loader(items))
    replay = read_replay(tmp_path / "nonfinite-step-2.ckpt")
    assert replay.step == 2
    assert torch.equal(replay.batches[0].image, items[2].image) or where == "loss"
    for name, value in module.model.state_dict().items():
        assert torch.equal(before[name], value), name
        assert torch.equal(before[name], replay.state[name]), name


@pytest.mark.parametrize("part", ["batches", "message", "scale", "targets"])
def test_a_replay_with_a_part_missing_is_refused(tmp_path: Path, part: str):
    write_replay(tmp_path, small_module(FP32()), batches(1), "it was", 1.0)
    path = tmp_path / "nonfinite-step-0.ckpt"
    content = torch.load(path, weights_only=True)
    (content["replay"]["batches"][0] if part == "targets" else content["replay"]).pop(part)
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=f"a replay with parts missing or changed .*{part}"):
        read_replay(path)
