"""The JSON schema of the settings, with the options of every installed plug-in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocrsdk.plugins.doctor import everything, option_schema

if TYPE_CHECKING:
    from ocrsdk.plugins.base import Plugin
    from ocrsdk.plugins.manager import Kind


def settings_schema() -> dict[str, object]:
    """The JSON schema of the settings, with the options of every installed plug-in."""
    from ocrsdk.settings.schema import Settings

    schema = Settings.model_json_schema()
    plugins = everything()
    places: dict[Kind, tuple[str, str]] = {
        "cache backend": ("CacheSettings", "backend"), "precision strategy": ("PrecisionSettings", "strategy"),
    }  # fmt: skip
    for kind, (section, key) in places.items():
        rules = [
            {"if": {"properties": {key: {"const": name}}, "required": [key]}, "then": {"properties": {"options": _closed(cls)}}}
            for name, cls in plugins.classes(kind).items()
        ]
        schema["$defs"][section]["allOf"] = rules
        schema["$defs"][section]["properties"][key]["examples"] = list(plugins.classes(kind))
    loggers = {name: _closed(cls) for name, cls in plugins.classes("logger").items()}
    schema["$defs"]["LoggingSettings"]["properties"]["options"].update({"properties": loggers, "additionalProperties": False})
    return schema


def _closed(cls: type[Plugin]) -> dict[str, object]:
    return option_schema(cls) or {"type": "object", "additionalProperties": False, "description": f"{cls.name} has no options"}
