"""``CacheControl``: what people and programs ask of a cache, beside training with it.

What it does itself knows versions and bytes only; what knows pages is in the modules that its last methods call.
"""

from __future__ import annotations

import random
import shutil
import time
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ocrsdk.cache.base import OWN, CacheLocation, Finding, Severity, VersionInfo
from ocrsdk.cache.frame import unpack
from ocrsdk.cache.stats import Counts, read_sessions
from ocrsdk.cache_tools.reports import CacheHealth, CacheStatus, State, VersionStatus
from ocrsdk.data.preparation import superseded
from ocrsdk.errors import CacheEntryError, CacheError
from ocrsdk.fingerprint import differences
from ocrsdk.plugins.manager import call
from ocrsdk.runs.cache import open_run_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ocrsdk.cache.base import CacheBackend
    from ocrsdk.cache.store import SampleCache
    from ocrsdk.cache_tools.reports import CacheBench, Explanation, Validation
    from ocrsdk.settings.schema import Settings

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
        self._asked: CacheBackend | None = None

    def _open(self) -> SampleCache:
        return open_run_cache(self.settings, "control")

    def _current(self) -> CacheBackend:
        """The backend, for the version of the current settings: it is asked about all versions, and no entry is read through it."""
        if self._asked is None:
            self._asked = self._open().backend
        return self._asked

    def _at(self, info: VersionInfo) -> CacheBackend:
        """The backend, for a version that is there."""
        backend = self._current()
        location = CacheLocation(backend.location.folder, info.version, info.manifest, info.budget)
        return call(type(backend), location, backend.options)

    def _stats(self, version: str) -> dict[str, tuple[Counts, float]]:
        backend = self._current()
        return read_sessions(backend.location.folder / backend.name / "stats" / version)

    # ----------------------------------------------------------------- look

    def status(self) -> CacheStatus:
        """All versions: their size, use, and why they are stale if they are."""
        backend = self._current()
        mine = backend.location
        found = []
        for info in backend.versions():
            current = info.version == mine.version
            ours = info.owner in ("", OWN) and not info.problem
            differs = differences(info.manifest, mine.manifest) if ours and not current else []
            found.append(VersionStatus(info, current, differs, self._stale_because(info), self._stats(info.version)))
        return CacheStatus(mine.folder, backend.name, mine.version, found)

    def _stale_because(self, info: VersionInfo) -> list[str]:
        """Why no run will use a version any more; empty if one may."""
        mine, age = self._current().location, self.settings.cache.max_age
        if info.version == mine.version or info.owner not in ("", OWN):
            return []
        if info.problem:
            return [info.problem]
        if because := superseded(info.manifest, self._current().name):
            return because
        unused = time.time() - info.used
        if age is not None and unused > age.total_seconds():
            return [f"not used for {unused / 86400:.1f} days (cache.max_age)"]
        return []

    def health(self, fix: bool = False) -> CacheHealth:
        """Check every version's store, files and checksums.

        Args:
            fix: Repair what can be repaired without losing a good value.
        """
        backend = self._current()
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
                    f"nothing is kept for the given settings (version {mine.version}); other versions are for others",
                    "ocrsdk cache status; to look with the settings of a run: --run RUN",
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

    # --------------------------------------------------------------- change

    def removable(self, which: Literal["stale", "all", "damaged"] | str) -> list[VersionInfo]:
        """The versions that ``clear`` would remove.

        Args:
            which: ``stale`` (those that no run will use any more), ``all``, ``damaged``, or one version.
        """
        backend = self._current()
        versions = backend.versions()
        if which == "all":
            return versions
        if which == "stale":
            return [info for info in versions if self._stale_because(info)]
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
        backend = self._current()
        for info in versions:
            backend.remove_version(info.version)

    def indexes(self) -> list[Path]:
        """Where what was read of data sets is kept."""
        from ocrsdk.data.index import FOLDER, PageIndexes

        return PageIndexes(self.settings.cache.dir / FOLDER).kept()

    def remove_indexes(self, indexes: Iterable[Path]) -> None:
        """Remove some of ``indexes``; runs that use them go on.

        Raises:
            CacheError: One cannot be removed.
        """
        for place in indexes:
            try:
                shutil.rmtree(place)
            except OSError as error:
                raise CacheError(f"{place}: cannot be removed ({error.strerror})") from error

    def prunable(self) -> list[VersionInfo]:
        """The versions that ``prune`` would remove: neither current nor open in a live process.

        ``cache.keep_versions`` counts for each owner apart. Those of an older layout, which nothing reads any more, are among them
        and do not count among the versions to keep.
        """
        backend = self._current()
        given = self.settings.cache
        oldest = time.time() - given.max_age.total_seconds() if given.max_age is not None else 0.0
        versions, newest = backend.versions(), dict[str, int]()
        found = []
        for info in versions:
            newest[info.owner] = newest.get(info.owner, 0) + (not info.outdated)
            beyond = info.outdated or newest[info.owner] > given.keep_versions or info.used < oldest
            if beyond and info.version != backend.location.version and not info.in_use:
                found.append(info)
        return found

    def prune(self) -> list[VersionInfo]:
        """Remove what ``prunable`` lists."""
        found = self.prunable()
        self.clear(found)
        return found

    # ---------------------------------------------------------------- pages

    def explain(self, image: Path | str) -> list[Explanation]:
        """For each kind of entry of ``image``: hit or miss, the key's parts, and what changed.

        Raises:
            DataError: The image or its label cannot be read.
        """
        from ocrsdk.cache_tools.explain import explain

        with closing(self._open()) as cache:
            return explain(self.settings, cache, Path(image), self._at)

    def validate(self, sample: int | None = 100) -> Validation:
        """Check checksums, and make samples again from their sources to compare the bytes.

        Args:
            sample: So many entries, chosen at random; None for all.
        """
        from ocrsdk.cache_tools.validate import validate

        with closing(self._open()) as cache:
            return validate(self.settings, cache, sample, self._progress)

    def warm(self, data: Path | str) -> Counts:
        """Make and keep everything that training on ``data`` would, with all loader processes; continues where it was stopped."""
        from ocrsdk.cache_tools.warm import warm

        return warm(self.settings, Path(data), self._progress)

    def bench(self, data: Path | str, pages: int = 24) -> CacheBench:
        """Measure decoding, preparing, maps, writing and reading on pages of ``data`` and the cache's own disk."""
        from ocrsdk.cache_tools.bench import measure

        return measure(self.settings, Path(data), pages, self._open(), self._progress)


def _problem(backend: CacheBackend, key: str) -> str:
    """How an entry is damaged; empty if it is good, or not there."""
    try:
        if (value := backend.get(key)) is not None:
            unpack(key, value)
    except CacheEntryError as error:
        return str(error)
    return ""
