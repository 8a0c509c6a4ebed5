"""Text that a crop cuts is not judged where it is cut."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from ocrsdk import load_annotations
from ocrsdk.data.cuts import are_cut, mask_cut_ends
from ocrsdk.data.dataset import TrainDataset
from ocrsdk.data.targets import draw_targets
from ocrsdk.data.transforms import EvalTransform, TrainTransform
from ocrsdk.settings.sections import AugmentSettings, TargetSettings


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float32)


def test_which_text_is_cut():
    boxes = [
        box(2, 2, 50, 20),
        box(0, 0, 99, 79),
        box(-0.4, 0, 20, 20),
        box(-3, 5, 20, 20),
        box(80, 5, 120, 20),
        box(10, 70, 40, 90),
    ]
    assert are_cut(boxes, 80, 100).tolist() == [False, False, False, True, True, True]
    assert are_cut([], 80, 100).tolist() == []


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_the_cut_edge_alone_is_masked(side: str):
    """A text 40 x 200, cut in its middle: half its height at the border, over its own height and the band of the threshold map."""
    lying = side in ("left", "right")
    centre = {"left": (0, 100), "right": (199, 100), "top": (100, 0), "bottom": (100, 199)}[side]
    half = (100, 20) if lying else (20, 100)
    text = box(centre[0] - half[0], centre[1] - half[1], centre[0] + half[0], centre[1] + half[1])
    other = box(80, 20, 150, 50) if lying else box(20, 80, 50, 150)
    before = draw_targets([text, other], [False, False], 200, 200)
    after = draw_targets([text, other], [False, False], 200, 200)
    mask_cut_ends(after, [text, other], np.array([True, False]))
    np.testing.assert_array_equal(after.prob_map, before.prob_map)
    np.testing.assert_array_equal(after.thresh_map, before.thresh_map)
    rows, columns = np.nonzero((before.prob_mask == 1) & (after.prob_mask == 0))
    along, across = (columns, rows) if lying else (rows, columns)
    depth = np.minimum(along, 199 - along)
    assert depth.max() == 16  # area 8000, perimeter 480: ceil(16.7) pixels from the border on
    assert (across.min(), across.max()) == (100 - 20 - 18, 100 + 20 + 18)
    assert len(rows) == 17 * (40 + 2 * 18 + 1)
    lost = (before.thresh_mask == 1) & (after.thresh_mask == 0)
    assert lost.any()
    assert not lost[(before.prob_mask == 1) & (after.prob_mask == 1)].any()


BORDERS = (np.s_[:, 0], np.s_[0], np.s_[:, 95], np.s_[95])


@pytest.mark.parametrize("policy", ["edge", "whole", "keep"])
def test_no_view_judges_a_cut_edge(synth_pages: Path, policy: str):
    """On whatever side of a view a text is cut: no positive pixel of it on that border counts, unless it is kept."""
    pages = load_annotations(synth_pages / "train")[0]
    transform = TrainTransform(96, AugmentSettings(cut=policy, scale_min=0.8), EvalTransform(192))
    dataset = TrainDataset(pages, transform, TargetSettings(min_text_size=2))
    torch.manual_seed(0)
    cut = judged = wholly = 0
    for index in range(60):
        sample = dataset[index % len(pages)]
        assert sample.targets is not None
        flags = are_cut(sample.polygons, 96, 96)
        counted = sample.targets.prob_map & sample.targets.prob_mask
        for polygon in np.array(sample.polygons, object)[flags]:
            drawn = cv2.fillPoly(np.zeros((96, 96), np.uint8), [np.rint(polygon.astype(np.float32)).astype(np.int32)], (1,))
            for is_cut, line in zip([*(polygon.min(axis=0) < -0.5), *(polygon.max(axis=0) > 95.5)], BORDERS, strict=True):
                judged += int((drawn & counted)[line].sum()) if is_cut else 0
        cut += int(flags.sum())
        wholly += int((flags & sample.ignore).sum())
    assert cut > 50
    assert (judged == 0) == (policy != "keep")
    assert (wholly >= cut) == (policy == "whole")
