"""Thresholds: every cell of the grid against a run of its own, and what a tuned checkpoint says of itself."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ocrsdk.data.folder import load_annotations
from ocrsdk.data.targets import draw_targets
from ocrsdk.errors import DataError
from ocrsdk.inference import Detector
from ocrsdk.metrics.hmean import HmeanMetric
from ocrsdk.models.postprocess import PostProcessor
from ocrsdk.runs.tune import plot_tuning, save_tuned, tune
from ocrsdk.settings.sections import TargetSettings
from ocrsdk.types import Annotation, TextInstance
from tests.commands import untrained
from tests.conftest import CLI

TRUTH: dict[int, Annotation] = {}


class Drawn(Detector):
    """Finds every text with a probability of its own, and some that are none: what a network might give, known exactly."""

    def probability_map(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        annotation, (height, width) = TRUTH[int(image.sum())], image.shape[:2]
        rng = np.random.default_rng(int(image.sum()) % 1000)
        found = np.zeros((height, width), np.float32)
        false = [np.array([[x, 5], [x + 40, 5], [x + 40, 17], [x, 17]], np.float32) for x in range(5, width - 45, 60)]
        for polygon in [*annotation.polygons, *false]:
            least = 0.35 if any(polygon is one for one in false) else 0.45
            drawn = draw_targets([polygon], [False], height, width, TargetSettings(min_text_size=0)).prob_map
            found = np.maximum(found, drawn * np.float32(rng.uniform(least, least + 0.45)))
        return found, np.eye(3)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.save(untrained(), tmp_path / "good.ckpt")
    return tmp_path / "good.ckpt"


@pytest.fixture
def annotations(synth_pages: Path) -> list[Annotation]:
    from ocrsdk.data.image import read_image

    found, _ = load_annotations(synth_pages / "train")
    TRUTH.update({int(read_image(annotation.image).sum()): annotation for annotation in found})
    return found


@pytest.mark.slow
def test_each_cell_is_what_a_run_with_these_thresholds_gives(checkpoint: Path, annotations: list[Annotation], tmp_path: Path):
    detector = Drawn(checkpoint, postprocess={"threshold": 0.2})
    boxes, ratios = (0.4, 0.5, 0.6, 0.7), (1.0, 1.4, 1.8)
    tuning = tune(detector, annotations, "pages", boxes, ratios)
    own = detector.postprocessor.settings
    assert {own.box_threshold, *boxes} == set(tuning.box_thresholds)
    for i, ratio in enumerate(tuning.unclip_ratios):
        for j, box in enumerate(tuning.box_thresholds):
            detector.postprocessor = PostProcessor(own.model_copy(update={"box_threshold": box, "unclip_ratio": ratio}))
            metric = HmeanMetric()
            for annotation in annotations:
                metric.update(
                    annotation.polygons, annotation.ignore, [d.polygon for d in detector.detect_page(annotation.image).detections]
                )
            assert tuning.hmean[i, j] == pytest.approx(metric.compute().hmean, abs=1e-12)
    assert tuning.best["hmean"] == tuning.hmean.max() > tuning.before["hmean"] > 0
    plot_tuning(tuning, tmp_path / "t.png")
    assert (tmp_path / "t.png").stat().st_size > 5000
    save_tuned(checkpoint, tuning, tmp_path / "tuned.ckpt")
    tuned = Drawn(tmp_path / "tuned.ckpt", postprocess={"threshold": 0.2})
    result = tuned.evaluate(annotations)
    assert result.score.hmean == pytest.approx(tuning.best["hmean"], abs=1e-12)
    assert result.tuned["on"] == "pages"
    assert result.thresholds["box_threshold"] == tuning.best["box_threshold"]
    assert Drawn(tmp_path / "tuned.ckpt", postprocess={"box_threshold": 0.5}).tuned == {}
    before, after = (torch.load(path, weights_only=True)["state_dict"] for path in (checkpoint, tmp_path / "tuned.ckpt"))
    assert all(torch.equal(value, before[name]) for name, value in after.items())


def test_pages_without_text_choose_nothing(checkpoint: Path, annotations: list[Annotation]):
    hidden = [Annotation(a.image, tuple(TextInstance(i.polygon, i.text, True) for i in a.instances)) for a in annotations]
    with pytest.raises(DataError, match="no text that counts on its 6 pages"):
        tune(Drawn(checkpoint), hidden, "pages")


@pytest.mark.slow
def test_command(cli: CLI, tmp_path: Path, checkpoint: Path, synth_pages: Path):
    before = checkpoint.read_bytes()
    args = ("tune", "good.ckpt", synth_pages, "--set", "data.short_side=96", "--json")
    assert json.loads(cli(*args, "--dry-run").stdout)["pages"] == 2
    assert checkpoint.read_bytes() == before
    result = cli(*args, "--plot", "p.svg")
    assert json.loads(result.stdout)["on"] == "val"
    assert (tmp_path / "p.svg").is_file()
    shown = cli("evaluate", "good.ckpt", synth_pages, "--set", "data.short_side=96").stdout
    assert "(tuned on 2 pages of val)" in shown
