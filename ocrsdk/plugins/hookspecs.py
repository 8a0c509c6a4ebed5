"""Every hook of ocrsdk, on one screen.

A plug-in is a module or object with functions of these names, marked with ``@ocrsdk.hookimpl``, and announced by its package
in the entry-point group ``ocrsdk``. The built-ins come in the same way (``ocrsdk/plugins/builtin.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from ocrsdk.cache.base import CacheBackend
    from ocrsdk.formats.base import AnnotationFormat
    from ocrsdk.loggers.base import LoggerFactory
    from ocrsdk.precision.base import PrecisionStrategy

GROUP = "ocrsdk"
"""The entry-point group, and pluggy's project name."""

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def ocrsdk_register_cache_backends() -> list[type[CacheBackend]]:  # type: ignore[empty-body]
    """Return your cache backends: classes, not instances.

    Called once, when a cache backend is first asked for or plug-ins are listed; never for ``--help``, nor when a checkpoint is
    read. Since API version 1.
    """


@hookspec
def ocrsdk_register_precision_strategies() -> list[type[PrecisionStrategy]]:  # type: ignore[empty-body]
    """Return your precision strategies: classes, not instances.

    Called once, when a precision strategy is first asked for or plug-ins are listed. Import torch inside of methods: names and
    options are checked before it is loaded. Since API version 1.
    """


@hookspec
def ocrsdk_register_loggers() -> list[type[LoggerFactory]]:  # type: ignore[empty-body]
    """Return your logger factories: classes, not instances.

    Called once, when a logger is first asked for or plug-ins are listed. Since API version 1.
    """


@hookspec
def ocrsdk_register_annotation_formats() -> list[type[AnnotationFormat]]:  # type: ignore[empty-body]
    """Return your annotation formats: classes, not instances.

    Called once, when labels are first read or plug-ins are listed. Since API version 1.
    """
