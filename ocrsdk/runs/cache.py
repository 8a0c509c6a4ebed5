"""Which cache do these settings mean? For training and for ``ocrsdk cache`` alike; neither PyTorch nor OpenCV is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocrsdk.cache.make import open_cache
from ocrsdk.data.preparation import sample_manifest

if TYPE_CHECKING:
    from ocrsdk.cache.store import SampleCache
    from ocrsdk.settings.schema import Settings


def open_run_cache(settings: Settings, session: str) -> SampleCache:
    """The cache that ``settings`` describe. Nothing is created yet.

    Args:
        settings: All settings: the version depends on more than ``settings.cache``.
        session: Name of the run or command, under which look-ups are counted.

    Raises:
        PluginError: There is no such backend.
        SettingsError: An option is wrong.
    """
    given = settings.cache
    manifest = sample_manifest(given, settings.data, settings.augment, settings.targets)
    return open_cache(
        manifest, backend=given.backend, folder=given.dir, budget=int(given.budget), options=given.options, session=session
    )
