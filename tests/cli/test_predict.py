"""``ocrsdk predict`` overwrites nothing that it reads."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
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
        cli, tmp_path, "predict", "good.ckpt", "photos", "--json", "a.json", "--draw", "drawn", "--on-bad-image", "stop"
    )


@pytest.mark.slow
def test_f86_one_bad_image_costs_itself_alone(cli: CLI, tmp_path: Path, synth_pages: Path):
    torch.save(untrained(), tmp_path / "good.ckpt")
    inner = tmp_path / "scans/box 1"
    inner.mkdir(parents=True)
    pages = sorted((synth_pages / "val/images").iterdir())
    shutil.copy(pages[0], tmp_path / "scans/a.png")
    shutil.copy(pages[1], inner / "a.png")
    (tmp_path / "scans/0.png").write_bytes(pages[0].read_bytes()[:900])
    small = ("--set", "data.short_side=96", "--json", "out.json")
    done = cli("predict", "good.ckpt", "scans", *small)
    assert done.returncode == 1
    assert "1 of 2 images could not be searched" in done.stderr
    assert "folders in it are not searched; to search them: --recursive" in done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert [page["image"] for page in found] == ["scans/0.png", "scans/a.png"]
    assert "cut short" in found[0]["error"]
    done = cli("predict", "good.ckpt", "scans", "--recursive", "--draw", "drawn", *small)
    assert done.returncode == 1
    assert len(json.loads((tmp_path / "out.json").read_text())) == 3
    assert sorted(path.relative_to(tmp_path / "drawn").as_posix() for path in (tmp_path / "drawn").rglob("*.jpg")) == [
        "a.jpg",
        "box 1/a.jpg",
    ]
    done = cli("predict", "good.ckpt", "scans", "--on-bad-image", "stop", *small)
    assert done.returncode == 2
    assert "0.png: the PNG file is cut short" in done.stderr
    wrong = cli("predict", "good.ckpt", "scans", "--on-bad-image", "stp", *small)
    assert "Did you mean 'stop'?" in wrong.stderr
    assert wrong.returncode == 2


@pytest.mark.slow
def test_stdin_and_pipes_are_read(tmp_path: Path, synth_pages: Path):
    torch.save(untrained(), tmp_path / "good.ckpt")
    page = sorted((synth_pages / "val/images").iterdir())[0]
    command = (
        f"{sys.executable} -m ocrsdk predict good.ckpt --set data.short_side=96 --draw drawn --json - - <(cat '{page}') < '{page}'"
    )
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    stdin, pipe = json.loads(done.stdout)
    assert stdin["image"] == "-"
    assert stdin["detections"] == pipe["detections"]
    assert (tmp_path / "drawn/stdin.jpg").is_file()
