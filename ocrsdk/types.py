"""The records that travel between the parts, with shapes, dtypes and units beside each field.

Points are (x, y) in pixels; pixel (0, 0) has its centre at (0, 0); y points down.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import numpy as np
    import torch
    from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class TextInstance:
    """One annotated text region."""

    polygon: NDArray[np.float32]
    """(N, 2) outline in pixels of the upright image, N >= 3."""
    text: str = ""
    ignore: bool = False
    """True for a don't-care region (``###``): neither rewarded nor punished."""


@dataclass(frozen=True, eq=False)
class Annotation:
    """An image file and the text regions in it."""

    image: Path
    instances: tuple[TextInstance, ...]
    state: int = -1
    """What the image file was when its labels were read, a number that changes with its size, times or inode; -1 if not known."""
    _digest: str = field(default="", repr=False)

    @property
    def polygons(self) -> list[NDArray[np.float32]]:
        """The outlines, in file order."""
        return [instance.polygon for instance in self.instances]

    @property
    def ignore(self) -> NDArray[np.bool_]:
        """(n,) don't-care flags, in file order."""
        import numpy as np

        return np.array([instance.ignore for instance in self.instances], dtype=np.bool_)

    @property
    def digest(self) -> str:
        """16 hex digits that change with any polygon, text or don't-care flag; found once."""
        if not self._digest:
            object.__setattr__(self, "_digest", self._find_digest())
        return self._digest

    def _find_digest(self) -> str:
        import numpy as np

        digest = hashlib.sha256()
        for instance in self.instances:
            head = f"{len(instance.polygon)} {instance.ignore:d} {len(instance.text)} {instance.text}\n"
            digest.update(head.encode("utf-8", "replace"))
            digest.update(np.asarray(instance.polygon, "<f4").tobytes())
        return digest.hexdigest()[:16]


MapT = TypeVar("MapT", "NDArray[Any]", "torch.Tensor")


@dataclass(frozen=True, eq=False)
class TargetMaps(Generic[MapT]):
    """What a DB detector learns, drawn from polygons: (H, W) arrays of one page, or (B, 1, H, W) tensors of a batch."""

    prob_map: MapT
    """uint8, 1 inside the shrunk text."""
    prob_mask: MapT
    """uint8, 0 where the probability map is not judged (ignored or too small text)."""
    thresh_map: MapT
    """float32 in [thresh_min, thresh_max], highest on the outline of the text."""
    thresh_mask: MapT
    """uint8, 1 in the band around text where the threshold map is judged."""

    def __iter__(self) -> Iterator[MapT]:
        return iter((self.prob_map, self.prob_mask, self.thresh_map, self.thresh_mask))


@dataclass(frozen=True, eq=False)
class Sample:
    """One prepared image."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB."""
    polygons: list[NDArray[np.float32]]
    """(N, 2) each, in pixels of ``image``."""
    ignore: NDArray[np.bool_]
    """(n,) don't-care flags."""
    matrix: NDArray[np.float64]
    """(3, 3), maps points of the upright original to points of ``image``."""
    annotation: Annotation
    """The source: file, and polygons in original pixels."""
    original_size: tuple[int, int]
    """(height, width) of the upright original in pixels."""
    targets: TargetMaps[NDArray[Any]] | None = None


class Batch:
    """Samples of one size, stacked.

    It is no dataclass: Lightning's strategies with a real dtype walk through dataclasses to convert what is in them, and refuse
    frozen ones. Nothing here wants to be converted; the network takes bytes, and the loss computes in at least fp32.

    Args:
        image: (B, 3, H, W) uint8 RGB, channels-last in memory.
        samples: The samples without their pixels, for names, matrices and truth.
        targets: Their maps, if they have any.
    """

    __slots__ = ("image", "samples", "targets")

    def __init__(self, image: torch.Tensor, samples: list[Sample], targets: TargetMaps[torch.Tensor] | None = None) -> None:
        self.image, self.samples, self.targets = image, samples, targets

    def __len__(self) -> int:
        return len(self.image)

    def to(self, device: torch.device | str, non_blocking: bool = True) -> Batch:
        """The same batch with its tensors on ``device``."""
        targets = self.targets
        if targets is not None:
            targets = TargetMaps(*(m.to(device, non_blocking=non_blocking) for m in targets))
        return Batch(self.image.to(device, non_blocking=non_blocking), self.samples, targets)

    def pin_memory(self) -> Batch:
        """Called by ``DataLoader(pin_memory=True)``."""
        targets = self.targets
        if targets is not None:
            targets = TargetMaps(*(m.pin_memory() for m in targets))
        return Batch(self.image.pin_memory(), self.samples, targets)


@dataclass(frozen=True, eq=False)
class Detection:
    """One detected text region."""

    polygon: NDArray[np.float32]
    """(N, 2) outline in pixels of the original image; N = 4 for quads."""
    score: float
    """Mean probability inside the region, 0 to 1."""


@dataclass(frozen=True, eq=False)
class PageDetections:
    """What was found in one image."""

    image: Path
    size: tuple[int, int]
    """(height, width) of the upright image in pixels."""
    detections: list[Detection] = field(default_factory=list)

    def as_dict(self) -> dict[str, object]:
        """A JSON-ready form."""
        return {
            "image": str(self.image),
            "height": self.size[0],
            "width": self.size[1],
            "detections": [
                {"polygon": [[round(float(v), 2) for v in p] for p in d.polygon], "score": round(d.score, 4)}
                for d in self.detections
            ],
        }
