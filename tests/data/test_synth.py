"""Generated pages: the same for a seed, with polygons that hold the ink and little else."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from ocrsdk.data.folder import load_annotations
from ocrsdk.data.image import read_image
from ocrsdk.data.synth import draw_page, write_pages


@pytest.mark.parametrize("kind", ["receipt", "scene"])
def test_a_seed_gives_the_same_page(kind: str):
    first, second, other = draw_page(0, 5, kind), draw_page(0, 5, kind), draw_page(0, 6, kind)
    np.testing.assert_array_equal(first.image, second.image)
    assert [i.text for i in first.instances] == [i.text for i in second.instances]
    assert first.image.shape != other.image.shape or (first.image != other.image).any()


@pytest.mark.parametrize("kind", ["receipt", "scene"])
@pytest.mark.parametrize("seed", range(4))
def test_polygons_hold_all_the_ink(kind: str, seed: int):
    """Ink is much darker than the paper around it; outside the polygons only rulings may be as dark."""
    page = draw_page(0, seed, kind)
    grey = cv2.cvtColor(page.image, cv2.COLOR_RGB2GRAY).astype(np.float32)
    paper = cv2.medianBlur(cv2.cvtColor(page.image, cv2.COLOR_RGB2GRAY), 101).astype(np.float32)
    ink = grey < (paper * 0.55 if kind == "receipt" else paper - 25)  # scenes have coloured ink on darker paper
    inside = np.zeros(grey.shape, np.uint8)
    for instance in page.instances:
        cv2.fillPoly(inside, [np.round(instance.polygon).astype(np.int32)], 1)
        cv2.polylines(inside, [np.round(instance.polygon).astype(np.int32)], True, 1, thickness=3)
        own = np.zeros(grey.shape, np.uint8)
        cv2.fillPoly(own, [np.round(instance.polygon).astype(np.int32)], 1)
        assert ink[own > 0].mean() > 0.08, instance.text
    outside = ink & (inside == 0)
    # a ruling is long and one or two pixels thick; look for anything thicker
    thick = cv2.erode(outside.astype(np.uint8), np.ones((3, 3), np.uint8))
    assert thick.sum() == 0


def test_pages_are_read_back(tmp_path: Path):
    list(write_pages(tmp_path / "p", 8, 3))
    annotations, report = load_annotations(tmp_path / "p", outside="stop")
    assert report.images == 8
    assert any(len(i.polygon) > 4 for a in annotations for i in a.instances)
    assert all(len(a.instances) > 3 for a in annotations)
    lines = next((tmp_path / "p" / "labels").glob("*0000*")).read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(annotations[0].instances)
    assert read_image(annotations[0].image).ndim == 3
