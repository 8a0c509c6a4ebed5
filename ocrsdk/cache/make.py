"""From the name of a backend to a cache: the one place where a cache is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ocrsdk.cache.base import CacheLocation
from ocrsdk.cache.stats import Counter
from ocrsdk.cache.store import SampleCache
from ocrsdk.fingerprint import fingerprint
from ocrsdk.plugins.manager import installed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ocrsdk.cache.base import CacheBackend


def package_of(backend: str) -> dict[str, str]:
    """The part of a manifest that names the backend's distribution and its version.

    Raises:
        PluginError: There is no such backend.
    """
    installed().look_up("cache backend", backend)
    return {f"cache backend {backend}": installed().distribution("cache backend", backend)}


def make_backend(name: str, options: Mapping[str, object], location: CacheLocation) -> CacheBackend:
    """The backend called ``name``, for one version. Nothing is created yet.

    Raises:
        PluginError: There is no such backend, or it failed.
        SettingsError: An option is wrong.
    """
    return cast("CacheBackend", installed().make("cache backend", name, options, "cache.options", location))


def open_cache(
    manifest: Mapping[str, object], *, backend: str, folder: Path, budget: int, options: Mapping[str, object], session: str
) -> SampleCache:
    """A cache for the version of ``manifest``. Nothing is created yet.

    Args:
        manifest: Everything that changes the bytes of entries, whatever sample they are of; JSON-ready.
        backend: A registered backend.
        folder: Folder of all caches.
        budget: Most bytes of the version.
        options: Options of the backend.
        session: Name of the run or command, under which look-ups are counted.

    Raises:
        PluginError: There is no such backend.
        SettingsError: An option is wrong.
    """
    folder = folder.expanduser()
    location = CacheLocation(folder, fingerprint(manifest), manifest, budget)
    made = make_backend(backend, options, location)
    return SampleCache(made, Counter(folder / made.name / "stats" / location.version if made.enabled else None, session))


def prepare(cache: SampleCache) -> None:
    """Create the cache's place; a store that is damaged, or a full disk, costs the cache and not the run.

    Raises:
        CacheError: It can never work as asked.
    """
    from ocrsdk.errors import CacheEnvironmentError, CacheStoreError
    from ocrsdk.logs import get_logger
    from ocrsdk.plugins.manager import call

    try:
        call(cache.backend.prepare)
    except (CacheStoreError, CacheEnvironmentError) as error:
        get_logger(__name__).warning("training goes on without a cache", reason=str(error))
        cache.switch_off()
