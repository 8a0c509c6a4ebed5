"""Are the bytes in a cache those that their sources give?"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocrsdk.cache.encoding import encode_arrays
from ocrsdk.cache.frame import unpack
from ocrsdk.cache.store import read_note
from ocrsdk.cache_tools.explain import find_annotation
from ocrsdk.cache_tools.reports import Validation
from ocrsdk.data.dataset import EvalDataset, draw_maps
from ocrsdk.data.preparation import Preparation
from ocrsdk.data.transforms import EvalTransform
from ocrsdk.errors import CacheEntryError, DataError
from ocrsdk.runs.build import sample_source
from ocrsdk.settings.sections import TargetSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from ocrsdk.cache.keys import EntryKey
    from ocrsdk.cache.store import SampleCache
    from ocrsdk.settings.schema import Settings


def validate(settings: Settings, cache: SampleCache, sample: int | None, progress: Callable[[Any, int], Any]) -> Validation:
    """See ``CacheControl.validate``.

    Args:
        settings: All settings.
        cache: That of the settings.
        sample: So many entries, chosen at random; None for all.
        progress: Wraps the loop.
    """
    result = Validation(identity=settings.cache.identity)
    keys = list(cache.backend)
    result.entries = len(keys)
    chosen = keys if sample is None or sample >= len(keys) else random.sample(keys, sample)
    for key in progress(chosen, len(chosen)):
        try:
            value = cache.backend.get(key)
            if value is None:
                continue
            note = read_note(key, value)
        except CacheEntryError as error:
            result.damaged.append(f"{key}: {error}")
            continue
        result.checksums += 1
        if note is not None:
            _compare(settings, cache, note, result)
    return result


def _compare(settings: Settings, cache: SampleCache, kept: EntryKey, result: Validation) -> None:
    """Make an entry again."""
    kind, _, path = kept.origin.split(" ", 2)
    try:
        value = cache.backend.get(kept.digest)
        if value is None:
            return
        body = unpack(kept.digest, value)
    except CacheEntryError:  # is found, and told, under its own key
        return
    preparation = Preparation(**kept.parts["preparation"])
    source = sample_source(settings, cache)
    try:
        annotation = find_annotation(Path(path), settings.data)
        recipe = dict(kept.parts.get("recipe", {}))
        if kind == "image":
            now = source.page_key(annotation, preparation)
        else:
            now = (source.sample_key if kind == "sample" else source.maps_key)(annotation, preparation, recipe)
        if now.digest != kept.digest:
            result.outdated += 1
            return
        page = source.read_page(annotation, preparation)
    except DataError:
        result.outdated += 1
        return
    arrays, codec, targets = page.arrays(), source.codec, recipe.pop("targets", None)
    if kind != "image":
        arrays = EvalDataset([annotation], EvalTransform(**recipe)).make(annotation, page)
    if targets is not None:
        arrays, codec = draw_maps(arrays, TargetSettings(**targets)), source.maps_codec
    result.compared += 1
    if encode_arrays(arrays, codec) != bytes(body):
        result.different.append(f"{path} ({kind})")
