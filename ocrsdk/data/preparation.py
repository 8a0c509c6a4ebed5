"""The deterministic part of making a sample: what it does, as a document that a cache version can be the fingerprint of.

Neither OpenCV nor numpy is imported, so that a version can be told without them.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

from ocrsdk.cache.base import OWN
from ocrsdk.cache.frame import SCHEMA
from ocrsdk.cache.make import package_of
from ocrsdk.fingerprint import differences
from ocrsdk.settings.sections import MAX_SIDE, SHORT_SIDE
from ocrsdk.version import __version__

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ocrsdk.settings.sections import AugmentSettings, CacheSettings, DataSettings, TargetSettings

PAGE_MULTIPLE = 32
"""Whole pages are padded to a multiple of this many pixels: the network's coarsest stride."""

_STRIP = 0.5
"""Text at less than this share of the size that is asked for is hardly found."""
_OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")


@dataclass(frozen=True)
class Preparation:
    """Shrinks a decoded page to the size that is needed, before anything random; never enlarges it.

    Scales are those of evaluation, where the shorter side becomes ``short_side`` pixels and the longer one at most ``max_side``.
    """

    short_side: int = SHORT_SIDE
    max_side: int = MAX_SIDE
    headroom: float = 1.0
    """Kept beyond the size at evaluation, for random scales above 1."""

    def evaluation_scale(self, height: int, width: int) -> float:
        """The factor that brings a page of this size to the size at evaluation."""
        return min(self.short_side / min(height, width), self.max_side / max(height, width))

    @property
    def strip_ratio(self) -> float:
        """Pages that are longer than this many times their width are strips."""
        return self.max_side / (_STRIP * self.short_side)

    def is_strip(self, height: int, width: int) -> bool:
        """Whether ``max_side`` makes a page of this size less than half as large as ``short_side`` asks for."""
        return max(height, width) > self.strip_ratio * min(height, width)

    def scale(self, height: int, width: int) -> float:
        """The factor of the preparation, at most 1."""
        return min(1.0, self.evaluation_scale(height, width) * self.headroom)


def sample_manifest(
    cache: CacheSettings, data: DataSettings, augment: AugmentSettings, targets: TargetSettings
) -> dict[str, object]:
    """Everything that changes the bytes of cached entries, whatever sample they are of.

    Args:
        cache: What is kept, how it is compressed, and by which backend.
        data: Sizes of pages.
        augment: Its largest scale, if above 1, asks for larger pages.
        targets: Decide target maps, where these are kept.
    """
    val = Preparation(data.short_side, data.max_side)
    train = Preparation(data.short_side, data.max_side, max(1.0, augment.scale_max))
    maps = cache.policy == "maps"
    manifest: dict[str, Any] = {
        "owner": OWN,
        "train": asdict(train),
        "val": asdict(val),
        "policy": cache.policy,
        **_program(cache.backend, maps),
    }
    manifest["encoding"]["codec"] = cache.compress
    if cache.policy in ("sample", "maps"):
        manifest["val"]["pad_to_multiple"] = PAGE_MULTIPLE
    if maps:
        manifest["maps"] = targets.model_dump() | {"codec": cache.compress_maps}
    return manifest


def _program(backend: str, maps: bool) -> dict[str, dict[str, object]]:
    """The part of a manifest that no setting changes."""
    code: dict[str, object] = {"ocrsdk": __version__, "opencv": opencv_version(), "pillow": metadata.version("pillow")}
    code |= package_of(backend)
    if maps:
        code |= {name: metadata.version(name) for name in ("numba", "pyclipper")}
    return {
        "pixels": {"colour": "rgb8", "deep": "range in use", "exif": "applied", "transparent": "on white", "resize": "area"},
        "encoding": {"schema": SCHEMA, "format": 1},
        "code": code,
    }


def superseded(manifest: Mapping[str, Any], backend: str) -> list[str]:
    """In what this program differs from the one that made a version: if in anything, no settings lead to that version any more.

    Args:
        manifest: Of a version with samples of ours.
        backend: Its backend.
    """
    now = _program(backend, "maps" in manifest)
    kept = {name: dict(manifest.get(name, {})) for name in now}
    kept["encoding"].pop("codec", None)
    return differences(kept, now)


def opencv_version() -> str:
    """The installed OpenCV, without importing it."""
    for name in _OPENCV:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return "unknown"
