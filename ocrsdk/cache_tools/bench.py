"""Is a cache worth it here? Measured on the user's own pages and disk."""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ocrsdk.cache.base import CacheLocation
from ocrsdk.cache.encoding import check_codec, decode_arrays, encode_arrays
from ocrsdk.cache.store import SampleCache
from ocrsdk.cache_tools.reports import CacheBench, CodecCost
from ocrsdk.data.dataset import EvalDataset, draw_maps
from ocrsdk.data.image import read_image
from ocrsdk.data.source import Page, SampleSource
from ocrsdk.data.transforms import prepare
from ocrsdk.errors import CacheError, SettingsError
from ocrsdk.runs.build import eval_transform, train_transform
from ocrsdk.runs.check import read_split, sources_or_root

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from ocrsdk.cache.keys import EntryKey
    from ocrsdk.cache_tools.control import Progress
    from ocrsdk.settings.schema import Settings
    from ocrsdk.settings.sections import Codec

WORTH_IT = 1.5
"""A page must be made so many times slower than it is read, before a cache is advised."""


def measure(settings: Settings, data: Path, pages: int, cache: SampleCache, progress: Progress) -> CacheBench:
    """See ``CacheControl.bench``.

    Args:
        settings: All settings.
        data: Data folder; its training pages are taken.
        pages: At most so many pages.
        cache: Tells backend, options and folder; what it holds is not touched.
        progress: Wraps the loop over pages.
    """
    if not cache.backend.enabled:
        raise SettingsError("cache.backend=none keeps nothing, so there is nothing to measure. Try: --set cache.backend=diskcache")
    given = settings.data
    unkept = settings.model_copy(update={"data": given.model_copy(update={"index": False})})
    found = read_split(sources_or_root(data, given.train, given), unkept, "header").annotations
    annotations = found[:: max(1, len(found) // pages)][:pages]
    preparation, whole = train_transform(settings).preparation, EvalDataset(annotations, eval_transform(settings))
    targets = settings.targets
    spent: dict[str, list[float]] = {}

    def timed(name: str, call: Callable[..., object], *arguments: object) -> Any:
        start = time.perf_counter()
        result = call(*arguments)
        spent.setdefault(name, []).append((time.perf_counter() - start) * 1e6)
        return result

    codecs: list[Codec] = []
    for codec in cast("tuple[Codec, ...]", ("none", "lz4", "zstd")):
        try:
            check_codec(codec, "cache.compress")
        except SettingsError:
            continue
        codecs.append(codec)
    cache.backend.location.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    sizes: dict[str, list[int]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-", dir=cache.backend.location.folder) as folder:
        location = CacheLocation(Path(folder), "0" * 16, {"bench": True}, cache.backend.location.budget)
        bench = SampleCache(type(cache.backend)(location, cache.backend.options))
        bench.backend.prepare()
        source = SampleSource(bench)
        for annotation in progress(annotations, len(annotations)):
            image = timed("decode", read_image, annotation.image)
            prepared, matrix = timed("prepare", prepare, image, preparation)
            page = Page(prepared, matrix, (image.shape[0], image.shape[1]))
            sample = whole.make(annotation, page)
            for _ in range(2):
                maps = timed("maps", draw_maps, sample, targets)
            entries = {
                "page": (source.page_key(annotation, preparation), page.arrays()),
                "maps": (source.maps_key(annotation, preparation, targets.model_dump()), maps),
            }
            for codec in codecs:
                for kind, (key, arrays) in entries.items():
                    data_bytes = timed(f"encode {kind} {codec}", encode_arrays, arrays, codec)
                    sizes.setdefault(f"{kind} {codec}", []).append(len(data_bytes))
                    timed(f"write {kind} {codec}", bench.set, key, data_bytes)
                    for _ in range(5):
                        timed(f"read {kind} {codec}", _read, bench, key)
        bench.close()
    median = {name: statistics.median(values) for name, values in spent.items()}
    costs, maps_costs = (
        [
            CodecCost(
                codec,
                int(statistics.median(sizes[f"{kind} {codec}"])),
                median[f"encode {kind} {codec}"],
                median[f"write {kind} {codec}"],
                median[f"read {kind} {codec}"],
            )
            for codec in codecs
        ]
        for kind in ("page", "maps")
    )
    return CacheBench(
        len(annotations),
        median["decode"],
        median["prepare"],
        median["maps"],
        costs,
        maps_costs,
        _verdict(median, costs, settings.cache.compress),
    )


def _read(bench: SampleCache, key: EntryKey) -> dict[str, NDArray[np.generic]]:
    value = bench.get(key).value
    if value is None:
        raise CacheError("a page that was just written cannot be read back; see: ocrsdk cache health")
    return decode_arrays(value)


def _verdict(median: dict[str, float], costs: list[CodecCost], codec: str) -> str:
    made = median["decode"] + median["prepare"]
    mine = next((cost for cost in costs if cost.codec == codec), costs[0])
    if made < WORTH_IT * mine.read_us:
        return (
            f"not worth it here: a page is made in {made / 1000:.1f} ms and read in {mine.read_us / 1000:.1f} ms. Try: --cache none"
        )
    first = 2 + int((mine.encode_us + mine.write_us) / (made - mine.read_us))
    text = f"worth it: {made / 1000:.1f} ms to make a page, {mine.read_us / 1000:.1f} ms to read it; pays from epoch {first} on"
    smaller = [c for c in costs if c.codec != mine.codec and c.bytes < 0.6 * mine.bytes and made > WORTH_IT * c.read_us]
    if smaller:
        best = min(smaller, key=lambda c: c.read_us)
        share, slower = best.bytes / mine.bytes, best.read_us / mine.read_us
        text += f"; cache.compress={best.codec} needs {share:.0%} of the bytes and {slower:.1f} x the time"
    return text
