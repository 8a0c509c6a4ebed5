"""What the module computes: the loss in float32, and on whole validation pages."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode

from ocrsdk import Pipeline
from ocrsdk.data.folder import load_annotations
from ocrsdk.data.image import read_image
from ocrsdk.data.targets import draw_targets
from ocrsdk.data.transforms import EvalTransform
from ocrsdk.geometry import apply_matrix
from ocrsdk.loggers.rows import read_rows
from ocrsdk.models.checkpoint import load_checkpoint
from ocrsdk.models.losses import DBLoss
from ocrsdk.testing.precision import batches, small_module
from ocrsdk.types import TargetMaps
from tests.precision.strategies import half
from tests.training.runs import with_val_loss


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


def logged(run_dir: Path) -> dict[str, float]:
    (row,) = [row for row in read_rows(run_dir / "metrics.jsonl") if "val/hmean" in row]
    return {name: row[name] for name in ("val/loss", "val/bce", "val/l1", "val/dice")}


@pytest.mark.slow
def test_the_logged_loss_is_the_mean_over_whole_pages(tmp_path: Path, synth_pages: Path):
    run = Pipeline(with_val_loss(tmp_path, "drawn", "sample")).fit(synth_pages)
    model, transform = load_checkpoint(run.last_checkpoint).model, EvalTransform(96)
    annotations, _ = load_annotations(synth_pages / "val")
    losses = []
    for annotation in annotations:
        page, matrix = transform(read_image(annotation.image))
        polygons = [apply_matrix(polygon, matrix) for polygon in annotation.polygons]
        drawn = draw_targets(polygons, annotation.ignore, *page.shape[:2], run_spec(run.last_checkpoint))
        maps = (torch.from_numpy(m)[None, None] for m in (drawn.prob_map, drawn.prob_mask, drawn.thresh_map, drawn.thresh_mask))
        with torch.no_grad():
            output = model(torch.from_numpy(page.copy()).permute(2, 0, 1)[None], thresh=True)
            losses.append(torch.stack(DBLoss()(output.prob_logits, output.thresh_logits, TargetMaps(*maps))))
    expected = dict(zip(("val/loss", "val/bce", "val/l1", "val/dice"), torch.stack(losses).mean(0).tolist(), strict=True))
    assert logged(run.run_dir) == pytest.approx(expected, rel=1e-4)
    # and with kept maps: the first run makes them, the second finds them
    for name, hits in (("kept", False), ("found", True)):
        again = Pipeline(with_val_loss(tmp_path, name, "maps"))
        assert logged(again.fit(synth_pages).run_dir) == pytest.approx(expected, rel=1e-6)
        image = annotations[0].image
        counts = sum(counts.hits for v in again.cache.status().versions for counts, _ in v.sessions.values())
        assert (counts > 0) == hits
        assert {e.kind for e in again.cache.explain(image) if e.hit} == {"sample", "maps"}
    assert again.cache.validate(None).different == []
    assert again.cache.validate(None).compared == 6 + 2 + 2  # training pages; validation samples; their maps


def run_spec(checkpoint: Path) -> object:
    from ocrsdk.settings.sections import TargetSettings

    return TargetSettings(**load_checkpoint(checkpoint).settings["targets"])
