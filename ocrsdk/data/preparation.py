"""The deterministic part of making a sample: what it does, as a document that a cache version can be the fingerprint of.

Neither OpenCV nor numpy is imported, so that a version can be told without them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any, Literal

from ocrsdk.cache.frame import SCHEMA
from ocrsdk.version import __version__

Codec = Literal["none", "lz4", "zstd"]

PAGE_MULTIPLE = 32
"""Whole pages are padded to a multiple of this many pixels: the network's coarsest stride."""

_OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")


@dataclass(frozen=True)
class Preparation:
    """Shrinks a decoded page to the size that is needed, before anything random; never enlarges it.

    Scales are those of evaluation, where the shorter side becomes ``short_side`` pixels and the longer one at most ``max_side``.
    """

    short_side: int = 832
    max_side: int = 2560
    headroom: float = 1.0
    """Kept beyond the size at evaluation, for random scales above 1."""

    def evaluation_scale(self, height: int, width: int) -> float:
        """The factor that brings a page of this size to the size at evaluation."""
        return min(self.short_side / min(height, width), self.max_side / max(height, width))

    def scale(self, height: int, width: int) -> float:
        """The factor of the preparation, at most 1."""
        return min(1.0, self.evaluation_scale(height, width) * self.headroom)


def sample_manifest(
    policy: str,
    train: Preparation,
    val: Preparation,
    multiple: int,
    codec: str,
    maps: dict[str, Any] | None,
    plugins: dict[str, str],
) -> dict[str, Any]:
    """Everything that changes the bytes of cached entries, whatever sample they are of.

    Args:
        policy: What is cached.
        train: Preparation of training pages.
        val: Preparation of validation pages.
        multiple: Whole samples are padded to a multiple of this many pixels.
        codec: Compression of pixels.
        maps: Parameters and compression of target maps, if these are kept.
        plugins: Name -> distribution and version of the plug-ins that take part.
    """
    manifest: dict[str, Any] = {
        "pixels": {"colour": "rgb8", "exif": "applied", "transparent": "on white", "resize": "area"},
        "train": asdict(train),
        "val": asdict(val),
        "policy": policy,
        "encoding": {"schema": SCHEMA, "format": 1, "codec": codec},
        "code": {"ocrsdk": __version__, "opencv": opencv_version(), "pillow": metadata.version("pillow"), **plugins},
    }
    if policy in ("sample", "maps"):
        manifest["val"]["pad_to_multiple"] = multiple
    if maps is not None:
        manifest["maps"] = maps
        manifest["code"] |= {name: metadata.version(name) for name in ("numba", "pyclipper")}
    return manifest


def opencv_version() -> str:
    """The installed OpenCV, without importing it."""
    for name in _OPENCV:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"
