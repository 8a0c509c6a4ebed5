"""The loss on validation pages is the loss of whole pages, with target maps drawn anew or kept."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ocrsdk import Pipeline, Settings
from ocrsdk.data.folder import load_annotations
from ocrsdk.data.image import read_image
from ocrsdk.data.targets import draw_targets
from ocrsdk.data.transforms import EvalTransform
from ocrsdk.errors import SettingsError
from ocrsdk.geometry import apply_matrix
from ocrsdk.loggers.rows import read_rows
from ocrsdk.models.checkpoint import load_checkpoint
from ocrsdk.models.losses import DBLoss
from ocrsdk.types import TargetMaps


def settings(tmp_path: Path, name: str, policy: str) -> Settings:
    return Settings(
        run_dir=tmp_path / name,
        data={"crop": 64, "batch_size": 2, "workers": 0, "short_side": 96},
        targets={"min_text_size": 1},
        trainer={"epochs": 1, "validations": 1, "accelerator": "cpu", "overlays": 0, "val_loss": True},
        cache={"dir": tmp_path / "cache", "policy": policy},
    )


def logged(run_dir: Path) -> dict[str, float]:
    (row,) = [row for row in read_rows(run_dir / "metrics.jsonl") if "val/hmean" in row]
    return {name: row[name] for name in ("val/loss", "val/bce", "val/l1", "val/dice")}


@pytest.mark.slow
def test_the_logged_loss_is_the_mean_over_whole_pages(tmp_path: Path, synth_pages: Path):
    run = Pipeline(settings(tmp_path, "drawn", "sample")).fit(synth_pages)
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
        again = Pipeline(settings(tmp_path, name, "maps"))
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


def test_maps_are_kept_for_the_loss_only(tmp_path: Path, synth_pages: Path):
    given = settings(tmp_path, "x", "maps")
    off = given.model_copy(update={"trainer": given.trainer.model_copy(update={"val_loss": False})})
    with pytest.raises(SettingsError, match="trainer.val_loss=true"):
        Pipeline(off).fit(synth_pages)
    assert not (tmp_path / "x").exists()


def test_another_shrink_ratio_is_another_version_and_explained(tmp_path: Path, synth_pages: Path):
    given = settings(tmp_path, "x", "maps")
    assert Pipeline(given).cache.warm(synth_pages).new == 10
    assert Pipeline(given).cache.warm(synth_pages).hits == 10
    image = sorted((synth_pages / "val/images").iterdir())[0]
    other = given.model_copy(update={"targets": given.targets.model_copy(update={"shrink_ratio": 0.5})})
    assert [(e.kind, e.hit) for e in Pipeline(other).cache.explain(image)] == [("image", False), ("sample", False), ("maps", False)]
    (_, _, maps) = Pipeline(other).cache.explain(image)
    assert "version.maps.shrink_ratio: 0.4 -> 0.5" in maps.changed
    batch = given.model_copy(update={"data": given.data.model_copy(update={"batch_size": 4})})
    assert [e.hit for e in Pipeline(batch).cache.explain(image)] == [
        False,
        True,
        True,
    ]  # the page itself is kept for training alone
