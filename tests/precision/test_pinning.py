"""Pinned modules compute in fp32."""

from __future__ import annotations

from fnmatch import fnmatch

import pytest
import torch
from torch import nn

from ocrsdk.errors import SettingsError
from ocrsdk.models.dbnet import DBNet
from ocrsdk.precision.pinning import pin_to_fp32
from ocrsdk.testing.precision import batches, small_module
from tests.precision.strategies import half


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
