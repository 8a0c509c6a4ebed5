"""Transforms of albumentations: seeded, followed by polygons, or refused with the reason."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocrsdk import Settings
from ocrsdk.data.own_transforms import OwnTransforms
from ocrsdk.data.transforms import EvalTransform, TrainTransform
from ocrsdk.errors import SettingsError
from ocrsdk.geometry import apply_matrix
from ocrsdk.settings.sections import AugmentSettings

pytest.importorskip("albumentations")
OWN = (
    {"Perspective": {"scale": [0.03, 0.1], "p": 1.0}},
    {"Affine": {"rotate": [-15, 15], "shear": [-8, 8], "p": 0.5}},
    {"HorizontalFlip": {"p": 0.5}},
    {"GaussNoise": {"p": 0.5}},
)


@pytest.mark.parametrize("length", [320, 1600])
@pytest.mark.parametrize("recipe", ["receipt", "paper", "none", "own"])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), corners=st.lists(st.tuples(st.integers(60, 260), st.integers(60, 260)), min_size=3, max_size=6))
def test_polygons_follow_the_pixels_in_every_recipe(recipe: str, length: int, seed: int, corners: list[tuple[int, int]]):
    """A black page with one white polygon: where it lies in the view, all is brighter than anywhere else, but for two pixels."""
    polygon = cv2.convexHull(np.array(corners, np.int32))[:, 0].astype(np.float32)
    polygon[:, 1] *= length / 320  # of a long page, perspective might see what lies behind the eye
    page = np.zeros((length, 320, 3), np.uint8)
    cv2.fillPoly(page, [polygon.astype(np.int32)], (255, 255, 255))
    given = AugmentSettings(recipe="none", transforms=OWN[:3]) if recipe == "own" else AugmentSettings(recipe=recipe)
    view, matrix = TrainTransform(256, given, EvalTransform(320))(page, [], np.random.default_rng(seed))
    drawn = np.zeros((256, 256), np.uint8)
    cv2.fillPoly(drawn, [np.rint(apply_matrix(polygon, matrix) * 16).astype(np.int32)], (1,), shift=4)
    near = np.ones((5, 5), np.uint8)
    inside, outside = view[cv2.erode(drawn, near) == 1], view[cv2.dilate(drawn, near) == 0]
    if len(inside) and len(outside):
        assert (inside.min(axis=0) > outside.max(axis=0)).all()


def test_a_view_is_that_of_its_random_numbers():
    image = np.random.default_rng(0).integers(0, 256, (320, 320, 3), dtype=np.uint8)
    transform = TrainTransform(64, AugmentSettings(transforms=OWN), EvalTransform(320))
    one, other = (transform(image, [], np.random.default_rng(5)) for _ in range(2))
    np.testing.assert_array_equal(one[0], other[0])
    np.testing.assert_array_equal(one[1], other[1])
    assert not np.array_equal(transform(image, [], np.random.default_rng(6))[0], one[0])


def test_pixels_are_changed_and_lines_stay_lines():
    """Noise is there, and the matrix has a perspective: more than scale, turn and shear."""
    image = np.full((320, 320, 3), 128, np.uint8)
    given = AugmentSettings(recipe="none", transforms=({"Perspective": {"p": 1}}, {"GaussNoise": {"p": 1}}))
    view, matrix = TrainTransform(64, given, EvalTransform(320))(image, [], np.random.default_rng(1))
    assert view.std() > 2
    assert np.abs(matrix[2, :2]).max() > 1e-5


@pytest.mark.parametrize(
    ("transform", "told"),
    [
        ({"ElasticTransform": {"alpha": 300}}, r"augment\.transforms\[1\] \(ElasticTransform\): bends the page"),
        ({"RandomCrop": {"height": 20, "width": 20}}, r"\(RandomCrop\): makes uint8 \(20, 20, 3\)"),
        ({"MotionBlurr": {}}, r"transforms\[1\]: albumentations has no transform 'MotionBlurr'. Did you mean 'MotionBlur'"),
        ({"MotionBlur": {"strength": 3}}, r"MotionBlur: Argument\(s\) 'strength' are not valid"),
        ({"MotionBlur": {"blur_limit": "x"}}, "MotionBlur: .*blur_limit"),
        ({"Compose": {"transforms": []}}, "no transform 'Compose'"),
        ({"A": {}, "B": {}}, "2 names; expected one table"),
        ({"ToFloat": {}}, r"\(ToFloat\): makes float32"),
    ],
)
def test_what_cannot_be_used_is_refused_before_training(transform: dict, told: str):
    with pytest.raises(SettingsError, match=told):
        OwnTransforms([{"HorizontalFlip": {}}, transform]).check(64)


def test_transforms_are_settings_like_others():
    given = Settings.load(overrides={"augment.transforms": json.dumps(OWN)}, environ={}).augment
    assert [next(iter(table)) for table in given.transforms] == ["Perspective", "Affine", "HorizontalFlip", "GaussNoise"]
    assert AugmentSettings(**given.model_dump(mode="json")) == given
    with pytest.raises(SettingsError, match="no JSON"):
        Settings.load(overrides={"augment.transforms": "MotionBlur"}, environ={})
