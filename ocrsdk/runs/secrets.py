"""Options of plug-ins that are secrets: they are in memory, and nowhere on disk."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from ocrsdk.settings.options import secret_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ocrsdk.plugins.base import Plugin
    from ocrsdk.settings.schema import Settings


def withhold(settings: Settings, used: Iterable[tuple[str, type[Plugin]]]) -> tuple[Settings, dict[str, object]]:
    """The settings without the values of ``SecretStr`` options, and these values.

    Args:
        settings: All settings.
        used: (settings key of its options, class) of each plug-in of the run.

    Returns:
        What may be written, and dotted name -> value of what may not.
    """
    document = copy.deepcopy(settings.model_dump())
    found: dict[str, Any] = {}
    for where, cls in used:
        for name in secret_names(cls.Options):
            value = _take(document, f"{where}.{name}".split("."))
            if value is not None:
                found[f"{where}.{name}"] = value
    if not found:
        return settings, {}
    sections = {key for name in found for key in [name.partition(".")[0]]}
    changed = {key: getattr(settings, key).model_copy(update={"options": document[key]["options"]}) for key in sections}
    return settings.model_copy(update=changed), found


def _take(table: object, path: list[str]) -> object:
    """Remove a value from nested tables; None if it is not there."""
    *tables, key = path
    for part in tables:
        table = table.get(part) if isinstance(table, dict) else None
    value = table.pop(key, None) if isinstance(table, dict) else None
    return value.get_secret_value() if isinstance(value, SecretStr) else value


def names_used(cache: Plugin, strategy: Plugin, loggers: Iterable[Plugin]) -> list[tuple[str, type[Plugin]]]:
    """(settings key of its options, class) of the plug-ins of a run, as ``withhold`` takes them."""
    return [
        ("cache.options", type(cache)),
        ("precision.options", type(strategy)),
        *((f"logging.options.{logger.name}", type(logger)) for logger in loggers),
    ]


def missing(kept: Iterable[str], used: Iterable[tuple[str, type[Plugin]]], given: Mapping[str, object]) -> list[str]:
    """Secrets that a run was given before, and that its plug-ins would take now and are not given."""
    taken = {f"{where}.{name}" for where, cls in used for name in secret_names(cls.Options)}
    return sorted((set(kept) & taken) - set(given))
