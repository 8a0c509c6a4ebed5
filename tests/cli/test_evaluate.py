"""``ocrsdk evaluate``: bad pages, pages without text, hostile checkpoints."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.commands import refused, untrained
from tests.conftest import CLI


@pytest.mark.slow
def test_evaluating_leaves_bad_samples_out_where_asked(cli: CLI, tmp_path: Path, data: Path):
    torch.save(untrained(), tmp_path / "good.ckpt")
    (data / "val/images/0001.png").write_bytes(b"hello")
    assert "To skip such samples: --on-bad-sample skip" in refused(cli, tmp_path, "evaluate", "good.ckpt", data)
    result = cli("evaluate", "good.ckpt", data, "--on-bad-sample", "skip", "--json", "--set", "data.short_side=96")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["images"] == 1
    assert "0001.png" in result.stderr
    assert "no label files in it" in refused(cli, tmp_path, "evaluate", "good.ckpt", tmp_path)


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch exploded",)


@pytest.mark.slow
def test_hostile_and_damaged_checkpoints(cli: CLI, tmp_path: Path, data: Path):
    from ocrsdk.models.checkpoint import make_metadata
    from ocrsdk.models.dbnet import DBNet

    (tmp_path / "bomb.ckpt").write_bytes(pickle.dumps(Bomb()))
    torch.save({"state_dict": {}, "ocrsdk": Bomb()}, tmp_path / "bomb2.ckpt")
    good = untrained()
    metadata, state = good["ocrsdk"], good["state_dict"]
    torch.save({**good, "ocrsdk": {**metadata, "prepare": None}}, tmp_path / "bare.ckpt")
    torch.save({**good, "ocrsdk": {**metadata, "postprocess": {"magic": 1}}}, tmp_path / "magic.ckpt")
    torch.save({**good, "state_dict": [1]}, tmp_path / "list.ckpt")
    torch.save({**good, "state_dict": {k: v * torch.nan for k, v in state.items()}}, tmp_path / "nan.ckpt")
    torch.save(good, tmp_path / "good.ckpt")
    (tmp_path / "half.ckpt").write_bytes((tmp_path / "good.ckpt").read_bytes()[:100_000])
    torch.save({**good, "ocrsdk": make_metadata(DBNet("resnet18"), {}, {}, {}, "fp32")}, tmp_path / "other.ckpt")
    torch.save({"weights": 1}, tmp_path / "foreign.ckpt")
    expected = {
        "bomb": "not executed",
        "bomb2": "not executed",
        "half": "truncated, damaged",
        "other": "do not fit",
        "foreign": "not a checkpoint of ocrsdk",
        "bare": "holds no preparation",
        "magic": "magic = 1: there is no such parameter",
        "list": "not a checkpoint of ocrsdk",
        "nan": "NaN or infinity",
        "absent": "no such file",
    }
    for name, part in expected.items():
        message = refused(cli, tmp_path, "evaluate", f"{name}.ckpt", data)
        assert f"{name}.ckpt: " in message
        assert part in message
    assert not (tmp_path / "exploded").exists()
    assert cli("evaluate", "good.ckpt", data, "--set", "data.short_side=96").returncode == 0
    assert "nothing.png: no such file" in refused(cli, tmp_path, "predict", "good.ckpt", "nothing.png")


def beyond_opencv(path: Path) -> None:
    """An image whose header is fine, of a kind that OpenCV does not decode to 8 bits."""
    Image.fromarray(np.zeros((40, 60), np.float32)).save(path, format="TIFF")


@pytest.mark.slow
def test_an_image_that_cannot_be_decoded(cli: CLI, tmp_path: Path, synth_pages: Path, checkpoint: Path):
    data = Path(shutil.copytree(synth_pages, tmp_path / "data"))
    beyond_opencv(data / "val/images/zz.tif")
    (data / "val/labels/gt_zz.txt").touch()
    (data / "val/images/notes.gif").touch()
    result = cli("evaluate", checkpoint, data)
    assert result.returncode == 2
    assert "zz.tif: pixels of float32 from 0.0 to 0.0; save it with 8 or 16 bits" in result.stderr
    result = cli("evaluate", checkpoint, data, "--on-bad-sample", "skip", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["images"] == 2
    assert "zz.tif" in result.stderr
    assert "notes.gif" in result.stderr

    result = cli("predict", checkpoint, data / "val/images", "--json", "out.json", "--on-bad-image", "stop")
    assert result.returncode == 2
    assert "zz.tif: pixels of float32" in result.stderr
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
    assert "zz.tif: pixels of float32" in result.stderr.splitlines()[-1]
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
def test_protocols_and_the_table_of_pages(cli: CLI, tmp_path: Path, data: Path):
    """The table adds up to the totals; CLEval is another figure than IoU's."""
    import csv

    torch.save(untrained(), tmp_path / "good.ckpt")
    small = ("--set", "data.short_side=96", "--set", "postprocess.threshold=0.01", "--set", "postprocess.box_threshold=0.0")
    result = cli("evaluate", "good.ckpt", data, "--json", "--per-image", "pages.csv", *small)
    assert result.returncode == 0, result.stderr
    total, rows = json.loads(result.stdout), list(csv.DictReader((tmp_path / "pages.csv").open(encoding="utf-8")))
    assert len(rows) == total["images"] == 2
    for name in ("matched", "gt_cared", "det_cared"):
        assert sum(int(row[name]) for row in rows) == total[name]
    assert all(int(row["misses"]) + int(row["splits"]) + int(row["merges"]) <= int(row["gt_cared"]) for row in rows)
    assert total["cleval"]["num_char_gt"] > total["gt_cared"]
    shown = cli("evaluate", "good.ckpt", data, "--protocol", "cleval", *small).stdout
    assert "characters found" in shown
    assert "false alarms" in shown
    shown = cli("evaluate", "good.ckpt", data, "--protocol", "deteval", *small).stdout
    assert [f"{total['deteval'][name]:.4f}" for name in ("hmean", "precision", "recall")] == shown.splitlines()[-6].split()[:3]
    shown = cli("evaluate", "good.ckpt", data, "--protocol", "totaltext", *small).stdout
    assert [str(total["totaltext"][name]) for name in ("matched", "det_cared", "gt_cared")] == shown.splitlines()[-6].split()[3:6]
    assert "There are: icdar-iou, cleval" in refused(cli, tmp_path, "evaluate", "good.ckpt", data, "--protocol", "clevel")
