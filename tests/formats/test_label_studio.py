"""Exports as Label Studio writes them: addresses of uploaded and local files, rotation, text areas."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ocrsdk.formats.base import LabelledPage
from ocrsdk.formats.files import LabelFile
from ocrsdk.formats.make import make_format, read_pages


def read(tmp_path: Path, *tasks: Any) -> list[LabelledPage]:
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    return list(read_pages(make_format("label-studio"), LabelFile(path)))


def rectangle(number: str, text: str, turn: float = 0, **value: float) -> list[dict[str, Any]]:
    common = {"id": number, "original_width": 200, "original_height": 100, "image_rotation": 0, "to_name": "image"}
    box = {"x": 10, "y": 20, "width": 30, "height": 10, "rotation": turn, **value}
    return [
        {**common, "from_name": "bbox", "type": "rectangle", "value": box},
        {**common, "from_name": "label", "type": "labels", "value": {**box, "labels": ["Text"]}},
        {**common, "from_name": "transcription", "type": "textarea", "value": {**box, "text": [text]}},
    ]


def task(*results: Any, image: str = "/data/upload/3/0a1b2c3d-page%201.png", **annotation: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"ocr": image}, "annotations": [{"id": 7, "result": list(results), **annotation}]}


def test_percent_become_pixels_and_one_region_is_one_region(tmp_path: Path):
    (page,) = read(tmp_path, task(*rectangle("a", "TOTAL 1"), *rectangle("b", "x", y=50)))
    assert [i.text for i in page.instances] == ["TOTAL 1", "x"]
    np.testing.assert_allclose(page.instances[0].polygon, [[20, 20], [80, 20], [80, 30], [20, 30]])
    assert page.size == (100, 200)
    assert page.image == "/data/upload/3/page 1.png"


def test_rotation_is_in_pixels_about_the_top_left_corner(tmp_path: Path):
    """A width of 30 % of 200 pixels, turned by 90 degrees, is 60 pixels down: 60 % of the height."""
    (page,) = read(tmp_path, task(*rectangle("a", "", turn=90), *rectangle("b", "", turn=30)))
    np.testing.assert_allclose(page.instances[0].polygon, [[20, 20], [20, 80], [10, 80], [10, 20]], atol=1e-5)
    along, down = (
        page.instances[1].polygon[1] - page.instances[1].polygon[0],
        page.instances[1].polygon[3] - page.instances[1].polygon[0],
    )
    assert math.degrees(math.atan2(along[1], along[0])) == pytest.approx(30)
    assert (np.linalg.norm(along), np.linalg.norm(down)) == (pytest.approx(60), pytest.approx(10))


@pytest.mark.parametrize(
    ("address", "path"),
    [
        ("/data/local-files/?d=scans/a%20b.png", "scans/a b.png"),
        ("https://host.example/bucket/a.png?sig=1", "/bucket/a.png"),
        ("images/영수증 1#2.png", "images/영수증 1#2.png"),
        ("s3://bucket/folder/a.png", "/folder/a.png"),
    ],
)
def test_addresses(tmp_path: Path, address: str, path: str):
    assert read(tmp_path, task(image=address))[0].image == path


def test_what_does_not_count(tmp_path: Path):
    ignored = rectangle("a", "abc")
    ignored[1]["value"]["labels"] = ["Illegible"]
    (page,) = read(tmp_path, task(*ignored, *rectangle("b", "###", y=50), *rectangle("c", "fine", y=70)))
    assert [i.ignore for i in page.instances] == [True, True, False]


def test_tasks_that_are_not_as_they_should_be(tmp_path: Path):
    cancelled, empty = task(was_cancelled=True), task()
    twice = task()
    twice["annotations"] *= 2
    brush = task({"id": "a", "type": "brushlabels", "value": {"rle": []}})
    pages = read(tmp_path, cancelled, empty, twice, brush)
    assert [[fault.message[:20] for fault in page.faults] for page in pages] == [
        ["not labelled yet: a "], [], ["2 annotations of one"], ["a region of the type"],
    ]  # fmt: skip
