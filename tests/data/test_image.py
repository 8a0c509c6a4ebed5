"""Image files: complete, upright, RGB, or refused by name."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ocrsdk.data.image import _checked, _plain_jpeg, as_image, check_image, decode_image, read_image, write_image
from ocrsdk.errors import ImageError


@pytest.fixture
def picture() -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.kron(rng.integers(0, 256, (6, 9, 3)), np.ones((16, 16, 1))).astype(np.uint8)


def png_bomb(path: Path, side: int = 30_000) -> Path:
    """A valid PNG of side x side pixels in about a hundred kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = b"\0" * (side // 8 + 2)
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(row) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b""))
    return path


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.webp", "a.tiff"])
def test_lossless_formats_give_the_same_pixels(tmp_path: Path, picture: np.ndarray, name: str):
    Image.fromarray(picture).save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
    np.testing.assert_array_equal(read_image(tmp_path / name), picture)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_is_applied_once(tmp_path: Path, picture: np.ndarray, orientation: int):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.jpg"
    Image.fromarray(picture).save(path, quality=100, subsampling=0, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    found = read_image(path)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 4  # two JPEG decoders
    assert check_image(path) == found.shape[:2]


def test_upright_example(formats: Path):
    assert read_image(formats / "images" / "exif6.jpg").shape == (280, 180, 3)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_every_mode_becomes_rgb(tmp_path: Path, picture: np.ndarray, mode: str):
    path = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.fromarray(picture).convert(mode).save(path)
    found = read_image(path)
    assert found.shape == picture.shape
    assert found.dtype == np.uint8


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_refused(tmp_path: Path, picture: np.ndarray, name: str, share: float):
    path = tmp_path / name
    Image.fromarray(picture).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImageError, match=rf"{name}: .*(cut short|not an image)"):
        read_image(path)
    with pytest.raises(ImageError):
        check_image(path)


JPEGS = {"plain": {}, "progressive": {"progressive": True}, "restarts": {"restart_marker_blocks": 2}, "thumbnail": {}}


def jpeg(picture: np.ndarray, kind: str) -> bytes:
    """As a camera writes it; ``thumbnail`` has a whole JPEG in its EXIF."""
    file, exif = io.BytesIO(), Image.Exif()
    if kind == "thumbnail":
        small = io.BytesIO()
        Image.fromarray(picture[:32, :32]).save(small, "JPEG")
        exif[0x010E] = small.getvalue()
    Image.fromarray(picture).save(file, "JPEG", exif=exif, **JPEGS[kind])
    return file.getvalue()


@pytest.mark.parametrize("kind", JPEGS)
def test_what_follows_a_whole_jpeg_does_not_matter(tmp_path: Path, picture: np.ndarray, kind: str):
    """A phone appends a film, with any bytes in it."""
    whole, path = jpeg(picture, kind), tmp_path / "a.jpg"
    path.write_bytes(whole)
    expected = read_image(path)
    rng = np.random.default_rng(0)
    for tail in (b"\xff\xda\xff\xda", b"\0" * 999, whole[: len(whole) // 2], rng.bytes(200_000), rng.bytes(200_000)):
        path.write_bytes(whole + tail)
        np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize("kind", JPEGS)
@pytest.mark.parametrize("tail", [b"", b"\0" * 5000])
def test_a_jpeg_that_ends_within_its_pixels_is_refused(tmp_path: Path, picture: np.ndarray, kind: str, tail: bytes):
    whole, path = jpeg(picture, kind), tmp_path / "a.jpg"
    for share in (0.8, 0.9, 0.99):
        path.write_bytes(whole[: int(len(whole) * share)] + tail)
        with pytest.raises(ImageError, match="the JPEG file is cut short"):
            read_image(path)


def test_empty_missing_and_foreign_files(tmp_path: Path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.jpg").write_text("hello")
    with pytest.raises(ImageError, match=r"empty\.png: the file is empty"):
        read_image(tmp_path / "empty.png")
    with pytest.raises(ImageError, match=r"text\.jpg: not an image"):
        read_image(tmp_path / "text.jpg")
    with pytest.raises(ImageError, match=r"none\.jpg: cannot be read \(No such file"):
        read_image(tmp_path / "none.jpg")


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path):
    path = png_bomb(tmp_path / "bomb.png")
    assert path.stat().st_size < 500_000
    with pytest.raises(ImageError, match=r"bomb\.png: .*pixels"):
        read_image(path)


def test_written_images_are_read_back(tmp_path: Path, picture: np.ndarray):
    write_image(tmp_path / "new" / "a.png", picture)
    np.testing.assert_array_equal(read_image(tmp_path / "new" / "a.png"), picture)
    (tmp_path / "file").touch()
    with pytest.raises(ImageError, match="cannot be written"):
        write_image(tmp_path / "file" / "a.png", picture)


_XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description \
xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="%d"/></rdf:RDF></x:xmpmeta>'


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("name", "said_in"),
    [*((f"a.{ending}", where) for ending in ("jpg", "png", "webp") for where in ("exif", "xmp")), ("a.tif", "exif")],
)
def test_the_header_tells_the_size_that_decoding_gives(
    tmp_path: Path, picture: np.ndarray, name: str, orientation: int, said_in: str
):
    """Labels are cut at it."""
    if said_in == "exif":
        exif = Image.Exif()
        exif[0x0112] = orientation
        more = {"exif": exif}
    else:
        more = {"xmp": _XMP % orientation}
    Image.fromarray(picture).save(tmp_path / name, **more)
    try:
        decoded = read_image(tmp_path / name).shape[:2]
    except ImageError:
        assert name == "a.tif"
        with pytest.raises(ImageError):
            check_image(tmp_path / name)
    else:
        assert check_image(tmp_path / name) == decoded


@pytest.mark.parametrize(
    ("name", "mode"), [("a.png", "RGBA"), ("a.png", "LA"), ("a.webp", "RGBA"), ("a.tif", "RGBA"), ("a.png", "P")]
)
def test_transparent_pages_lie_on_white(tmp_path: Path, name: str, mode: str):
    ink = Image.new("LA", (60, 40), (0, 0))
    ink.paste((0, 255), (10, 10, 50, 20))
    ink.paste((100, 128), (10, 25, 50, 35))
    if mode == "P":
        flat = Image.new("P", (60, 40), 0)
        flat.putpalette([255, 0, 0, 0, 0, 0, 178, 178, 178])
        flat.paste(1, (10, 10, 50, 20))
        flat.paste(2, (10, 25, 50, 35))
        flat.save(tmp_path / name, transparency=0)
    else:
        ink.convert(mode).save(tmp_path / name, **({"lossless": True} if name == "a.webp" else {}))
    want = np.full((40, 60, 3), 255)
    want[10:20, 10:50] = 0
    want[25:35, 10:50] = 178  # half of 100, half of 255
    assert np.abs(read_image(tmp_path / name).astype(int) - want).max() <= 1


def test_opaque_pixels_are_those_of_a_file_without_transparency(tmp_path: Path, picture: np.ndarray):
    Image.fromarray(picture).save(tmp_path / "a.png")
    Image.fromarray(picture).convert("RGBA").save(tmp_path / "b.png")
    assert np.array_equal(read_image(tmp_path / "a.png"), read_image(tmp_path / "b.png"))


@pytest.mark.parametrize("name", ["a.tif", "a.gif", "a.png", "a.webp"])
def test_a_file_of_several_pages_is_refused(tmp_path: Path, picture: np.ndarray, name: str):
    """Only its first page would be read."""
    pages = [Image.fromarray(p) for p in (picture, picture[::-1], picture[:, ::-1])]
    pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:])
    for read in (read_image, check_image):
        with pytest.raises(ImageError, match=r"holds 3 pages; give each a file of its own"):
            read(tmp_path / name)


RAMP = np.linspace(0, 1, 256)[None].repeat(32, axis=0)


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
@pytest.mark.parametrize("suffix", [".png", ".tiff"])
@pytest.mark.parametrize("channels", [1, 3])
def test_f77_images_of_16_bits_use_the_range_that_they_fill(tmp_path: Path, bits: int, suffix: str, channels: int):
    values = np.rint(RAMP * (2**bits - 1)).astype(np.uint16)
    path = tmp_path / f"page{suffix}"
    path.write_bytes(cv2.imencode(suffix, values if channels == 1 else np.dstack([values, values // 2, values // 4]))[1].tobytes())
    found = read_image(path)
    expected = np.rint(values * (255 / (2**bits - 1)))
    assert found.dtype == np.uint8
    assert np.abs(found[..., 0] - (expected if channels == 1 else expected / 4)).max() <= 1
    if channels == 1:
        np.testing.assert_array_equal(as_image(Image.fromarray(values), "page"), found)


def png_16(values: np.ndarray, alpha: np.ndarray) -> bytes:
    """A grey PNG of 16 bits with transparency, by the specification; no library at hand writes one."""
    height, width = values.shape
    rows = b"".join(b"\0" + np.dstack([v, a]).astype(">u2").tobytes() for v, a in zip(values, alpha, strict=True))

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 4, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_f77_transparent_images_of_16_bits_lie_on_white(tmp_path: Path):
    values = np.rint(RAMP * 65535).astype(np.uint16)
    alpha = np.full_like(values, 65535)
    alpha[:16] = 0
    (tmp_path / "a.png").write_bytes(png_16(values, alpha))
    found = read_image(tmp_path / "a.png")
    assert (found[:16] == 255).all()
    np.testing.assert_array_equal(found[16:, :, 0], np.rint(RAMP[16:] * 255))


def test_f77_numbers_that_are_no_brightness_are_refused():
    with pytest.raises(ImageError, match="float32 from"):
        as_image(Image.fromarray(RAMP.astype(np.float32)), "page")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_deep_images_are_upright(tmp_path: Path, orientation: int):
    values = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(values).save(tmp_path / "8.png", exif=exif)
    Image.fromarray(values.astype(np.uint16) * 257).save(tmp_path / "16.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "16.png"), read_image(tmp_path / "8.png"))


FORMATS: dict[str, dict[str, Any]] = {
    "PNG": {}, "JPEG": {}, "BMP": {}, "WEBP": {"lossless": True}, "TIFF": {"compression": "tiff_lzw"},
}  # fmt: skip


@pytest.mark.parametrize("kind", FORMATS)
def test_f78_a_file_with_bytes_behind_its_end_is_whole(picture: np.ndarray, kind: str):
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **FORMATS[kind])
    whole = decode_image(buffer.getvalue(), "a")
    for tail in (b"\0", b"\n\n", b"x" * 5000, bytes(70_000), buffer.getvalue()):
        np.testing.assert_array_equal(decode_image(buffer.getvalue() + tail, "a"), whole)


def image_or_line(content: bytes) -> np.ndarray | None:
    """The pixels; None for an error in one line. Anything else fails."""
    try:
        return decode_image(content, "a")
    except ImageError as error:
        if "\n" in str(error):
            raise
        return None


@pytest.mark.parametrize("kind", FORMATS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_f78_a_file_that_is_cut_or_changed_is_an_image_or_an_error(picture: np.ndarray, kind: str, data: st.DataObject):
    """What is cut is never made up; what is changed decodes to a picture, or is refused in one line."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, kind, **FORMATS[kind])
    content = bytearray(buffer.getvalue())
    cut = data.draw(st.integers(0, len(content) - 1) | st.integers(len(content) - 40, len(content)))
    if (found := image_or_line(bytes(content[:cut]))) is not None:
        np.testing.assert_array_equal(found, decode_image(bytes(content), "a"))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, min(200, len(content) - 1)))] = data.draw(st.integers(0, 255))
    if (found := image_or_line(bytes(content))) is not None:
        assert found.dtype == np.uint8
        assert found.shape[2:] == (3,)


def test_only_files_are_read(tmp_path: Path):
    os.mkfifo(tmp_path / "a.png")
    for read in (read_image, check_image):
        with pytest.raises(ImageError, match="no file"):
            read(tmp_path / "a.png")


def variants() -> dict[str, bytes]:
    """JPEG files of one picture, 40 x 30, as programs write them."""
    picture, found = Image.effect_noise((40, 30), 60).convert("RGB"), {}
    exif = Image.Exif()
    exif[0x0112] = 6
    ways: dict[str, dict[str, Any]] = {
        "plain": {}, "progressive": {"progressive": True}, "comment": {"comment": b"hello"},
        "restarts": {"restart_marker_blocks": 2}, "exif": {"exif": exif}, "profile": {"icc_profile": b"x" * 300},
        "dense": {"dpi": (300, 300)},
    }  # fmt: skip
    for name, options in ways.items():
        out = io.BytesIO()
        picture.save(out, "JPEG", **options)
        found[name] = out.getvalue()
    for mode in ("L", "CMYK"):
        out = io.BytesIO()
        picture.convert(mode).save(out, "JPEG")
        found[mode] = out.getvalue()
    return found


def test_plain_jpeg_files_are_known_by_their_frame():
    """What is told without Pillow is what Pillow tells; files with an orientation, a profile or four channels are left to it."""
    files = variants()
    assert {name for name, data in files.items() if _plain_jpeg(data)} == {
        "plain",
        "progressive",
        "comment",
        "restarts",
        "dense",
        "L",
    }
    for name, data in files.items():
        assert _checked(data, name).size == ((40, 30) if name == "exif" else (30, 40))
        assert _plain_jpeg(data) in (None, (30, 40))
        assert _plain_jpeg(data[:-1]) is None
    plain = files["plain"]
    scan, with_exif = plain.index(b"\xff\xda"), files["exif"]
    segment = with_exif[(at := with_exif.index(b"\xff\xe1")) : at + 2 + int.from_bytes(with_exif[at + 2 : at + 4], "big")]
    assert _plain_jpeg(plain[:scan] + segment + plain[scan:]) is None  # an orientation behind the frame
    assert _plain_jpeg(plain[:scan] + b"\xff\xd9") is None  # no pixels
