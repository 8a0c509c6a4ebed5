"""``ocrsdk predict`` overwrites nothing that it reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.commands import refused, untrained
from tests.conftest import CLI


@pytest.mark.slow
def test_predicting_overwrites_no_image_and_checks_first(cli: CLI, tmp_path: Path, synth_pages: Path):
    from PIL import Image

    torch.save(untrained(), tmp_path / "good.ckpt")
    (tmp_path / "photos").mkdir()
    for number in range(2):
        Image.open(synth_pages / f"val/images/000{number}.png").save(tmp_path / f"photos/{number}.jpg")
    (tmp_path / "link").symlink_to("photos")
    for folder in ("photos", "link"):
        message = refused(cli, tmp_path, "predict", "good.ckpt", "photos", "--draw", folder)
        assert f"{folder}: holds images that are read" in message
    assert "is one of the files that are read" in refused(cli, tmp_path, "predict", "good.ckpt", "photos", "--json", "photos/1.jpg")
    assert "none is no folder" in refused(cli, tmp_path, "predict", "good.ckpt", "photos", "--json", "none/out.json")
    assert "images: holds images that are read" in refused(
        cli, tmp_path, "predict", "good.ckpt", synth_pages / "val/images", "--draw", synth_pages / "val/images"
    )
    assert "photos: is a folder" in refused(cli, tmp_path, "predict", "good.ckpt", "photos", "--json", "photos")
    assert "trainer.epochs: with trained weights there are postprocess.*" in refused(
        cli, tmp_path, "predict", "good.ckpt", "photos", "--set", "trainer.epochs=3"
    )
    (tmp_path / "photos/2.jpg").touch()
    assert "2.jpg: the file is empty" in refused(
        cli, tmp_path, "predict", "good.ckpt", "photos", "--json", "a.json", "--draw", "drawn"
    )
