"""What commands bear: streams that nobody reads, names that are no text, files that turn out to be none, mistakes of our own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.cli.test_bad_input import untrained
from tests.conftest import CLI

SMALL = ("--set", "data.crop=64", "--set", "data.short_side=96", "--workers", "0", "--epochs", "1", "--set", "trainer.overlays=0")


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.save(untrained(), tmp_path / "a.ckpt")
    return tmp_path / "a.ckpt"


def beyond_opencv(path: Path) -> None:
    """An image whose header is fine, of a kind that OpenCV does not decode to 8 bits."""
    Image.fromarray(np.zeros((40, 60), np.float32)).save(path, format="TIFF")


@pytest.mark.slow
@pytest.mark.parametrize("stderr", ["2>/dev/full", "2>&-", "2> >(true)"])
def test_a_run_goes_on_though_nobody_hears_it(tmp_path: Path, synth_pages: Path, stderr: str):
    command = " ".join([sys.executable, "-m", "ocrsdk", "train", str(synth_pages), "--run-dir", "run", *SMALL, stderr])
    done = subprocess.run(["bash", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "hmean" in done.stdout
    assert (tmp_path / "run/result.json").exists()


@pytest.mark.slow
def test_names_that_are_no_text(cli: CLI, tmp_path: Path, synth_pages: Path, checkpoint: Path):
    pages = Path(shutil.copytree(synth_pages, tmp_path / os.fsdecode(b"pages\xff")))
    image = next((pages / "val/images").iterdir())
    odd = image.rename(image.with_name(os.fsdecode(b"z\xfe") + image.suffix))
    label = next(path for path in (pages / "val/labels").iterdir() if image.stem in path.name)
    label.rename(label.with_name(label.name.replace(image.stem, odd.stem)))
    result = cli("predict", checkpoint, pages / "val/images", "--json", "out.json")
    assert result.returncode == 0, result.stderr
    assert str(odd) in [page["image"] for page in json.loads((tmp_path / "out.json").read_text())]
    result = cli("train", pages, "--run-dir", "run", *SMALL)
    assert result.returncode == 0, result.stderr
    result = cli("train", "--resume", "run", "--epochs", "2")
    assert result.returncode == 0, result.stderr


def test_an_error_before_anything_else_is_a_json_line_too(cli: CLI):
    result = cli("train", "pages", "--set", "x.y=1", "--log-format", "json")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert json.loads(line)["kind"] == "SettingsError"


def test_a_mistake_of_our_own_is_a_traceback_and_no_answer():
    code = "import ocrsdk.cli as cli\ncli.app = lambda: 1 / 0\ncli.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 70
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.slow
def test_an_image_that_cannot_be_decoded(cli: CLI, tmp_path: Path, synth_pages: Path, checkpoint: Path):
    data = Path(shutil.copytree(synth_pages, tmp_path / "data"))
    beyond_opencv(data / "val/images/zz.tif")
    (data / "val/labels/gt_zz.txt").touch()
    (data / "val/images/notes.gif").touch()
    result = cli("evaluate", checkpoint, data)
    assert result.returncode == 2
    assert "zz.tif: cannot be decoded; the TIFF file is damaged, or of a kind that OpenCV does not read" in result.stderr
    result = cli("evaluate", checkpoint, data, "--on-bad-sample", "skip", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["images"] == 2
    assert "zz.tif" in result.stderr
    assert "notes.gif" in result.stderr

    result = cli("predict", checkpoint, data / "val/images", "--json", "out.json")
    assert result.returncode == 2
    assert "zz.tif: cannot be decoded" in result.stderr
    assert "2 of 3 images were searched before it" in result.stderr
    assert "1 files are no images, and are not read; the first: notes.gif" in result.stderr
    assert len(json.loads((tmp_path / "out.json").read_text())) == 2
    result = cli("predict", checkpoint, data / "val/images", "--json", checkpoint)
    assert result.returncode == 2
    assert "is one of the files that are read" in result.stderr

    small = ("--set", "data.short_side=96", "--set", "cache.dir=kept")
    result = cli("cache", "warm", data, *small, "--set", "data.workers=1")
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert "zz.tif: cannot be decoded" in result.stderr.splitlines()[-1]
    assert "Traceback" not in result.stderr
    result = cli("cache", "warm", data, *small, "--set", "data.on_bad_sample=skip")
    assert result.returncode == 0, result.stderr


@pytest.mark.slow
def test_pages_without_text_are_told(cli: CLI, tmp_path: Path, synth_pages: Path, checkpoint: Path):
    data = Path(shutil.copytree(synth_pages, tmp_path / "data"))
    for label in (data / "val/labels").iterdir():
        label.write_text("1,1,30,1,30,12,1,12,###\n")
    result = cli("evaluate", checkpoint, data)
    assert result.returncode == 0, result.stderr
    assert "no text that counts in any page" in result.stderr


@pytest.mark.slow
def test_a_library_does_not_write_to_stdout(tmp_path: Path, synth_pages: Path, checkpoint: Path):
    data = Path(shutil.copytree(synth_pages, tmp_path / "data"))
    (data / "val/images/notes.gif").touch()
    code = "import sys; from ocrsdk import Pipeline; Pipeline.from_checkpoint(sys.argv[1]).evaluate(sys.argv[2])"
    done = subprocess.run([sys.executable, "-c", code, checkpoint, data], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert "notes.gif" in done.stderr
