"""Figures, contact sheets and divisions, against what can be counted by hand."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from ocrsdk.data.convert import split_set
from ocrsdk.data.folder import load_annotations
from ocrsdk.data.image import read_image
from ocrsdk.data.overview import Spread, contact_sheet, divide, measure, near_duplicates, plot, whole_page
from ocrsdk.data.preparation import Preparation
from ocrsdk.data.synth import write_pages
from ocrsdk.data.targets import draw_targets
from ocrsdk.errors import DataError
from ocrsdk.types import Annotation, TextInstance


def page(folder: Path, name: str, size: tuple[int, int], *regions: TextInstance) -> Annotation:
    Image.new("RGB", size, "white").save(folder / name)
    return Annotation(folder / name, regions)


def turned(centre: tuple[float, float], size: tuple[float, float], degrees: float) -> np.ndarray:
    return cv2.boxPoints((centre, size, degrees)).astype(np.float32)


def test_figures_by_hand(tmp_path: Path):
    """Text heights at evaluation: pages of 400 x 200 are scaled by 2, one of 400 x 400 by 1; turning a box changes nothing."""
    one = page(tmp_path, "a.png", (400, 200), TextInstance(turned((100, 100), (80, 20), 30), "four"))
    two = page(
        tmp_path, "b.png", (400, 400), TextInstance(turned((100, 100), (90, 3), 0), "x"),
        TextInstance(np.array([[0, 0], [50, 0], [60, 30], [50, 60], [0, 60]], np.float32), "", True),
    )  # fmt: skip
    found, every = measure([one, two], Preparation(400, 1000), 8.9)
    assert (found.pages, found.regions, found.ignored, found.polygons, found.characters, found.too_small) == (2, 3, 1, 1, 5, 1)
    np.testing.assert_allclose(every.text_height, [40, 3, 60], rtol=1e-5)
    np.testing.assert_allclose(every.aspect, [4, 30, 1], rtol=1e-5)
    assert found.as_dict()["ignore_share"] == pytest.approx(1 / 3)
    assert found.spreads["regions"].median == 1.5
    plot(every, 8.9, tmp_path / "p.svg")
    assert (tmp_path / "p.svg").stat().st_size > 5000
    with pytest.raises(DataError, match=r"p\.xyz: cannot be written"):
        plot(every, 8.9, tmp_path / "p.xyz")
    assert Spread.of([]).most == 0


def test_a_contact_sheet_shows_every_region_where_it_is(tmp_path: Path):
    box = np.array([[100, 40], [300, 40], [300, 160], [100, 160]], np.float32)
    hidden = np.array([[10, 10], [60, 10], [60, 30], [10, 30]], np.float32)
    pages = [page(tmp_path, "a.png", (400, 200), TextInstance(box), TextInstance(hidden, "", True))] * 3
    sheet = contact_sheet(pages, whole_page, side=400)
    assert sheet.shape[1] % 408 == sheet.shape[0] % 408 == 0
    red = (sheet[..., 0].astype(int) - sheet[..., 1] > 60).nonzero()
    tile = (red[0] < 408) & (red[1] < 408)
    assert (red[1][tile].min(), red[1][tile].max()) == pytest.approx((104, 304), abs=2)
    assert (red[0][tile].min(), red[0][tile].max()) == pytest.approx((144, 264), abs=2)

    def with_maps(annotation: Annotation):
        image, polygons, ignore, _ = whole_page(annotation)
        return image, polygons, ignore, draw_targets(polygons, ignore, 200, 400)

    assert contact_sheet(pages[:1], with_maps, side=400).shape == (408, 5 * 408, 3)


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("pages")
    list(write_pages(root, 8, 0, scenes=0.25))
    return root


def add_copy(root: Path, number: int) -> None:
    """The same page, scanned a little darker and smaller."""
    image = cv2.imread(str(root / f"images/{number:04d}.png"))
    darker = np.clip(cv2.resize(image, None, fx=0.9, fy=0.9, interpolation=cv2.INTER_AREA) * 0.93, 0, 255)
    cv2.imwrite(str(root / f"images/9{number:03d}.png"), darker.astype(np.uint8))
    (root / f"labels/gt_9{number:03d}.txt").write_text("5,5,50,5,50,20,5,20,A\n")


@pytest.mark.slow
def test_near_duplicates_stay_on_one_side(pages: Path, tmp_path: Path):
    root = shutil.copytree(pages, tmp_path / "set")
    for number in (0, 3, 5):
        add_copy(root, number)
    images = sorted((root / "images").iterdir())
    groups = dict(zip([path.stem for path in images], near_duplicates(images, 12).tolist(), strict=True))
    assert all(groups[f"{number:04d}"] == groups[f"9{number:03d}"] for number in (0, 3, 5))
    assert len(set(groups.values())) == 8
    for seed in range(4):
        done = split_set(root, tmp_path / f"split{seed}", 0.3, seed)
        assert done["train"] + done["val"] == 11
        assert done["near_duplicates"] == 3
        sides = {name: {p.stem for p in (tmp_path / f"split{seed}" / name / "images").iterdir()} for name in ("train", "val")}
        assert all((f"{n:04d}" in sides["val"]) == (f"9{n:03d}" in sides["val"]) for n in (0, 3, 5))
    loaded = {a.image.name: a.digest for name in ("train", "val") for a in load_annotations(tmp_path / "split0" / name)[0]}
    assert loaded == {a.image.name: a.digest for a in load_annotations(root)[0]}
    link = next((tmp_path / "split0/train/images").iterdir())
    assert link.is_symlink()
    np.testing.assert_array_equal(read_image(link), read_image(root / "images" / link.name))


def test_a_division_is_that_of_its_seed_and_near_its_share():
    groups = np.arange(1000) // 3
    first, again, other = divide(groups, 0.2, 1), divide(groups, 0.2, 1), divide(groups, 0.2, 2)
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert first.sum() == pytest.approx(200, abs=3)
    assert all(len(set(first[groups == g].tolist())) == 1 for g in range(334))
    with pytest.raises(DataError, match="cannot be divided"):
        divide(np.zeros(9, np.int64), 0.5, 0)
