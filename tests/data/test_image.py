"""Image files: complete, upright, RGB, or refused by name."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ocrsdk.data.image import check_image, read_image, write_image
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
    assert check_image(path, decode=False) == found.shape[:2]


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
        check_image(path, decode=False)


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
            check_image(tmp_path / name, decode=False)
    else:
        assert check_image(tmp_path / name, decode=False) == decoded


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
    for read in (read_image, lambda path: check_image(path, decode=False)):
        with pytest.raises(ImageError, match=r"holds 3 pages; give each a file of its own"):
            read(tmp_path / name)
