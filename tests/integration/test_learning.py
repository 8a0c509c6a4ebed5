"""The whole way: a detector learns pages by heart; a stranger's commands work on real receipts."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ocrsdk import Pipeline, Settings
from ocrsdk.data.synth import write_pages
from ocrsdk.errors import SettingsError
from tests.conftest import CLI


@pytest.mark.slow
def test_overfits_four_pages(tmp_path: Path):
    list(write_pages(tmp_path / "data" / "pages", 4, 7, scenes=0.25))
    settings = Settings(
        run_dir=tmp_path / "run",
        data={"train": "pages", "val": "pages", "short_side": 640},
        augment={"scale_min": 0.9, "scale_max": 1.1, "rotate": 0, "jitter": 0},
        trainer={"epochs": 160, "validations": 1},
    )
    result = Pipeline(settings).fit(tmp_path / "data")
    assert result.score is not None
    assert result.score.hmean > 0.95
    again = Pipeline.from_checkpoint(result.best_checkpoint).evaluate(tmp_path / "data" / "pages")
    assert again.score.hmean == pytest.approx(result.score.hmean, abs=1e-6)
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [m["val/hmean"] for m in metrics if "val/hmean" in m] == [pytest.approx(result.score.hmean)]
    steps = [m["step"] for m in metrics if "train/loss" in m]
    assert steps == sorted(set(steps))
    assert len(list((tmp_path / "run" / "overlays").iterdir())) == 4


@pytest.mark.slow
def test_commands_on_receipts(cli: CLI, tmp_path: Path, receipts: Path):
    small = ("--set", "data.short_side=416", "--set", "data.crop=160", "--set", "data.verify=header")
    limit = "20s" if receipts.name == "sroie-mini" else "6s"
    result = cli("train", receipts, "--max-time", limit, "--run-dir", "run", "--set", "trainer.validations=1", *small)
    assert result.returncode == 0, result.stderr
    assert "finished" in result.stdout
    best = "run/checkpoints/best.ckpt"
    result = cli("evaluate", best, receipts, "--json")
    assert result.returncode == 0, result.stderr
    score = json.loads(result.stdout)
    assert score["images"] == len(list((receipts / "val" / "images").iterdir()))
    assert 0 <= score["hmean"] <= 1
    pages = sorted((receipts / "val" / "images").iterdir())[:2]
    result = cli("predict", best, *pages, "--json", "found.json", "--draw", "drawn")
    assert result.returncode == 0, result.stderr
    assert [Path(p["image"]).name for p in json.loads((tmp_path / "found.json").read_text())] == [p.name for p in pages]
    assert len(list((tmp_path / "drawn").iterdir())) == 2


@pytest.mark.slow
def test_a_checkpoint_is_evaluated_as_its_run_did(tmp_path: Path, synth_pages: Path):
    """Text beyond the page is judged, or is not, and the validation folder is found, as in training."""
    shutil.copytree(synth_pages, tmp_path / "data")
    (tmp_path / "data/val").rename(tmp_path / "data/test")
    label = next((tmp_path / "data/test/labels").iterdir())
    label.write_text(label.read_text() + "-30,1,30,1,30,22,-30,22" + ",beyond" * label.name.startswith("gt_") + "\n")
    settings = Settings(
        run_dir=tmp_path / "run",
        data={"crop": 64, "short_side": 96, "workers": 0, "val": "test", "outside": "ignore"},
        trainer={"epochs": 1, "accelerator": "cpu", "overlays": 0},
    )
    trained = Pipeline(settings).fit(tmp_path / "data")
    again = Pipeline.from_checkpoint(trained.best_checkpoint).evaluate(tmp_path / "data")
    assert again.score == trained.score
    clipped = Pipeline.from_checkpoint(trained.best_checkpoint, data={"outside": "clip"}).evaluate(tmp_path / "data")
    assert clipped.score.gt_cared == trained.score.gt_cared + 1
    one = Pipeline.from_checkpoint(trained.best_checkpoint, {"threshold": 0.01, "box_threshold": 0}, {"short_side": 64})
    assert one.predict(synth_pages / "val/images/0000.png")[0].image.name == "0000.png"
    with pytest.raises(
        SettingsError, match=r"best.ckpt: unknown setting 'postprocess.unclip'. Did you mean 'postprocess.unclip_ratio'"
    ):
        Pipeline.from_checkpoint(trained.best_checkpoint, {"unclip": 3})
    with pytest.raises(SettingsError, match=r"data='crop': with trained weights there are"):
        Pipeline.from_checkpoint(trained.best_checkpoint, data={"crop": 64})
    with pytest.raises(SettingsError, match=r"evaluates and predicts with .*best.ckpt. To train: Pipeline\(settings\)"):
        Pipeline.from_checkpoint(trained.best_checkpoint).fit(tmp_path / "data")  # its other settings would be the defaults
    with pytest.raises(TypeError, match=r"expected Settings, found dict"):
        Pipeline({"trainer": {"epochs": 1}})  # type: ignore[arg-type]
