"""Settings that contradict each other are refused before anything is written."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocrsdk import Pipeline, Settings
from ocrsdk.data.convert import convert
from ocrsdk.errors import DataError, SettingsError
from ocrsdk.runs.build import fingerprint_of
from ocrsdk.runs.check import read_folder, sources_or_root
from tests.training.runs import settings, with_val_loss


def test_maps_are_kept_for_the_loss_only(tmp_path: Path, synth_pages: Path):
    given = with_val_loss(tmp_path, "x", "maps")
    off = given.model_copy(update={"trainer": given.trainer.model_copy(update={"val_loss": False})})
    with pytest.raises(SettingsError, match="trainer.val_loss=true"):
        Pipeline(off).fit(synth_pages)
    assert not (tmp_path / "x").exists()


def test_several_sources_are_read_apart_and_trained_together(tmp_path: Path, synth_pages: Path):
    """Two formats; of the second, half of the two pages is drawn in each epoch."""
    convert(synth_pages / "val", tmp_path / "more", "coco")
    sources = [{"path": "train"}, {"path": str(tmp_path / "more"), "weight": 0.5}]
    given = settings(tmp_path / "run", 2, train=sources)
    train, val = read_folder(given, synth_pages, "header")
    assert [(report.images, report.formats) for report in train.reports] == [(6, ("icdar15", "icdar-poly")), (2, ("coco",))]
    assert [page.digest for page in train.annotations[6:]] == [page.digest for page in val.annotations]
    plan = Pipeline(given.model_copy(update={"data": given.data.model_copy(update={"root": synth_pages})})).plan()
    assert (plan.train_pages, plan.steps_per_epoch) == (8, 4)  # 7 samples, 2 in a batch
    assert [(source.pages, source.weight, source.drawn) for source in plan.sources] == [(6, 1, 6), (2, 0.5, 1)]
    assert Pipeline(given).fit(synth_pages).steps == 8


def test_wrong_sources_are_named(tmp_path: Path, synth_pages: Path):
    with pytest.raises(DataError, match="no nowhere/ in it"):
        read_folder(settings(None, train=["train", "nowhere"]), synth_pages, "header")
    with pytest.raises(SettingsError, match=r"data\.val: a weight has no meaning"):
        read_folder(settings(None, val=[{"path": "val", "weight": 2}]), synth_pages, "header")
    (tmp_path / "labels").mkdir()
    (tmp_path / "images").mkdir()
    (tmp_path / "images/a.png").write_bytes((synth_pages / "val/images/0000.png").read_bytes())
    (tmp_path / "labels/a.txt").write_text("1,2,3\n")
    with pytest.raises(DataError, match=r"a\.txt:1: 3 fields"):
        read_folder(settings(None, train=["train", {"path": str(tmp_path), "format": "icdar15"}]), synth_pages, "header")
    with pytest.raises(DataError, match=r"nowhere: no such file or folder, beside 1 other source"):
        sources_or_root(synth_pages, settings(None, train=["train", "nowhere"]).data.train, Settings().data)


def test_other_weights_and_another_order_are_other_data(synth_pages: Path):
    """What a resumed run is compared with: an index means another page where sources change places."""
    ways = (["train", "val"], ["val", "train"], [{"path": "train", "weight": 2}, "val"], ["train"])
    assert len({fingerprint_of(read_folder(settings(None, train=way), synth_pages, "header")) for way in ways}) == 4
