"""Prepared pages and whole validation samples, made from their files or taken from a cache.

Only deterministic steps pass through here: nothing random is an argument of ``SampleSource``, so no random view can reach a cache.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from ocrsdk.cache.encoding import decode_arrays, encode_arrays
from ocrsdk.cache.keys import EntryKey
from ocrsdk.data.image import read_image
from ocrsdk.data.listing import GONE, file_state
from ocrsdk.data.transforms import prepare
from ocrsdk.errors import ImageError
from ocrsdk.fingerprint import fingerprint
from ocrsdk.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from ocrsdk.cache.store import SampleCache
    from ocrsdk.data.preparation import Preparation
    from ocrsdk.settings.sections import Codec, Identity
    from ocrsdk.types import Annotation

Policy = Literal["image", "sample", "maps"]


@dataclass(frozen=True, eq=False)
class Page:
    """A decoded, prepared page."""

    image: NDArray[np.uint8]
    """(H, W, 3) RGB; may be read-only."""
    matrix: NDArray[np.float64]
    """(3, 3), maps points of the upright original to points of ``image``."""
    original_size: tuple[int, int]
    """(height, width) of the upright original in pixels."""

    def arrays(self) -> dict[str, NDArray[np.generic]]:
        """What is kept of it."""
        return {"image": self.image, "matrix": self.matrix, "size": np.array(self.original_size, np.int64)}

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]]) -> Page:
        """The page of which ``arrays`` were kept."""
        height, width = (int(side) for side in arrays["size"])
        return cls(arrays["image"], arrays["matrix"], (height, width))

    @classmethod
    def prepared(cls, image: NDArray[np.uint8], preparation: Preparation) -> Page:
        """The page of a decoded image, (H, W, 3) RGB, upright."""
        prepared, matrix = prepare(image, preparation)
        return cls(prepared, matrix, (image.shape[0], image.shape[1]))


class Made(NamedTuple):
    """The arrays of a whole sample."""

    arrays: dict[str, NDArray[Any]]
    source: Mapping[str, Any] | None
    """What tells the image file that they were made from; None if it was changed meanwhile, or if nothing was kept."""


class SampleSource:
    """Makes pages, samples and target maps, through a cache if there is one.

    Args:
        cache: Opened for the version of these preparations; None makes everything anew.
        policy: What is kept: ``image``, prepared pages; ``sample``, whole samples as well; ``maps``, their target maps, too.
        identity: What tells one image file from another: ``path`` (with size, times and inode), or its ``content``.
        codec: Compression of cached pixels.
        maps_codec: Compression of cached target maps.
    """

    def __init__(
        self,
        cache: SampleCache | None = None,
        policy: Policy = "sample",
        identity: Identity = "path",
        codec: Codec = "none",
        maps_codec: Codec = "none",
    ) -> None:
        self.cache, self.policy, self.identity = cache, policy, identity
        self.codec, self.maps_codec = codec, maps_codec
        self._told = set[Path]()

    def read(self, annotation: Annotation) -> NDArray[np.uint8]:
        """(H, W, 3) RGB, upright: override it, and ``identity_of``, for images that are no files.

        Raises:
            ImageError: The image cannot be read.
        """
        return read_image(annotation.image)

    def identity_of(self, annotation: Annotation) -> dict[str, object]:
        """What tells one state of the image from another, JSON-ready.

        Raises:
            ImageError: The image cannot be read.
        """
        path = _absolute(annotation.image)
        try:
            if self.identity == "content":
                with path.open("rb") as file:
                    return {"content": hashlib.file_digest(file, "sha256").hexdigest()}
            status = path.stat()
        except OSError as error:
            raise ImageError(f"{path}: cannot be read ({error.strerror})") from error
        found = {"path": str(path), "size": status.st_size, "mtime_ns": status.st_mtime_ns}
        return found | {"ctime_ns": status.st_ctime_ns, "inode": status.st_ino}  # no copy can set these

    def read_page(self, annotation: Annotation, preparation: Preparation) -> Page:
        """The prepared page, from its source."""
        return Page.prepared(self.read(annotation), preparation)

    def page(self, annotation: Annotation, preparation: Preparation) -> Page:
        """The prepared page of ``annotation``.

        Raises:
            ImageError: The file cannot be read.
        """
        self._notice(annotation)
        arrays, _ = self._kept(
            lambda: self.page_key(annotation, preparation),
            self.codec,
            lambda: self.read_page(annotation, preparation).arrays(),
        )
        return Page.of(arrays)

    def arrays(
        self,
        annotation: Annotation,
        preparation: Preparation,
        recipe: dict[str, object],
        make: Callable[[Page], dict[str, NDArray[np.generic]]],
    ) -> Made:
        """The arrays of a whole, deterministic sample.

        Args:
            annotation: What it is made from.
            preparation: Of its page.
            recipe: Everything else that ``make`` depends on, JSON-ready.
            make: Makes it from the page.
        """
        if self.policy == "image":
            return Made(make(self.page(annotation, preparation)), None)
        self._notice(annotation)
        arrays, key = self._kept(
            lambda: self.sample_key(annotation, preparation, recipe),
            self.codec,
            lambda: make(self.read_page(annotation, preparation)),
        )
        return Made(arrays, key.parts["source"] if key is not None else None)

    def maps(
        self,
        annotation: Annotation,
        preparation: Preparation,
        recipe: dict[str, object],
        sample: Made,
        draw: Callable[[], dict[str, NDArray[np.generic]]],
    ) -> dict[str, NDArray[np.generic]]:
        """The target maps of a whole, deterministic sample.

        Args:
            annotation: What it was made from.
            preparation: Of its page.
            recipe: Everything else that sample and maps depend on, JSON-ready.
            sample: From ``arrays``; its maps are kept for the image file that it was made from, whatever stands there by now.
            draw: Draws them.
        """
        source = sample.source
        if self.policy != "maps" or source is None:
            return draw()
        return self._kept(lambda: self.maps_key(annotation, preparation, recipe, source), self.maps_codec, draw)[0]

    def _notice(self, annotation: Annotation) -> None:
        """Tell once of an image that is another by now: its labels are those of the one that was there before."""
        before, image = annotation.state, annotation.image
        if before != GONE and file_state(image) not in (before, GONE) and image not in self._told:
            self._told.add(image)
            get_logger(__name__).warning("a page was replaced during the run; its labels are as they were before", image=str(image))

    def _kept(
        self, key_now: Callable[[], EntryKey], codec: Codec, make: Callable[[], dict[str, NDArray[np.generic]]]
    ) -> tuple[dict[str, NDArray[np.generic]], EntryKey | None]:
        """The arrays, and the key under which they are right: None if the file was changed while it was read."""
        if self.cache is None or not self.cache.enabled:
            return make(), None
        key = key_now()
        if (value := self.cache.get(key).value) is not None:
            return decode_arrays(value), key
        arrays = make()
        if key_now().digest != key.digest:
            return arrays, None
        self.cache.set(key, encode_arrays(arrays, codec))
        return arrays, key

    def page_key(self, annotation: Annotation, preparation: Preparation) -> EntryKey:
        """The key of ``page``."""
        return self._key("image", annotation, None, {"preparation": asdict(preparation)})

    def sample_key(self, annotation: Annotation, preparation: Preparation, recipe: dict[str, object]) -> EntryKey:
        """The key of ``arrays``."""
        return self._key("sample", annotation, None, {"preparation": asdict(preparation), "recipe": recipe})

    def maps_key(
        self,
        annotation: Annotation,
        preparation: Preparation,
        recipe: dict[str, object],
        source: Mapping[str, object] | None = None,
    ) -> EntryKey:
        """The key of ``maps``; ``source`` is that of the sample, by default what the image file is now."""
        return self._key("maps", annotation, source, {"preparation": asdict(preparation), "recipe": recipe})

    def _key(self, kind: str, annotation: Annotation, source: Mapping[str, object] | None, parts: dict[str, object]) -> EntryKey:
        path = _absolute(annotation.image)
        parts = {"kind": kind, "source": source or self.identity_of(annotation), "annotation": annotation.digest, **parts}
        made_by = fingerprint({name: parts[name] for name in parts.keys() & {"preparation", "recipe"}})
        return EntryKey(f"{kind} {made_by} {path}", parts)


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - resolve() asks the disk for every component
