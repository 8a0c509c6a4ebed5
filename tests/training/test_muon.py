"""Muon beside PyTorch's own (for matrices, in bfloat16), AdamW, and the singular value decomposition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ocrsdk.models.dbnet import DBNet
from ocrsdk.settings.sections import OptimizerSettings
from ocrsdk.training.muon import Muon, orthogonal
from ocrsdk.training.optimizers import build_optimizer


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1), st.floats(1e-20, 1e6))
def test_singular_vectors_stay_and_singular_values_become_one(rows: int, columns: int, seed: int, size: float):
    generator = torch.Generator().manual_seed(seed)
    u, _, v = torch.linalg.svd(torch.randn(rows, columns, generator=generator, dtype=torch.float64), full_matrices=False)
    values = 0.1 + 0.9 * torch.rand(min(rows, columns), generator=generator, dtype=torch.float64)
    found = u.T @ orthogonal(size * u @ torch.diag(values) @ v) @ v.T
    diagonal = found.diagonal()
    assert 0.6 < diagonal.min() <= diagonal.max() < 1.25
    torch.testing.assert_close(found, torch.diag(diagonal), atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [0.0, 1e-38, 1e-25, 1e-21, 1e-15, 1e15])
def test_float32_is_enough(size: float):
    torch.manual_seed(0)
    matrix = torch.randn(16, 40) * size
    update = orthogonal(matrix)
    assert update.isfinite().all()
    assert size < 1e-16 or (torch.linalg.svdvals(update) > 0.6).all()
    assert size > 0 or not update.any()


def test_products_may_be_rounded():
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(64, 300), full_matrices=False)
    matrix = u @ torch.diag(torch.logspace(0, -6, 64)) @ v
    values = torch.linalg.svdvals(orthogonal(matrix.bfloat16()).float())
    assert values.isfinite().all()
    assert values.max() < 1.4


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="PyTorch has a Muon of its own from 2.9 on")
def test_matrices_go_as_with_pytorchs_own():
    torch.manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(24, 40))
    theirs = torch.nn.Parameter(ours.detach().clone())
    group = {"params": [ours], "weight_decay": 0.3, "orthogonal": True}
    mine = Muon([group], lr=0.02, momentum=0.9)
    other = torch.optim.Muon([theirs], lr=0.02, momentum=0.9, weight_decay=0.3, nesterov=True, adjust_lr_fn="match_rms_adamw")
    start = ours.detach().clone()
    for _ in range(10):
        ours.grad = torch.randn(24, 40)
        theirs.grad = ours.grad.clone()
        mine.step()
        other.step()
    moved = (theirs - start).norm()
    assert moved > 1
    assert (ours - theirs).norm() < 0.02 * moved  # theirs rounds to bfloat16 within


def test_a_convolution_is_a_matrix_with_a_row_for_each_output():
    torch.manual_seed(0)
    conv = torch.nn.Parameter(torch.randn(8, 6, 3, 3).to(memory_format=torch.channels_last))
    matrix = torch.nn.Parameter(conv.detach().reshape(8, 54).clone())
    optimizers = [Muon([{"params": [p], "orthogonal": True}], lr=0.1, momentum=0.9) for p in (conv, matrix)]
    for _ in range(3):
        conv.grad = torch.randn(8, 6, 3, 3)
        matrix.grad = conv.grad.reshape(8, 54).clone()
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(conv.detach().reshape(8, 54), matrix.detach())


def test_the_other_groups_go_as_with_adamw():
    torch.manual_seed(0)
    ours = [torch.nn.Parameter(torch.randn(5)), torch.nn.Parameter(torch.randn(4, 1, 3, 3))]
    theirs = [torch.nn.Parameter(p.detach().clone()) for p in ours]
    optimizers = (
        Muon([{"params": ours, "weight_decay": 0.1}], lr=0.01, momentum=0.9),
        torch.optim.AdamW(theirs, lr=0.01, weight_decay=0.1),
    )
    for _ in range(5):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("backbone", ["mobilenet", "resnet18"])
def test_all_layers_but_depthwise_filters_and_the_last_are_made_orthogonal(backbone: str):
    model = DBNet(backbone=backbone)
    groups = build_optimizer(model, OptimizerSettings(name="muon"), model.head.last).param_groups
    found = {id(p) for group in groups if group["orthogonal"] for p in group["params"]}
    layers = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.ConvTranspose2d)]
    outputs = [model.head.body[1]] if backbone == "mobilenet" else [model.head.prob[-1], model.head.thresh[-1]]
    assert found == {id(m.weight) for m in layers if m.groups == 1 and m not in outputs}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    assert len(layers) > len(found) > 20


def test_a_restored_step_goes_to_the_device_of_its_parameter():
    parameter = torch.nn.Parameter(torch.zeros(3, device="meta"))
    state = {"step": torch.ones(()), "exp_avg": torch.zeros(3), "exp_avg_sq": torch.zeros(3)}
    optimizer = Muon([{"params": [parameter]}], lr=0.1, momentum=0.9)
    optimizer.load_state_dict({**optimizer.state_dict(), "state": {0: state}})
    assert {value.device.type for value in optimizer.state[parameter].values()} == {"meta"}
