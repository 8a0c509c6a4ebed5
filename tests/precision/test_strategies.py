"""The built-in strategies: conformance, and the faults that half precision hides elsewhere."""

from __future__ import annotations

from fnmatch import fnmatch
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode

from ocrsdk.errors import PluginError, SettingsError
from ocrsdk.models.dbnet import DBNet
from ocrsdk.models.losses import DBLoss
from ocrsdk.precision.auto import Auto
from ocrsdk.precision.base import Certified, SkipsUpdates
from ocrsdk.precision.bf16 import BF16, emulated
from ocrsdk.precision.fp16_safe import FP16Safe
from ocrsdk.precision.fp32 import FP32
from ocrsdk.precision.pinning import pin_to_fp32
from ocrsdk.precision.scaled import ScaledHalf
from ocrsdk.testing.precision import PrecisionStrategySuite, batches, loader, small_module, small_trainer
from ocrsdk.types import TargetMaps
from tests.precision.strategies import half


class TestFP32(PrecisionStrategySuite):
    strategy = FP32


class TestFP16Safe(PrecisionStrategySuite):
    strategy = FP16Safe


class TestBF16(PrecisionStrategySuite):
    strategy = BF16
    options: ClassVar = {"force": True}


class TestAuto(PrecisionStrategySuite):
    strategy = Auto


# ----------------------------------------------------------------- real fp16, never something else


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
    model, seen = DBNet(), []
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
    model, loss = DBNet(), DBLoss()
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
