"""An annotation's digest covers each part of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ocrsdk.types import Annotation, TextInstance


def square(text: str = "a", ignore: bool = False, shift: float = 0.0) -> Annotation:
    polygon = np.array([[0, 0], [9, 0], [9, 5], [0, 5]], np.float32) + np.float32(shift)
    return Annotation(Path("x.png"), (TextInstance(polygon, text, ignore),))


def test_annotation_digests_differ_with_each_part():
    digests = {a.digest for a in (square(), square("b"), square(ignore=True), square(shift=0.5), Annotation(Path("x.png"), ()))}
    assert len(digests) == 5
    assert square().digest == square().digest
