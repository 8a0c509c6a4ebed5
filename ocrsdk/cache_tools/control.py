"""``CacheControl``: what people and programs ask of a cache, beside training with it."""

from __future__ import annotations

import random
import time
import uuid
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ocrsdk.cache.base import CacheLocation, Finding, Severity, VersionInfo
from ocrsdk.cache.frame import unpack
from ocrsdk.cache.stats import Counts, read_sessions
from ocrsdk.cache.store import SampleCache
from ocrsdk.cache.keys import EntryKey, differences
from ocrsdk.cache_tools.reports import CacheHealth, CacheStatus, Explanation, State, Validation, VersionStatus
from ocrsdk.errors import CacheEntryError, CacheError, DataError, OcrsdkError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ocrsdk.cache.base import CacheBackend
    from ocrsdk.cache_tools.reports import CacheBench
    from ocrsdk.data.source import SampleSource
    from ocrsdk.settings.schema import Settings
    from ocrsdk.types import Annotation

    Progress = Callable[[Any, int], Any]

CHECKED_BY_HEALTH = 256
"""A health check verifies the checksums of at most so many entries of a version, chosen at random."""


class CacheControl:
    """Looks at, checks and manages the cache that settings describe.

    Args:
        settings: All settings.
        progress: Wraps long loops: ``progress(items, total)``.
    """

    def __init__(self, settings: Settings, progress: Progress | None = None) -> None:
        self.settings = settings
        self._progress: Progress = progress or (lambda items, total: items)

    def _open(self, session: str = "control") -> SampleCache:
        from ocrsdk.runs.build import open_cache

        return open_cache(self.settings, session)

    def _at(self, info: VersionInfo) -> CacheBackend:
        """The backend, for a version that is there."""
        backend = self._open().backend
        location = CacheLocation(backend.location.folder, info.version, info.manifest, info.budget)
        return type(backend)(location, backend.options)

    def _stats(self, version: str) -> dict[str, tuple[Counts, float]]:
        backend = self._open().backend
        return read_sessions(backend.location.folder / backend.name / "stats" / version)

    # ----------------------------------------------------------------- look

    def status(self) -> CacheStatus:
        """All versions: their size, use, and why they are stale if they are."""
        backend = self._open().backend
        mine = backend.location
        found = []
        for info in backend.versions():
            current = info.version == mine.version
            because = [] if current else [info.problem] if info.problem else differences(info.manifest, mine.manifest)
            found.append(VersionStatus(info, current, because, self._stats(info.version)))
        return CacheStatus(mine.folder, backend.name, mine.version, found)

    def health(self, fix: bool = False) -> CacheHealth:
        """Check every version's store, files and checksums.

        Args:
            fix: Repair what can be repaired without losing a good value.
        """
        backend = self._open().backend
        mine, findings, versions, checked = backend.location, [], [], 0
        if backend.enabled:
            try:
                versions = backend.versions()
            except CacheError as error:
                findings.append(Finding(Severity.ERROR, str(error)))
        for info in versions:
            if info.outdated:
                findings.append(Finding(Severity.NOTE, f"version {info.version} {info.problem}", "ocrsdk cache prune"))
                continue
            with closing(self._at(info)) as here:
                found = here.health(fix)
                findings += found
                if not any(finding.severity is Severity.ERROR for finding in found):
                    count, finding = self._verify_some(here, fix)
                    checked += count
                    findings += [finding] if finding else []
        if versions and not any(info.version == mine.version for info in versions):
            findings.append(
                Finding(
                    Severity.NOTE,
                    f"nothing is kept yet for the current settings (version {mine.version})",
                    "see: ocrsdk cache status",
                )
            )
        open_findings = [finding for finding in findings if not finding.fixed]
        state: State = "healthy"
        if any(f.severity is Severity.ERROR for f in open_findings):
            state = "broken"
        elif all(info.outdated for info in versions):
            state = "absent"
            if not backend.enabled:
                findings += backend.health()
        elif any(f.severity is Severity.WARNING for f in open_findings):
            state = "degraded"
        counts = sum((c for c, _ in self._stats(mine.version).values()), Counts()) if backend.enabled else Counts()
        return CacheHealth(
            state, mine.folder / backend.name, backend.name, mine.version, len(versions), sum(i.usage.entries for i in versions),
            sum(i.usage.bytes for i in versions), counts, checked, findings,
        )  # fmt: skip

    def log_health(self) -> CacheHealth:
        """``health``, as a log line: a warning unless healthy."""
        from ocrsdk.logs import get_logger

        health = self.health()
        log = get_logger(__name__)
        tell = log.info if health.state == "healthy" else log.warning
        tell("cache health", **{k: v for k, v in health.as_dict().items() if k not in ("counts", "findings")})
        for finding in health.findings:
            log.warning("cache finding", severity=str(finding.severity), what=finding.what, remedy=finding.remedy)
        return health

    def _verify_some(self, backend: CacheBackend, fix: bool) -> tuple[int, Finding | None]:
        try:
            keys = list(backend)
        except CacheError as error:
            return 0, Finding(Severity.WARNING, str(error), "ocrsdk cache health --fix")
        chosen = keys if len(keys) <= CHECKED_BY_HEALTH else random.sample(keys, CHECKED_BY_HEALTH)
        damaged = [(key, problem) for key in chosen if (problem := _problem(backend, key))]
        if not damaged:
            return len(chosen), None
        if fix and not backend.read_only:
            for key, _ in damaged:
                backend.quarantine(key)
        problem = damaged[0][1]
        return len(chosen), Finding(
            Severity.WARNING,
            f"version {backend.location.version}: {len(damaged)} of {len(chosen)} checked entries are damaged ({problem})",
            "ocrsdk cache health --fix; they are also made again when training next asks for them",
            fixed=fix and not any(_problem(backend, key) for key, _ in damaged),
        )

    def explain(self, image: Path) -> list[Explanation]:
        """For each kind of entry of ``image``: hit or miss, the key's parts, and what changed.

        Raises:
            DataError: The image or its label cannot be read.
        """
        from ocrsdk.runs.build import sample_source

        with closing(self._open()) as cache:
            mine = cache.backend.location
            annotation = self._annotation(image)
            source = sample_source(self.settings, cache)
            others = [info for info in cache.backend.versions() if info.version != mine.version and not info.problem]
            before = [(info, _keys(source, annotation, info.manifest)) for info in others]
            return [
                self._explain(cache, key, [(info, keys[kind]) for info, keys in before if kind in keys])
                for kind, key in _keys(source, annotation, mine.manifest).items()
            ]

    def _explain(self, cache: SampleCache, key: EntryKey, others: list[tuple[VersionInfo, EntryKey]]) -> Explanation:
        kind, parts = str(key.parts["kind"]), dict(key.parts)
        try:
            if (value := cache.backend.get(key.digest)) is not None:
                unpack(key.digest, value)
                return Explanation(kind, True, key.digest, parts, [], "")
            before = cache.last_parts(key)
        except CacheEntryError as error:
            return Explanation(kind, False, key.digest, parts, [], f"kept, but damaged: {error}")
        if before is not None:
            changed = differences(before, key.parts)
            reason = "changed since it was kept" if changed else "was made, but is not kept: beyond the budget, or removed"
            return Explanation(kind, False, key.digest, parts, changed, reason)
        for info, key_there in others:
            with closing(SampleCache(self._at(info))) as there:
                before = there.last_parts(key_there)
            if before is not None:
                changed = differences(info.manifest, cache.backend.location.manifest, "version.") + differences(before, key.parts)
                return Explanation(kind, False, key.digest, parts, changed, f"kept in version {info.version}, for other settings")
        return Explanation(kind, False, key.digest, parts, [], "not seen before")

    def _annotation(self, image: Path) -> Annotation:
        """The annotation of ``image``, as training would read it."""
        from ocrsdk.data.annotations import pair_files
        from ocrsdk.data.folder import read_sample

        if not image.is_file():
            raise DataError(f"{image}: no such file")
        pairs, _ = pair_files(image.absolute().parents[1])
        for pair in pairs:
            if pair[0].name == image.name:
                return read_sample(*pair, self.settings.data.outside)
        raise DataError(f"{image}: no label for it; expected images/ and labels/ side by side")

    def validate(self, sample: int | None = 100) -> Validation:
        """Check checksums, and make samples again from their sources to compare the bytes.

        Args:
            sample: So many entries, chosen at random; None for all.
        """
        cache = self._open()
        backend = cache.backend
        result = Validation()
        keys = list(backend)
        result.entries = len(keys)
        chosen = keys if sample is None or sample >= len(keys) else random.sample(keys, sample)
        for key in self._progress(chosen, len(chosen)):
            try:
                value = backend.get(key)
                if value is None:
                    continue
                body = unpack(key, value)
            except CacheEntryError as error:
                result.damaged.append(f"{key}: {error}")
                continue
            result.checksums += 1
            if bytes(body[:10]) == b'{"origin":':
                self._compare(cache, body, result)
        cache.close()
        return result

    def _compare(self, cache: SampleCache, note: memoryview, result: Validation) -> None:
        """Make the entry that ``note`` tells of again."""
        import json

        from ocrsdk.runs.build import sample_source
        from ocrsdk.data.dataset import EvalDataset, draw_maps
        from ocrsdk.cache.encoding import encode_arrays
        from ocrsdk.data.preparation import Preparation
        from ocrsdk.data.source import Page
        from ocrsdk.data.targets import TargetSpec
        from ocrsdk.data.transforms import EvalTransform

        document = json.loads(bytes(note))
        kept = EntryKey(document["origin"], document["parts"])
        kind, _, path = kept.origin.split(" ", 2)
        try:
            value = cache.backend.get(kept.digest)
            if value is None:
                return
            body = unpack(kept.digest, value)
        except CacheEntryError:  # is found, and told, under its own key
            return
        preparation = Preparation(**kept.parts["preparation"])
        source = sample_source(self.settings, cache)
        try:
            annotation = self._annotation(Path(path))
            recipe = dict(kept.parts.get("recipe", {}))
            if kind == "image":
                now = source.page_key(annotation, preparation)
            else:
                now = (source.sample_key if kind == "sample" else source.maps_key)(annotation, preparation, recipe)
            if now.digest != kept.digest:
                result.outdated += 1
                return
            page = Page.read(annotation.image, preparation)
        except DataError:
            result.outdated += 1
            return
        arrays, codec, targets = page.arrays(), source.codec, recipe.pop("targets", None)
        if kind != "image":
            arrays = EvalDataset([annotation], EvalTransform(**recipe)).make(annotation, page)
        if targets is not None:
            arrays, codec = draw_maps(arrays, TargetSpec(**targets)), source.maps_codec
        again = encode_arrays(arrays, codec)
        result.compared += 1
        if again != bytes(body):
            result.different.append(f"{path} ({kind})")

    # --------------------------------------------------------------- change

    def removable(self, which: Literal["stale", "all", "damaged"] | str) -> list[VersionInfo]:
        """The versions that ``clear`` would remove.

        Args:
            which: ``stale`` (all but the current one), ``all``, ``damaged``, or one version.
        """
        backend = self._open().backend
        versions = backend.versions()
        if which == "all":
            return versions
        if which == "stale":
            return [info for info in versions if info.version != backend.location.version]
        if which == "damaged":
            return [info for info in versions if info.damaged or (not info.problem and self._is_damaged(info))]
        found = [info for info in versions if info.version == which]
        if not found:
            raise CacheError(f"no cache version {which!r}; see: ocrsdk cache status")
        return found

    def _is_damaged(self, info: VersionInfo) -> bool:
        with closing(self._at(info)) as there:
            return any(finding.damaged for finding in there.health())

    def clear(self, versions: list[VersionInfo]) -> None:
        """Remove versions; processes that have them open see misses."""
        backend = self._open().backend
        for info in versions:
            backend.remove_version(info.version)

    def prunable(self) -> list[VersionInfo]:
        """The versions that ``prune`` would remove: neither current nor open in a live process.

        Those of an older layout, which nothing reads any more, are among them and do not count among the versions to keep.
        """
        backend = self._open().backend
        given = self.settings.cache
        oldest = time.time() - given.max_age.total_seconds() if given.max_age is not None else 0.0
        versions = backend.versions()
        newest = [info.version for info in versions if not info.outdated][: given.keep_versions]
        return [
            info for info in versions
            if info.version != backend.location.version and not info.in_use and (info.version not in newest or info.used < oldest)
        ]  # fmt: skip

    def prune(self) -> list[VersionInfo]:
        """Remove what ``prunable`` lists."""
        found = self.prunable()
        self.clear(found)
        return found

    # ----------------------------------------------------------------- fill

    def warm(self, data: Path) -> Counts:
        """Make and keep everything that training on ``data`` would, with all loader processes; goes on where it was stopped."""
        from ocrsdk.runs.build import warm_items
        from ocrsdk.training.loader_errors import raised_in_loader

        cache = self._open(f"warm-{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:6]}")
        loader, total = warm_items(self.settings, data, cache)
        cache.backend.prepare()
        try:
            for _ in self._progress(loader, total):
                pass
        except OcrsdkError as error:
            raise raised_in_loader(error) or error from None
        cache.backend.close()
        counts = cache.counts()
        cache.close()
        return counts

    def bench(self, data: Path, pages: int = 24) -> CacheBench:
        """Measure decoding, preparing, maps, writing and reading on pages of ``data`` and the cache's own disk."""
        from ocrsdk.cache_tools.bench import measure

        return measure(self.settings, data, pages, self._open(), self._progress)


def _keys(source: SampleSource, annotation: Annotation, manifest: Mapping[str, Any]) -> dict[str, EntryKey]:
    """What training and validation look up for one page, in the version of ``manifest``."""
    from ocrsdk.data.preparation import PAGE_MULTIPLE, Preparation

    train, val = Preparation(**manifest["train"]), dict(manifest["val"])
    multiple = val.pop("pad_to_multiple", PAGE_MULTIPLE)
    keys = {"image": source.page_key(annotation, train)}
    prepared = Preparation(**val)
    if manifest["policy"] in ("sample", "maps"):
        recipe: dict[str, Any] = {"short_side": prepared.short_side, "max_side": prepared.max_side, "multiple": multiple}
        keys["sample"] = source.sample_key(annotation, prepared, recipe)
        if (maps := manifest.get("maps")) is not None:
            from ocrsdk.data.targets import TargetSpec

            spec = TargetSpec(**{name: value for name, value in maps.items() if name != "codec"})
            keys["maps"] = source.maps_key(annotation, prepared, recipe | {"targets": asdict(spec)})
    elif prepared != train:
        keys["image for validation"] = source.page_key(annotation, prepared)
    return keys


def _problem(backend: CacheBackend, key: str) -> str:
    """How an entry is damaged; empty if it is good, or not there."""
    try:
        if (value := backend.get(key)) is not None:
            unpack(key, value)
    except CacheEntryError as error:
        return str(error)
    return ""
