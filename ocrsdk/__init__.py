"""Train text detectors and trust the result.

The public names are resolved on first use, so ``import ocrsdk`` costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ocrsdk.version import __version__ as __version__
from ocrsdk.version import api_version as api_version

if TYPE_CHECKING:
    from ocrsdk.errors import OcrsdkError as OcrsdkError
    from ocrsdk.plugins.hookspecs import hookimpl as hookimpl
    from ocrsdk.pipeline import Pipeline as Pipeline
    from ocrsdk.settings.schema import Settings as Settings

_HOMES = {
    "OcrsdkError": "ocrsdk.errors",
    "Pipeline": "ocrsdk.pipeline",
    "Settings": "ocrsdk.settings.schema",
    "hookimpl": "ocrsdk.plugins.hookspecs",
}

__all__ = ["OcrsdkError", "Pipeline", "Settings", "__version__", "api_version", "hookimpl"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'ocrsdk' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
