"""Pictures of one validation have one size."""

from __future__ import annotations

import numpy as np

from ocrsdk.training.callbacks.pictures import of_one_size


def test_pictures_of_one_row_have_one_size_and_keep_their_pixels():
    pictures = [np.full(size, 7, np.uint8) for size in ((4, 9, 3), (8, 2, 3), (1, 1, 3))]
    found = of_one_size(pictures)
    assert {picture.shape for picture in found} == {(8, 9, 3)}
    for picture, before in zip(found, pictures, strict=True):
        height, width = before.shape[:2]
        np.testing.assert_array_equal(picture[:height, :width], before)
        assert (picture[height:] == 255).all()
        assert (picture[:, width:] == 255).all()
