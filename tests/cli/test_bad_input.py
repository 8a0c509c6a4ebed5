"""Bad input: one line that names the file, the line or the option and the remedy; exit code 2; nothing written."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.conftest import CLI


@pytest.fixture
def data(tmp_path: Path, synth_pages: Path) -> Path:
    """A small good data folder that a test may spoil."""
    return Path(shutil.copytree(synth_pages, tmp_path / "data"))


def refused(cli: CLI, folder: Path, *args: str | Path, env: dict[str, str] | None = None) -> str:
    """Run, check that it is refused as it should be, and return the message."""
    before = sorted(folder.rglob("*"))
    result: subprocess.CompletedProcess[str] = cli(*args, env=env)
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    assert result.stderr.splitlines()[-1] == errors[0]
    assert sorted(folder.rglob("*")) == before
    return errors[0]


def png_of(width: int, height: int) -> bytes:
    """A valid PNG header of that size, and hardly any pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


def test_missing_folder(cli: CLI, tmp_path: Path):
    message = refused(cli, tmp_path, "train", "nowhere")
    assert "nowhere: no such folder" in message
    assert "ocrsdk data synth nowhere" in message


def test_empty_folders(cli: CLI, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    assert "empty: no train/ in it" in refused(cli, tmp_path, "train", "empty")
    (tmp_path / "empty" / "train").mkdir()
    (tmp_path / "empty" / "val").mkdir()
    assert str(Path("empty", "train")) in refused(cli, tmp_path, "train", "empty")


def spoil_labels(line: str) -> Callable[[Path], None]:
    def spoil(data: Path) -> None:
        label = data / "train" / "labels" / "gt_0002.txt"
        first = "10,10,90,10,90,40,10,40,fine\n"
        label.write_text(first + line + "\n")
        (data / "train" / "labels" / "0002.png.txt").unlink(missing_ok=True)

    return spoil


def unclosed(data: Path) -> None:
    labels = data / "train" / "labels"
    (labels / "gt_0002.txt").unlink(missing_ok=True)
    (labels / "0002.png.txt").write_text("10,10,90,10,90,40,10,word\n")


def rewrite_image(content: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def spoil(data: Path) -> None:
        path = data / "train" / "images" / "0002.png"
        path.write_bytes(content(path.read_bytes()))

    return spoil


def as_truncated_jpeg(data: Path) -> None:
    import cv2

    path = data / "train" / "images" / "0002.png"
    jpeg = cv2.imencode(".jpg", cv2.imread(str(path)))[1].tobytes()
    path.write_bytes(jpeg[: len(jpeg) // 2])


SPOILT = {
    "image without label": (lambda d: [p.unlink() for p in (d / "train/labels").glob("*0002*")], ["0002.png"]),
    "label without image": (lambda d: (d / "train/images/0002.png").unlink(), ["0002"]),
    "truncated JPEG": (as_truncated_jpeg, ["0002.png", "cut short"]),
    "truncated PNG": (rewrite_image(lambda b: b[: len(b) // 2]), ["0002.png", "cut short"]),
    "0-byte PNG": (rewrite_image(lambda _: b""), ["0002.png", "empty"]),
    "no image": (rewrite_image(lambda _: b"hello" * 100), ["0002.png", "not an image"]),
    "PNG bomb": (rewrite_image(lambda _: png_of(30_000, 30_000)), ["0002.png", "pixels"]),
    "7 numbers": (spoil_labels("1,2,3,4,5,6,7,text"), ["gt_0002.txt:2"]),
    "letters": (spoil_labels("1,2,3,4,5,x,7,8,text"), ["gt_0002.txt:2", "'x'"]),
    "NaN": (spoil_labels("1,2,nan,4,5,6,7,8,text"), ["gt_0002.txt:2", "nan"]),
    "self-crossing": (spoil_labels("10,10,90,40,90,10,10,40,text"), ["gt_0002.txt:2", "cross"]),
    "no number of ours": (spoil_labels("1_0,2,3,4,5,6,7,8,text"), ["gt_0002.txt:2", "'1_0'"]),
    "beyond any page": (spoil_labels("1e39,0,1e39,10,0,10,0,0,text"), ["gt_0002.txt:2", "'1e39'", "beyond any page"]),
    "unclosed": (unclosed, ["0002.png.txt:1", "7 coordinates before the text, expected an even number"]),
    "one label for two images": (
        lambda d: shutil.copy(d / "train/images/0002.png", d / "train/images/0002.jpg"),
        ["0002.jpg", "0002.png"],
    ),
    "flat": (spoil_labels("10,10,90,10,90,10,10,10,text"), ["gt_0002.txt:2"]),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", SPOILT)
def test_bad_samples_stop_the_run_or_are_listed(cli: CLI, tmp_path: Path, data: Path, case: str):
    spoil, parts = SPOILT[case]
    spoil(data)
    message = refused(cli, tmp_path, "train", data)
    for part in parts:
        assert part in message
    assert "--on-bad-sample skip" in message


@pytest.mark.slow
def test_skipped_samples_are_counted_and_listed(cli: CLI, tmp_path: Path, data: Path):
    SPOILT["0-byte PNG"][0](data)
    (data / "train" / "images" / "0003.png").unlink()
    result = cli("train", data, "--on-bad-sample", "skip", "--dry-run", "--set", "data.crop=64", "--set", "data.short_side=96")
    assert result.returncode == 0, result.stderr
    assert "4 training pages" in result.stdout
    assert "skipped     2 samples" in result.stdout
    assert "0002.png" in result.stderr
    assert "0003" in result.stderr


@pytest.mark.slow
def test_boxes_outside_the_page_follow_the_policy(cli: CLI, tmp_path: Path, data: Path):
    spoil_labels("-50,10,90,10,90,40,-50,40,text")(data)
    args = ("train", data, "--dry-run", "--set", "data.crop=64", "--set", "data.short_side=96")
    for policy in ("clip", "ignore"):
        result = cli(*args, "--set", f"data.outside={policy}")
        assert result.returncode == 0, result.stderr
        assert "reaches beyond" in result.stderr
        assert "region 2 reaches x -50..90" in result.stderr
    assert "region 2 reaches x -50..90" in refused(cli, tmp_path, *args, "--set", "data.outside=stop")


@pytest.mark.parametrize(
    ("args", "parts"),
    [
        (("--backbone", "resnet19"), ["--backbone", "resnet18"]),
        (("--model", "dbnett"), ["--model", "dbnet"]),
        (("--precision", "fp23"), ["fp23", "fp32"]),
        (("--cache", "nome"), ["nome", "none"]),
        (("--logger", "json"), ["json", "jsonl"]),
        (("--set", "trainer.epoch=3"), ["trainer.epoch", "trainer.epochs"]),
        (("--set", "trainer.epochs"), ["KEY=VALUE"]),
        (("--set", "trainer.epochs=many"), ["trainer.epochs", "many"]),
        (("--epochs", "0"), ["epochs", "0"]),
        (("--max-time", "soon"), ["max_time", "soon"]),
        (("--on-bad-sample", "skp"), ["on_bad_sample", "skip"]),
        (("--workers", "100"), ["workers", "100", "CPUs"]),
        (("--config", "none.toml"), ["none.toml"]),
        (("--resume", "none"), ["none: no such run folder"]),
        (("--resume", "data/train/images/0002.png"), ["is a file; name the run's folder"]),
        (("--resume", "none", "--run-dir", "there"), ["a run is resumed in its own folder"]),
        (("--run-dir", "data"), ["data: is not empty"]),
        (("--model", "DBNet++"), ["model.name", "Did you mean 'dbnet++'"]),
        (("--set", "optimizer.lr=inf"), ["optimizer.lr", "finite"]),
        (("--set", "loss.negative_ratio=inf"), ["loss.negative_ratio", "finite"]),
        (("--max-time", "99999999999h"), ["max_time", "longer than"]),
        (("--set", "targets.thresh_min=0.8"), ["targets.thresh_min is not smaller"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
@pytest.mark.slow
def test_wrong_options(cli: CLI, tmp_path: Path, data: Path, args: tuple[str, ...], parts: list[str]):
    message = refused(cli, tmp_path, "train", data, *args)
    for part in parts:
        assert part.lstrip("-").replace("-", "_") in message.replace("-", "_")


def test_wrong_variables_and_files(cli: CLI, tmp_path: Path):
    message = refused(cli, tmp_path, "config", "show", env={"OCRSDK_CAHCE__DIR": "x"})
    assert "OCRSDK_CAHCE__DIR" in message
    assert "OCRSDK_CACHE__DIR" in message
    (tmp_path / "run.toml").write_text("seed = 1\n\n[trainer]\nepohcs = 3\n")
    message = refused(cli, tmp_path, "config", "show", "--config", "run.toml")
    assert "run.toml:4" in message
    assert "'trainer.epochs'" in message


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_run_folder_without_permission(cli: CLI, tmp_path: Path, data: Path):
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "locked" in refused(cli, tmp_path, "train", data, "--run-dir", "locked/run")


@pytest.mark.slow
def test_run_folder_that_cannot_be(cli: CLI, tmp_path: Path, data: Path):
    (tmp_path / "file").write_text("")
    message = refused(cli, tmp_path, "train", data, "--run-dir", "file/run")
    assert "file/run: cannot be created" in message
    assert "--run-dir" in message


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there(cli: CLI, tmp_path: Path, data: Path):
    for more in ((), ("--dry-run",)):
        message = refused(cli, tmp_path, "train", data, "--set", "trainer.accelerator=cuda", *more)
        assert "finds no cuda device on this machine; there are: cpu" in message


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


@pytest.mark.slow
def test_evaluating_leaves_bad_samples_out_where_asked(cli: CLI, tmp_path: Path, data: Path):
    torch.save(untrained(), tmp_path / "good.ckpt")
    (data / "val/images/0001.png").write_bytes(b"hello")
    assert "To leave such samples out: --on-bad-sample skip" in refused(cli, tmp_path, "evaluate", "good.ckpt", data)
    result = cli("evaluate", "good.ckpt", data, "--on-bad-sample", "skip", "--json", "--set", "data.short_side=96")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["images"] == 1
    assert "0001.png" in result.stderr
    assert "neither val/ nor images/ in it" in refused(cli, tmp_path, "evaluate", "good.ckpt", tmp_path)


def untrained() -> dict[str, object]:
    from ocrsdk.models.checkpoint import make_metadata
    from ocrsdk.models.dbnet import DBNet

    state = {f"model.{k}": v for k, v in DBNet().state_dict().items()}
    return {"state_dict": state, "ocrsdk": make_metadata(DBNet(), {}, {}, {}, "fp32")}


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
