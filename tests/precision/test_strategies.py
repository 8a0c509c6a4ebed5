"""The built-in strategies: conformance, and the faults that half precision hides elsewhere."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from pytorch_lightning.callbacks import LambdaCallback
from structlog.testing import capture_logs
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from ocrsdk.errors import CheckpointError, NonFiniteError, PluginError, SettingsError
from ocrsdk.losses import DBLoss, DBLossParts
from ocrsdk.models.dbnet import DBNet, DBNetConfig
from ocrsdk.precision.auto import Auto
from ocrsdk.precision.base import Certified, SkipsUpdates
from ocrsdk.precision.bf16 import BF16, emulated
from ocrsdk.precision.fp16_safe import FP16Safe
from ocrsdk.precision.fp32 import FP32
from ocrsdk.precision.pinning import pin_to_fp32
from ocrsdk.precision.scaled import ScaledHalf
from ocrsdk.testing.precision import PrecisionStrategySuite, batches, loader, small_module, small_trainer, spoiled
from ocrsdk.training.numerics import module_ranges
from ocrsdk.training.replay import read_replay, write_replay
from ocrsdk.types import TargetMaps


class TestFP32(PrecisionStrategySuite):
    strategy = FP32


class TestFP16Safe(PrecisionStrategySuite):
    strategy = FP16Safe


class TestBF16(PrecisionStrategySuite):
    strategy = BF16
    options: ClassVar = {"force": True}


class TestAuto(PrecisionStrategySuite):
    strategy = Auto


def half(**options: Any) -> FP16Safe:
    return FP16Safe(FP16Safe.check_options(options, "precision.options"))


# ----------------------------------------------------------------- real fp16, never something else


def dtypes_inside(strategy: Any) -> set[torch.dtype]:
    """The formats in which the convolutions of a training step compute."""
    module, seen = small_module(strategy), set()
    for layer in module.model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _m, _a, output: seen.add(output.dtype))
    small_trainer(strategy, Path()).fit(module, loader(batches(1)))
    assert {p.dtype for p in module.model.parameters()} == {torch.float32}
    return seen


def test_fp16_on_a_cpu_is_fp16_and_bf16_is_bf16():
    assert dtypes_inside(half()) == {torch.float16}
    assert dtypes_inside(BF16(BF16.Options(force=True))) == {torch.bfloat16}
    assert dtypes_inside(FP32()) == {torch.float32}


def test_pinned_modules_run_in_fp32():
    strategy = half(fp32_modules=["neck", "backbone.stage?.0"])
    model = small_module(strategy).model
    seen: dict[str, torch.dtype] = {}
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _m, _a, output, name=name: seen.update({name: output.dtype}))
    with torch.autocast("cpu", dtype=torch.float16):
        output = model(batches(1)[0].image)
        assert torch.is_autocast_enabled("cpu")
    pinned = {name for name in seen if name.startswith("neck") or fnmatch(name, "backbone.stage?.0.*")}
    assert pinned
    assert {seen[name] for name in pinned} == {torch.float32}
    assert {seen[name] for name in seen if not name.startswith(("neck", "backbone"))} == {torch.float16}
    assert output.prob_logits.dtype == torch.float16
    output.prob_logits.float().sum().backward()
    with pytest.raises(SettingsError, match=r"'nek' matches no module of the model. Did you mean 'neck'"):
        pin_to_fp32(model, ["nek"])


def test_pinned_modules_leave_the_autocast_of_a_gpu_too():
    """The neck is given a list, from which no device can be told at a glance."""
    model, seen = DBNet(DBNetConfig()), []
    pin_to_fp32(model, ["neck"])
    for layer in model.neck.modules():
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda _m, _a, _o: seen.append(torch.is_autocast_enabled("cuda")))
    torch.set_autocast_enabled("cuda", True)
    try:
        model(batches(1)[0].image)
        assert torch.is_autocast_enabled("cuda")
    finally:
        torch.set_autocast_enabled("cuda", False)
    assert seen
    assert not any(seen)


def test_a_pin_is_undone_when_its_module_raises():
    model = nn.Sequential(nn.Linear(2, 2))
    pin_to_fp32(model, ["0"])
    with torch.autocast("cpu", dtype=torch.float16):
        with pytest.raises(RuntimeError):
            model(torch.ones(1, 3))
        assert torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(
    ("content", "native"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16\n", True),
        ("flags : fpu amx_bf16\n", True),
        ("Features\t: asimd bf16\n", True),
        ("flags : fpu avx512f\nmodel name: bf16\n", False),
    ],
)
def test_bf16_needs_hardware(tmp_path: Path, content: str, native: bool):
    (tmp_path / "cpuinfo").write_text(content)
    assert (emulated("cpu", tmp_path / "cpuinfo") == "") is native
    assert "does not tell" in emulated("cpu", tmp_path / "none")


def test_refusals_name_the_way_out():
    with pytest.raises(PluginError, match="fp16-safe runs on cuda and cpu, not on mps. Use: --precision fp32"):
        half().check("mps")
    with pytest.raises(PluginError, match=r"bf16 would only be emulated here.*Use: --precision fp32"):
        BF16().check("mps")
    BF16(BF16.Options(force=True)).check("mps")


# ------------------------------------------------------------------------- the loss


def test_loss_of_large_batch_equals_fp32():
    """F47: 8 x 640 x 640, where sums over a half-precision map overflow."""
    torch.manual_seed(0)
    model, loss = DBNet(DBNetConfig()), DBLoss()
    (batch,) = batches(1, side=640, size=8)
    with torch.no_grad():
        plain = model(batch.image)
        want = loss(plain.prob_logits, plain.thresh_logits, batch.targets)
        with half().trainer_kwargs("cpu")["plugins"][0].forward_context():
            low = model(batch.image)
            assert low.prob_logits.dtype == torch.float16
            found = loss(low.prob_logits, low.thresh_logits, batch.targets)
    assert found.total.dtype == torch.float32
    for name, value in want._asdict().items():
        assert float(found._asdict()[name]) == pytest.approx(float(value), rel=1e-3), name


class Recorder(TorchFunctionMode):
    """Every function of torch that is called, and whether autocast was on for it."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[str, bool, set[torch.dtype]]] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        floats = {a.dtype for a in args if isinstance(a, torch.Tensor) and a.is_floating_point()}
        self.calls.append((getattr(func, "__name__", str(func)), torch.is_autocast_enabled("cpu"), floats))
        return func(*args, **(kwargs or {}))


def test_the_loss_path_holds_under_the_stricter_rules_of_cuda():
    """``binary_cross_entropy`` raises under CUDA's autocast and runs under the CPU's; so does nothing here need autocast's help."""
    (batch,) = batches(1)
    module, from_logits = small_module(half()), [0]
    with torch.autocast("cpu", dtype=torch.float16), Recorder() as recorder:
        module.model.register_forward_hook(lambda *_: from_logits.__setitem__(0, len(recorder.calls)))
        module.training_step(batch, 0)
    computing = [call for call in recorder.calls[from_logits[0] :] if call[2] and call[0] not in ("to", "__get__", "detach")]
    assert len(computing) > 20
    assert {name for name, on, _ in computing if on} <= {"isfinite", "__bool__", "__float__"}
    assert not any(name == "binary_cross_entropy" for name, _, _ in recorder.calls)
    assert all(dtypes <= {torch.float32, torch.float64} for _, _, dtypes in computing)


def test_the_loss_leaves_the_autocast_of_its_own_device():
    """Under CUDA's autocast, with tensors that only pretend to be on a GPU."""
    seen = []

    class Watching(DBLoss):
        def _balanced_bce(self, *args: Any) -> Any:
            seen.append(torch.is_autocast_enabled("cuda"))
            return args[0].sum()

    with FakeTensorMode():
        logits, map_ = torch.empty(1, 1, 8, 8, device="cuda"), torch.empty(1, 1, 8, 8, device="cuda")
        torch.set_autocast_enabled("cuda", True)
        try:
            Watching()(logits, logits, TargetMaps(map_, map_, map_, map_))
        finally:
            torch.set_autocast_enabled("cuda", False)
    assert seen == [False]


# --------------------------------------------------------------- clipping, skipping, schedule


def test_gradients_are_unscaled_before_they_are_clipped_and_summed_over_batches(tmp_path: Path):
    """Same data, same weights: the gradient that reaches the optimizer is that of fp32, whatever the scale."""
    found = {}
    for name, strategy in (("fp32", FP32()), ("half", half(init_scale=2.0**10)), ("more", half(init_scale=2.0**13))):
        module = small_module(strategy)
        module.optimizer = replace(module.optimizer, grad_clip=0.5)
        norms: list[tuple[float, float]] = []
        original = module.configure_gradient_clipping

        def clip(optimizer: Any, original: Any = original, module: Any = module, norms: Any = norms, **kwargs: Any) -> None:
            grads = [p.grad for p in module.model.parameters()]
            before = float(torch.nn.utils.get_total_norm(grads))
            original(optimizer, **kwargs)
            norms.append((before, float(torch.nn.utils.get_total_norm(grads))))

        module.configure_gradient_clipping = clip
        small_trainer(strategy, tmp_path, accumulate_grad_batches=2).fit(module, loader(batches(2)))
        assert len(norms) == 1
        found[name] = norms[0]
        assert norms[0][1] <= 0.5 * 1.001
    assert found["fp32"][0] > 0.5  # else nothing was clipped
    assert found["half"][0] == pytest.approx(found["fp32"][0], rel=0.03)
    assert found["more"][0] == pytest.approx(found["half"][0], rel=0.03)


def test_f43_one_infinite_batch_is_one_update_left_out(tmp_path: Path):
    good = batches(4)
    strategy = half()
    module = small_module(strategy)
    trainer = small_trainer(strategy, tmp_path)
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
    assert (trainer.global_step, module.skipped_steps, module.skip_rate) == (3, 1, 0.25)
    assert trainer.precision_plugin.scale == 2.0**11
    counts = {int(state["step"]) for state in trainer.optimizers[0].state.values() if "step" in state}
    assert counts == {3}


def test_too_many_updates_left_out_stop_the_run_and_name_the_module(tmp_path: Path):
    strategy = half(max_skips=3, init_scale=1)
    module = small_module(strategy)
    with torch.no_grad():
        module.model.neck.lateral[1].weight.fill_(3e4)  # finite in fp16; its activations are not
    before = {name: value.clone() for name, value in module.model.state_dict().items()}
    trainer = small_trainer(strategy, tmp_path, epochs=9)
    with pytest.raises(
        NonFiniteError, match=r"3 updates in a row were left out, .* activations of neck.lateral.1 \(Conv2d\) overflow"
    ):
        trainer.fit(module, loader(batches(2)))
    assert trainer.global_step == 0
    for name, value in module.model.state_dict().items():
        assert torch.equal(value, before[name]), name
    ranges = module_ranges(module.model, module.loss, batches(1), contextlib.nullcontext)
    assert max(ranges, key=lambda r: r.activation).name.startswith(("neck", "head"))


def test_an_infinite_loss_with_finite_gradients_is_left_out(tmp_path: Path):
    """The scaler sees gradients only."""
    strategy = half()
    module = small_module(strategy)
    original, calls = module.loss.forward, []

    def forward(*args: Any) -> DBLossParts:
        calls.append(1)
        parts = original(*args)
        return parts._replace(total=parts.total + torch.inf) if len(calls) == 2 else parts

    module.loss.forward = forward
    small_trainer(strategy, tmp_path, accumulate_grad_batches=2).fit(module, loader(batches(4)))
    assert (module.global_step, module.skipped_steps) == (1, 1)


def test_a_sum_that_overflows_between_modules_is_told_with_a_pin_that_helps(tmp_path: Path):
    def fit(**options: Any) -> None:
        strategy = half(max_skips=2, init_scale=1, **options)
        module = small_module(strategy)
        for lateral in module.model.neck.lateral:
            lateral.register_forward_hook(lambda _m, _a, output: output * 0 + 4e4)  # finite; the sum of two is not, in fp16
        small_trainer(strategy, tmp_path).fit(module, loader(batches(2)))

    with pytest.raises(NonFiniteError, match=r"is given has overflowed between the modules before it; keep neck in fp32"):
        fit()
    with pytest.raises(NonFiniteError, match="2 updates in a row") as caught:
        fit(fp32_modules=["neck"])
    assert "keep neck in fp32" not in str(caught.value)


def test_a_bad_gradient_names_the_pages_of_all_its_batches(tmp_path: Path):
    module, trainer = small_module(FP32()), small_trainer(FP32(), tmp_path, accumulate_grad_batches=2)
    weight = next(module.model.neck.parameters())
    weight.register_hook(lambda g: g * torch.nan if trainer.global_step == 1 else g)
    names = "page-2-0.png, page-2-1.png, page-3-0.png, page-3-1.png"
    with pytest.raises(NonFiniteError, match=f"a gradient is nan at step 1 for {names}"):
        trainer.fit(module, loader(batches(4)))


class NaiveLoss(DBLoss):
    """As it stands in the paper, in whatever format the logits have: probabilities, logarithms, 1 / (1 + exp(-kx))."""

    def forward(self, prob_logits: Any, thresh_logits: Any, targets: Any) -> DBLossParts:
        prob, thresh = prob_logits.sigmoid(), thresh_logits.sigmoid()
        truth = targets.prob_map.to(prob.dtype)
        bce = -(truth * prob.log() + (1 - truth) * (1 - prob).log()).mean()
        binary = 1 / (1 + torch.exp(-self.k * (prob - thresh)))
        dice = 1 - 2 * (binary * truth).sum() / (binary.sum() + truth.sum() + 1e-6)
        total = 5 * bce + 10 * (thresh - targets.thresh_map).abs().mean() + dice
        return DBLossParts(total, bce.detach(), total.detach(), dice.detach())


def test_f42_the_naive_loss_in_fp16_ends_with_an_error_not_in_silence(tmp_path: Path):
    strategy = half()
    module = small_module(strategy)
    module.loss = NaiveLoss()
    with pytest.raises(NonFiniteError, match="10 updates in a row were left out.*(the loss is not|gradient of .* overflows)"):
        small_trainer(strategy, tmp_path, epochs=30).fit(module, loader(batches(2)))
    torch.manual_seed(0)
    fine = small_module(FP32())
    fine.loss = NaiveLoss()
    small_trainer(FP32(), tmp_path, epochs=2).fit(fine, loader(batches(2)))  # the same loss is right in fp32


def test_validation_before_training_costs_no_gradient(tmp_path: Path):
    """Autocast's cache of converted weights, filled under ``no_grad``, would cut the weights off."""
    strategy = half()
    module = small_module(strategy)
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
    module, trainer = small_module(strategy), small_trainer(strategy, tmp_path, epochs=2)
    trainer.fit(module, loader(batches(2)))
    assert trainer.precision_plugin.scale == 2.0**14
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = small_trainer(half(growth_interval=2), tmp_path, epochs=3)
    again.fit(small_module(strategy), loader(batches(2)), ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    assert again.precision_plugin.scale == 2.0**15


# ------------------------------------------------------------------------ stopping and replaying


@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("strategy", [FP32(), BF16(BF16.Options(force=True))], ids=["fp32", "bf16"])
def test_f44_nothing_changes_and_a_file_replays_it(tmp_path: Path, where: str, strategy: Any):
    good = batches(3)
    module, trainer = small_module(strategy), small_trainer(strategy, tmp_path)
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


def test_auto_takes_the_fastest_that_has_proved_itself():
    auto = Auto()
    assert auto.choose([])[0].name == "fp32"
    assert "holds a certificate" in auto.choose([])[1]
    slow, fast = Certified(half(), 0.4), Certified(BF16(), 1.9)
    assert auto.choose([slow])[0].name == "fp32"
    assert auto.choose([slow, fast])[0].name == "bf16"
    assert "1.90 times" in auto.choose([slow, fast])[1]


def test_the_plugin_keeps_the_contract():
    assert isinstance(ScaledHalf("cpu", 2.0**12, 2000, 10), SkipsUpdates)


def text_iou(strategy: Any, folder: Path) -> float:
    """Overlap of the text that a network of 200 updates finds on its own pages with the truth."""
    module = small_module(strategy, lr=4e-3)
    items = batches(2, size=4)
    trainer = small_trainer(strategy, folder, epochs=100)
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
def test_fp16_learns_as_much_as_fp32(tmp_path: Path):
    full = text_iou(FP32(), tmp_path)
    assert full > 0.9
    assert text_iou(half(), tmp_path) == pytest.approx(full, abs=0.01)
