"""What can go wrong, as one tree.

::

    OcrsdkError                  everything that ocrsdk raises on purpose; the CLI prints it as one line and exits with 2
    ├── SettingsError            an unknown key, a value of the wrong kind, an unreadable settings file
    ├── DataError                a data folder that cannot be used
    │   ├── AnnotationError      one label file (the message names file and line)
    │   └── ImageError           one image file
    ├── PluginError              an unknown or a broken plug-in
    ├── CacheError               a cache that cannot be used as asked
    │   ├── CacheEnvironmentError   the disk, a permission, a limit or a lock got in the way; the cache itself may be whole
    │   ├── CacheStoreError      the store is damaged
    │   │   └── CacheForeignError   the store is not ours, or newer than this code; it is left untouched
    │   └── CacheEntryError      one entry is damaged
    ├── CheckpointError          a checkpoint that is damaged, unsafe, or of another architecture
    ├── LoggerError              a logger cannot work as asked, or has lost rows
    ├── RunFolderError           a run folder that cannot be created, written or resumed
    └── TrainingError            training cannot go on
        └── NonFiniteError       NaN or infinity in a loss or a gradient; the weights were not changed
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


class OcrsdkError(Exception):
    """Root of all errors raised on purpose. ``str(error)`` is one line fit for a user.

    Args:
        message: What was found and what to do, in Python's terms.
        parameter: The parameter that was wrong; the command line puts its option's name before the message.
    """

    def __init__(self, message: str = "", *, parameter: str = "") -> None:
        super().__init__(message)
        self.parameter = parameter


class SettingsError(OcrsdkError):
    """A setting is unknown, malformed or contradictory."""


class DataError(OcrsdkError):
    """A data folder cannot be used as it is."""


class AnnotationError(DataError):
    """A label file cannot be read; the message names the file and the line."""


class ImageError(DataError):
    """An image cannot be decoded; the message names the file."""


class PluginError(OcrsdkError):
    """A plug-in is not installed, is broken, or is not allowed here."""


class CacheError(OcrsdkError):
    """A cache cannot be used as asked."""


class CacheEnvironmentError(CacheError):
    """The disk, a permission, a limit or a lock got in the way; the cache itself may be whole."""


class CacheStoreError(CacheError):
    """The store as a whole is damaged, foreign, or newer than this code; the message names the remedy."""


class CacheForeignError(CacheStoreError):
    """The store is not ours, or a newer version's; it is left untouched."""


class CacheEntryError(CacheError):
    """One entry is damaged. ``str(error)`` says how."""


class CacheEntryLostError(CacheEntryError):
    """The index names a value that is not there."""


class CheckpointError(OcrsdkError):
    """A checkpoint is damaged, unsafe to load, or belongs to another model."""


class LoggerError(OcrsdkError):
    """A logger cannot work as asked, or has lost rows."""


class RunFolderError(OcrsdkError):
    """A run folder cannot be created, written or resumed."""


class TrainingError(OcrsdkError):
    """Training cannot start or go on."""


class NonFiniteError(TrainingError):
    """A loss or gradient became NaN or infinite; raised before any weight is changed."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`` Did you mean "x"?`` for the known names closest to ``name``, or an empty string."""
    lowered = {k.lower(): k for k in known}
    close = [lowered[k] for k in difflib.get_close_matches(name.lower(), list(lowered), n=2, cutoff=0.6)]
    return f" Did you mean {' or '.join(repr(c) for c in close)}?" if close else ""
