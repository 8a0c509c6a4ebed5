"""DBLoss against golden values in float64, and where half of the field produces NaN."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from ocrsdk.models.dbnet import DBNet
from ocrsdk.models.losses import DBLoss
from ocrsdk.settings.sections import LossSettings
from ocrsdk.testing.precision import batches
from ocrsdk.types import TargetMaps
from tests.conftest import GOLDEN
from tests.precision.strategies import half

EXPECTED = {case["name"]: case for case in json.loads((GOLDEN / "db_loss" / "expected.json").read_text())["cases"]}


def load(name: str) -> tuple[torch.Tensor, torch.Tensor, TargetMaps, dict[str, np.ndarray]]:
    data = dict(np.load(GOLDEN / "db_loss" / f"{name}.npz"))
    shape = data["prob_logit"].shape
    maps = (
        torch.from_numpy(np.asarray(data[key])).reshape(shape) for key in ("prob_map", "prob_mask", "thresh_map", "thresh_mask")
    )
    prob = torch.from_numpy(data["prob_logit"]).requires_grad_()
    thresh = torch.from_numpy(data["thresh_logit"]).requires_grad_()
    return prob, thresh, TargetMaps(*maps), data


@pytest.mark.parametrize("name", EXPECTED)
def test_parts_equal_the_reference(name: str):
    prob, thresh, maps, _ = load(name)
    loss = DBLoss()(prob, thresh, maps)
    case = EXPECTED[name]
    # The reference takes the logarithm of a sigmoid; with extreme logits only the oracle from logits is right.
    assert float(loss.bce) == pytest.approx(case["bce_exact_from_logits"], rel=1e-9, abs=1e-12)
    assert float(loss.l1) == pytest.approx(case["l1"], rel=1e-9, abs=1e-12)
    assert float(loss.dice) == pytest.approx(case["dice"], rel=1e-9, abs=1e-12)
    if name != "extreme_logits":
        assert float(loss.total.detach()) == pytest.approx(case["total"], rel=1e-9)


@pytest.mark.parametrize("name", [n for n in EXPECTED if n != "extreme_logits"])
def test_gradients_equal_the_reference(name: str):
    prob, thresh, maps, data = load(name)
    DBLoss()(prob, thresh, maps).total.backward()
    for tensor, key in ((prob, "grad_prob_logit"), (thresh, "grad_thresh_logit")):
        np.testing.assert_allclose(tensor.grad.numpy(), data[key].reshape(tensor.shape), atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", EXPECTED)
def test_finite_in_every_dtype(name: str, dtype: torch.dtype):
    prob, thresh, maps, _ = load(name)
    prob, thresh = (t.detach().to(dtype).requires_grad_() for t in (prob, thresh))
    loss = DBLoss()(prob, thresh, maps)
    assert loss.total.dtype == torch.float32
    loss.total.backward()
    for value in (loss.total, prob.grad, thresh.grad):
        assert torch.isfinite(value).all()


@pytest.mark.parametrize("name", ["no_text", "all_ignored"])
def test_pages_without_anything_to_learn_cost_one_and_teach_nothing(name: str):
    prob, thresh, maps, _ = load(name)
    loss = DBLoss()(prob, thresh, maps)
    loss.total.backward()
    assert float(loss.total.detach()) == 1
    assert prob.grad.abs().sum() == 0


@pytest.mark.parametrize("share", [0.001, 0.05, 0.2, 0.26])
@pytest.mark.parametrize("arrangement", ["random", "rounded", "rising", "striped", "constant"])
def test_the_hardest_negatives_are_kept(arrangement: str, share: float):
    """``striped``: every seventh pixel, those of which a sample is taken, is far above the others."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=60_000)
    logits = {
        "random": logits,
        "rounded": logits.round(1),
        "rising": np.sort(logits),
        "striped": np.where(np.arange(len(logits)) % 7 == 0, 100 + logits, logits),
        "constant": np.full_like(logits, 0.25),
    }[arrangement]
    truth = rng.random(len(logits)) < share
    seen = rng.random(len(logits)) < 0.9
    n_positive = int((truth & seen).sum())
    negatives = np.sort(logits[~truth & seen])[::-1]
    hardest = negatives[: 3 * n_positive]
    total = np.logaddexp(0, -logits[truth & seen]).sum() + np.logaddexp(0, hardest).sum()

    shape = (1, 1, 300, 200)
    prob = torch.from_numpy(logits).reshape(shape).requires_grad_()
    maps = [torch.from_numpy(m).reshape(shape).double() for m in (truth, seen, seen, seen)]
    bce = DBLoss(LossSettings(bce_weight=1, l1_weight=0, dice_weight=0))(
        prob, torch.zeros(shape, dtype=torch.float64), TargetMaps(*maps)
    ).total
    count = n_positive + len(hardest)
    assert float(bce.detach()) * (count + 1e-6) == pytest.approx(total, rel=1e-9)
    bce.backward()
    gradient = prob.grad.numpy().ravel() * (count + 1e-6)
    assert gradient[~truth & seen].sum() == pytest.approx((1 / (1 + np.exp(-hardest))).sum(), rel=1e-9)
    assert not gradient[~truth & seen & (logits < hardest[-1])].any()
    assert len(set(gradient[~truth & seen & (logits == hardest[-1])])) == 1  # the last places are shared
    assert not gradient[~seen].any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", ["sampled", "between samples", "ignored", "everywhere", "without text"])
def test_bad_logits_make_a_bad_total(where: str, bad: float):
    """A guard sees the total alone. Every seventh pixel of this map is in the sample that brackets the hardest negatives."""
    torch.manual_seed(0)
    prob, thresh = torch.randn(2, 1, 1, 300, 200)
    truth, seen = (torch.rand_like(prob) < 0.1).float(), torch.ones_like(prob)
    truth.view(-1)[:2] = 0
    pixels = {"sampled": slice(0, 1), "between samples": slice(1, 2), "everywhere": slice(None)}.get(where, slice(0, 1))
    prob.view(-1)[pixels] = bad
    if where == "ignored":
        seen.view(-1)[pixels] = 0
    if where == "without text":
        truth.zero_()
    total = DBLoss()(prob, thresh, TargetMaps(truth, seen, thresh, seen)).total
    assert not torch.isfinite(total)


def test_loss_leaves_autocast():
    prob, thresh, maps, _ = load("typical")
    plain = DBLoss()(prob, thresh, maps).total
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = DBLoss()(prob, thresh, maps).total
    assert inside.dtype == torch.float64
    assert float(inside.detach()) == float(plain.detach())


def test_ignored_pixels_have_no_say():
    prob, thresh, maps, _ = load("ignored_region")
    base = DBLoss()(prob, thresh, maps).total
    changed = torch.where(maps.prob_mask.bool(), prob, prob + 50)
    other = DBLoss(LossSettings(l1_weight=0))(changed, thresh, maps).total
    assert float(other.detach()) == pytest.approx(
        float(DBLoss(LossSettings(l1_weight=0))(prob, thresh, maps).total.detach()), rel=1e-12
    )
    assert float(base.detach()) > 0


@pytest.mark.slow
def test_f47_the_loss_of_a_large_batch_equals_fp32():
    """8 x 640 x 640, where sums over a half-precision map overflow."""
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
