"""Bad samples in a data folder: named, refused, or left out and counted."""

from __future__ import annotations

import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.commands import refused
from tests.conftest import CLI


def png_of(width: int, height: int) -> bytes:
    """A valid PNG header of that size, and hardly any pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")


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
def test_f67_bad_samples_stop_the_run_or_are_listed(cli: CLI, tmp_path: Path, data: Path, case: str):
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


def test_a_bad_box_is_dropped_counted_and_listed(tmp_path: Path):
    from ocrsdk.data.folder import load_annotations
    from ocrsdk.data.synth import write_pages
    from ocrsdk.errors import AnnotationError

    list(write_pages(tmp_path, 1, 0))
    (label,) = (tmp_path / "labels").iterdir()
    before = load_annotations(tmp_path)[1].instances
    with label.open("a", encoding="utf-8") as file:
        file.write("\n5,5,9,5,9,5,5,5,flat")
    with pytest.raises(AnnotationError, match="--on-bad-box drop"):
        load_annotations(tmp_path)
    (annotation,), report = load_annotations(tmp_path, on_bad_box="drop")
    assert len(annotation.instances) == report.instances == before
    (told,) = report.dropped
    assert label.name in told
    assert "no area" in told
    with label.open("a", encoding="utf-8") as file:
        file.write("\n5,5,9,5,x,9,5,9,odd")
    with pytest.raises(AnnotationError, match="not a number"):  # another fault than a bad box
        load_annotations(tmp_path, on_bad_box="drop")
