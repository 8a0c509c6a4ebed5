"""Prepared pages and whole validation samples, made from their files or taken from a cache.

Only deterministic steps pass through here: nothing random is an argument of ``SampleSource``, so no random view can reach a cache.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from ocrsdk.cache.versioning import EntryKey, fingerprint
from ocrsdk.data.encoding import decode_arrays, encode_arrays
from ocrsdk.data.image import read_image
from ocrsdk.data.transforms import prepare
from ocrsdk.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from ocrsdk.cache.store import SampleCache
    from ocrsdk.data.preparation import Codec, Preparation
    from ocrsdk.types import Annotation

Identity = Literal["path", "content"]


@dataclass(frozen=True, eq=False)
class Page:
    """A decoded, prepared page."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB; may be read-only."""
    matrix: NDArray[np.float64]
    """(3, 3), maps points of the upright original to points of ``image``."""
    original_size: tuple[int, int]
    """(height, width) of the upright original in pixels."""

    @classmethod
    def read(cls, path: Path, preparation: Preparation) -> Page:
        """Decode and prepare an image file.

        Raises:
            ImageError: The file cannot be read.
        """
        image = read_image(path)
        prepared, matrix = prepare(image, preparation)
        return cls(prepared, matrix, (image.shape[0], image.shape[1]))


class SampleSource:
    """Makes pages and samples, through a cache if there is one.

    Args:
        cache: Opened for the version of these preparations; None makes everything anew.
        identity: What tells one image file from another: ``path`` (with size and modification time), or its ``content``.
        codec: Compression of cached pixels.
        whole_samples: Whether ``arrays`` may be answered from the cache.
    """

    def __init__(
        self, cache: SampleCache | None = None, identity: Identity = "path", codec: Codec = "none", whole_samples: bool = True
    ) -> None:
        self.cache, self.identity, self.codec, self.whole_samples = cache, identity, codec, whole_samples

    def page(self, annotation: Annotation, preparation: Preparation) -> Page:
        """The prepared page of ``annotation``.

        Raises:
            ImageError: The file cannot be read.
        """
        if self.cache is None or not self.cache.enabled:
            return Page.read(annotation.image, preparation)
        key = self.page_key(annotation, preparation)
        if (value := self.cache.get(key).value) is not None:
            found = decode_arrays(value)
            height, width = (int(side) for side in found["size"])
            return Page(found["image"], found["matrix"], (height, width))
        page = Page.read(annotation.image, preparation)
        if self.page_key(annotation, preparation).digest == key.digest:  # else the file was changed while it was read
            self.cache.set(key, encode_page(page, self.codec))
        return page

    def arrays(
        self,
        annotation: Annotation,
        preparation: Preparation,
        recipe: dict[str, Any],
        make: Callable[[Page], dict[str, NDArray[Any]]],
    ) -> dict[str, NDArray[Any]]:
        """The arrays of a whole, deterministic sample.

        Args:
            annotation: What it is made from.
            preparation: Of its page.
            recipe: Everything else that ``make`` depends on, JSON-ready.
            make: Makes it from the page.
        """
        if self.cache is None or not self.cache.enabled or not self.whole_samples:
            return make(self.page(annotation, preparation))
        key = self.sample_key(annotation, preparation, recipe)
        if (value := self.cache.get(key).value) is not None:
            return decode_arrays(value)
        arrays = make(Page.read(annotation.image, preparation))
        if self.sample_key(annotation, preparation, recipe).digest == key.digest:
            self.cache.set(key, encode_arrays(arrays, self.codec))
        return arrays

    def page_key(self, annotation: Annotation, preparation: Preparation) -> EntryKey:
        """The key of ``page``."""
        return self._key("image", annotation, {"preparation": asdict(preparation)})

    def sample_key(self, annotation: Annotation, preparation: Preparation, recipe: dict[str, Any]) -> EntryKey:
        """The key of ``arrays``."""
        return self._key("sample", annotation, {"preparation": asdict(preparation), "recipe": recipe})

    def _key(self, kind: str, annotation: Annotation, parts: dict[str, Any]) -> EntryKey:
        path = Path(os.path.abspath(annotation.image))  # noqa: PTH100 - resolve() asks the disk for every component
        parts = {"kind": kind, "source": self._identity(path), "annotation": annotation.digest, **parts}
        made_by = fingerprint({name: parts[name] for name in parts.keys() & {"preparation", "recipe"}})
        return EntryKey(f"{kind} {made_by} {path}", parts)

    def _identity(self, path: Path) -> dict[str, Any]:
        try:
            if self.identity == "content":
                with path.open("rb") as file:
                    return {"content": hashlib.file_digest(file, "sha256").hexdigest()}
            status = path.stat()
        except OSError as error:
            raise ImageError(f"{path}: cannot be read ({error.strerror})") from error
        return {"path": str(path), "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def encode_page(page: Page, codec: Codec) -> bytes:
    """The bytes under which a page is cached."""
    return encode_arrays({"image": page.image, "matrix": page.matrix, "size": np.array(page.original_size, np.int64)}, codec)
