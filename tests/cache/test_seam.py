"""A backend from a plug-in sees each decoded image once, and what it returns is what training reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ocrsdk.cache.base import CacheBackend, CacheLocation
from ocrsdk.cache.null import NullCache
from ocrsdk.cache.versioning import fingerprint
from ocrsdk.data.dataset import EvalDataset, load_annotations
from ocrsdk.data.image import read_image
from ocrsdk.data.source import ImageSource, decode_image, encode_image, image_version
from ocrsdk.data.transforms import EvalTransform


class DictCache(CacheBackend):
    name = "dict"
    summary = "for this test"

    def __init__(self, location: CacheLocation, options: object = None) -> None:
        super().__init__(location)
        self.values: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    def set(self, key: str, value: bytes) -> None:
        assert key not in self.values
        self.values[key] = value

    def close(self) -> None:
        pass


def test_cached_and_read_pixels_are_equal(tmp_path: Path, synth_pages: Path):
    annotations, _ = load_annotations(synth_pages / "val")
    cache = DictCache(CacheLocation(tmp_path, image_version()))
    plain, cached = EvalDataset(annotations, EvalTransform(96)), EvalDataset(annotations, EvalTransform(96), ImageSource(cache))
    for _ in range(2):
        for index in range(len(annotations)):
            np.testing.assert_array_equal(plain[index].image, cached[index].image)
    assert len(cache.values) == len(annotations)


def test_a_changed_file_has_another_key(tmp_path: Path, synth_pages: Path):
    path = tmp_path / "page.png"
    path.write_bytes((synth_pages / "val/images/0000.png").read_bytes())
    cache = DictCache(CacheLocation(tmp_path, "v"))
    source = ImageSource(cache)
    source.read(path)
    path.write_bytes((synth_pages / "val/images/0001.png").read_bytes())
    np.testing.assert_array_equal(source.read(path), read_image(path))
    assert len(cache.values) == 2


def test_encoding_round_trip_and_damage():
    image = np.random.default_rng(0).integers(0, 255, (5, 7, 3)).astype(np.uint8)
    data = encode_image(image)
    np.testing.assert_array_equal(decode_image(data), image)
    for bad in (b"", data[:10], data[:-1], b"NOPE" + data[4:], data + b"\0"):
        with pytest.raises(ValueError, match="bytes|magic"):
            decode_image(bad)


def test_none_keeps_nothing(tmp_path: Path):
    cache = NullCache(CacheLocation(tmp_path / "c", "v"))
    cache.set("k", b"v")
    assert cache.get("k") is None
    assert not cache.enabled
    assert not (tmp_path / "c").exists()


def test_fingerprints_differ_with_any_value_and_not_with_order():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert len({fingerprint(d) for d in ({"a": 1}, {"a": 2}, {"a": "1"}, {"b": 1}, {"a": [1]}, {})}) == 6
