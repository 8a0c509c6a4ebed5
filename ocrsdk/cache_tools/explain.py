"""Why is a page a hit or a miss?"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from ocrsdk.cache.base import OWN
from ocrsdk.cache.frame import unpack
from ocrsdk.cache.store import SampleCache
from ocrsdk.cache_tools.reports import Explanation
from ocrsdk.data.folder import read_sample
from ocrsdk.data.layout import find_pages
from ocrsdk.data.preparation import PAGE_MULTIPLE, Preparation
from ocrsdk.errors import CacheEntryError, DataError
from ocrsdk.fingerprint import differences
from ocrsdk.runs.build import sample_source

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from ocrsdk.cache.base import CacheBackend, VersionInfo
    from ocrsdk.cache.keys import EntryKey
    from ocrsdk.data.source import SampleSource
    from ocrsdk.settings.schema import Settings
    from ocrsdk.settings.sections import DataSettings
    from ocrsdk.types import Annotation


def explain(
    settings: Settings, cache: SampleCache, image: Path, open_version: Callable[[VersionInfo], CacheBackend]
) -> list[Explanation]:
    """See ``CacheControl.explain``.

    Args:
        settings: All settings.
        cache: That of the settings.
        image: An image of a data folder.
        open_version: The backend of another version.
    """
    mine = cache.backend.location
    annotation = find_annotation(image, settings.data)
    source = sample_source(settings, cache)
    others = [info for info in cache.backend.versions() if info.version != mine.version and info.owner == OWN and not info.problem]
    before = [(info, _keys(source, annotation, info.manifest)) for info in others]
    return [
        _explain(cache, key, [(info, keys[kind]) for info, keys in before if kind in keys], open_version)
        for kind, key in _keys(source, annotation, mine.manifest).items()
    ]


def find_annotation(image: Path, given: DataSettings) -> Annotation:
    """The annotation of ``image``, as training would read it.

    Raises:
        DataError: There is none, or it cannot be read.
    """
    if not image.is_file():
        raise DataError(f"{image}: no such file")
    root = image.absolute().parents[1]
    for entry in find_pages(root, given.format, given.format_options, given.images).entries:
        if entry.image.name == image.name:
            return read_sample(entry, given.outside, on_bad_box=given.on_bad_box)
    raise DataError(f"{image}: no label for it; expected images/ and labels/ side by side, or a label file beside images/")


def _explain(
    cache: SampleCache,
    key: EntryKey,
    others: list[tuple[VersionInfo, EntryKey]],
    open_version: Callable[[VersionInfo], CacheBackend],
) -> Explanation:
    kind, parts = str(key.parts["kind"]), dict(key.parts)
    elsewhere = {}
    for info, key_there in others:
        with closing(SampleCache(open_version(info))) as there:
            before = there.last_parts(key_there)
        if before is not None:
            apart = differences(info.manifest, cache.backend.location.manifest, "version.")
            elsewhere[info.version] = apart + differences(before, key.parts)

    def told(reason: str, changed: Sequence[str] = (), hit: bool = False) -> Explanation:
        return Explanation(kind, hit, key.digest, parts, list(changed), reason, elsewhere)

    try:
        if (value := cache.backend.get(key.digest)) is not None:
            unpack(key.digest, value)
            return told("", hit=True)
        before = cache.last_parts(key)
    except CacheEntryError as error:
        return told(f"kept, but damaged: {error}")
    if before is not None:
        changed = differences(before, key.parts)
        return told("changed since it was kept" if changed else "was made, but is not kept: beyond the budget, or removed", changed)
    return told("not seen with these settings" if elsewhere else "not seen before")


def _keys(source: SampleSource, annotation: Annotation, manifest: Mapping[str, Any]) -> dict[str, EntryKey]:
    """What training and validation look up for one page, in the version of ``manifest``."""
    train, val = Preparation(**manifest["train"]), dict(manifest["val"])
    multiple = val.pop("pad_to_multiple", PAGE_MULTIPLE)
    keys = {"image": source.page_key(annotation, train)}
    prepared = Preparation(**val)
    if manifest["policy"] in ("sample", "maps"):
        recipe: dict[str, Any] = {"short_side": prepared.short_side, "max_side": prepared.max_side, "multiple": multiple}
        keys["sample"] = source.sample_key(annotation, prepared, recipe)
        if (maps := manifest.get("maps")) is not None:
            targets = {name: value for name, value in maps.items() if name != "codec"}
            keys["maps"] = source.maps_key(annotation, prepared, recipe | {"targets": targets})
    elif prepared != train:
        keys["image for validation"] = source.page_key(annotation, prepared)
    return keys
