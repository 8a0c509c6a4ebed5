"""Where settings come from: overrides, environment, file, defaults; and the errors that name the place."""

from __future__ import annotations

import functools
import json
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from ocrsdk.errors import SettingsError, nearest
from ocrsdk.settings.options import Model, build, problem

if TYPE_CHECKING:
    from pathlib import Path

    import yaml

ENV_PREFIX = "OCRSDK_"
_TOO_DEEP = "tables are nested deeper than any setting"
RESERVED = frozenset({"OCRSDK_PLUGINS", "OCRSDK_DISABLED_PLUGINS"})
"""Variables with the prefix that are no settings."""


def variable_of(name: str) -> str:
    """The environment variable of a setting: ``trainer.epochs`` -> ``OCRSDK_TRAINER__EPOCHS``."""
    return ENV_PREFIX + name.upper().replace(".", "__")


def child_environment() -> dict[str, str]:
    """The environment without settings, for a run of our own that gets them from a file or options; plug-ins stay as chosen."""
    return {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX) or name in RESERVED}


@dataclass
class Layers:
    """Dotted name -> value of each source, and where exactly each value stands."""

    file: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    overrides: dict[str, Any] = field(default_factory=dict)
    places: dict[str, str] = field(default_factory=dict)
    """Dotted name -> ``file:line``, variable or ``command line``, of the strongest source."""

    def merged(self) -> dict[str, object]:
        """The strongest value of each name, as nested tables."""
        nested: dict[str, Any] = {}
        for name, value in {**self.file, **self.environment, **self.overrides}.items():
            *tables, key = name.split(".")
            table = nested
            for part in tables:
                table = table.setdefault(part, {})
            table[key] = value
        return nested

    def source(self, name: str) -> str:
        """Where the value of ``name`` came from: ``default`` if from nowhere else; all places for a table of options.

        An option within a table that was given as a whole, as files do, came from the place of the table.
        """
        inside = dict.fromkeys(place for key, place in self.places.items() if key == name or key.startswith(f"{name}."))
        if inside:
            return ", ".join(inside)
        while name and name not in self.places:
            name = name.rpartition(".")[0]
        return self.places[name] if name else "default"


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """Dotted names of all settings of a model."""
    for name, info in model.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from leaves(inner, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def read_layers(
    model: type[BaseModel],
    config: Path | None,
    overrides: Mapping[str, object],
    environ: Mapping[str, str] | None,
    place: str = "command line",
) -> Layers:
    """Read every source and check its names; ``place`` is where overrides come from.

    Raises:
        SettingsError: A file cannot be read, or a name is unknown.
    """
    known = list(leaves(model))
    layers = Layers()
    if config is not None:
        lines: dict[str, int] = {}
        tables, lines = _read_file(config)
        for name, value in _flatten(tables, known):
            where = f"{config}:{_line(name, lines)}"
            layers.file[_known(name, known, where)] = value
            layers.places[name] = where
    for variable, value in (os.environ if environ is None else environ).items():
        if variable.startswith(ENV_PREFIX) and variable not in RESERVED:
            name = variable.removeprefix(ENV_PREFIX).lower().replace("__", ".")
            names = [variable_of(k) for k in known]
            if not _is_known(name, known):
                raise SettingsError(
                    f"environment variable {variable} is no setting.{nearest(variable, [*names, *RESERVED])} "
                    "All settings: ocrsdk config show"
                )
            layers.environment[name] = _parsed(name, value, variable)
            layers.places[name] = variable
    for name, value in overrides.items():
        layers.overrides[_known(name, known, place)] = _parsed(name, value, place)
        layers.places[name] = place
    return layers


def _line(name: str, lines: Mapping[str, int]) -> int:
    """Where ``name`` stands, or the closest table around it that is known: an inline table, a merged one."""
    while name and name not in lines:
        name = name.rpartition(".")[0]
    return lines.get(name, 1)


def _parsed(name: str, value: object, place: str) -> object:
    """Text from outside of files: options of plug-ins may be given as JSON, tables and lists among them."""
    if not (
        isinstance(value, str) and value.lstrip()[:1] in ("{", "[") and any(part.endswith("options") for part in name.split("."))
    ):
        return value
    try:
        return json.loads(value)
    except RecursionError:
        raise SettingsError(f"{place}: {name}: {_TOO_DEEP}") from None
    except ValueError as error:
        raise SettingsError(f"{place}: {name} = {value!r}: looks like JSON, but is not ({error})") from None


def _is_known(name: str, known: list[str]) -> bool:
    """A setting, or a key inside a table of plug-in options."""
    return name in known or any(name.startswith(f"{k}.") for k in known if k.endswith("options"))


def _known(name: str, known: list[str], place: str) -> str:
    if _is_known(name, known):
        return name
    section = name.rpartition(".")[0]
    siblings = [k for k in known if k.rpartition(".")[0] == section]
    hint = nearest(name, known)
    if not hint:  # the last part alone may be right, in another table
        hint = nearest(name.rpartition(".")[2], [k.rpartition(".")[2] for k in known])
    listed = (
        f" {f'In [{section}]' if section else 'At the top'} there are: {', '.join(k.rpartition('.')[2] for k in siblings)}."
        if siblings
        else ""
    )
    raise SettingsError(f"{place}: unknown setting {name!r}.{hint}{listed} All settings: ocrsdk config show")


def _flatten(table: Mapping[str, object], known: list[str], prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and name not in known and (value or any(k.startswith(f"{name}.") for k in known)):
            yield from _flatten(value, known, f"{name}.")
        else:
            yield name, value


def _read_file(path: Path) -> tuple[dict[str, object], dict[str, int]]:
    """The tables of a settings file, and the line of each dotted name."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 (byte {error.start})") from error
    if path.suffix.lower() == ".toml":
        try:
            return tomllib.loads(text), _toml_lines(text)
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{path}: not valid TOML: {error}") from error
        except RecursionError:
            raise SettingsError(f"{path}: {_TOO_DEEP}") from None
    if path.suffix.lower() in (".yaml", ".yml"):
        import yaml

        try:
            node = yaml.compose(text, Loader=_yaml_loader())
            tables = yaml.load(text, Loader=_yaml_loader()) or {}
        except yaml.YAMLError as error:
            raise SettingsError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from error
        except RecursionError:
            raise SettingsError(f"{path}: {_TOO_DEEP}") from None
        if not isinstance(tables, dict):
            raise SettingsError(f"{path}: expected tables of settings, found {type(tables).__name__}")
        lines: dict[str, int] = {}
        for name, line in _yaml_lines(node):
            if name in lines:
                raise SettingsError(f"{path}:{line}: {name!r} is set in line {lines[name]} already; remove one")
            lines[name] = line
        return tables, lines
    raise SettingsError(f"{path}: a settings file ends in .toml, .yaml or .yml")


@functools.cache
def _yaml_loader() -> type[yaml.SafeLoader]:
    """A safe loader to which, as in YAML 1.2, only true and false are truth values: ``policy: off`` is a word."""
    import yaml

    class Loader(yaml.SafeLoader):
        yaml_implicit_resolvers = {  # noqa: RUF012 - as in its base
            first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

    return Loader


def _toml_lines(text: str) -> dict[str, int]:
    """Line of each ``key =`` under its ``[table]``; a value over several lines counts where it begins."""
    lines: dict[str, int] = {}
    table = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[{1,2}([\w.\-\s\"']+)\]", line):
            table = re.sub(r"[\s\"']", "", header[1])
            lines.setdefault(table, number)
            table += "."
        elif key := re.match(r"\s*([\w.\-\"']+)\s*=", line):
            lines.setdefault(table + re.sub(r"[\"']", "", key[1]), number)
    return lines


def _yaml_lines(node: yaml.Node | None, prefix: str = "") -> Iterator[tuple[str, int]]:
    import yaml

    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            name = f"{prefix}{key.value}"
            yield name, key.start_mark.line + 1
            yield from _yaml_lines(value, f"{name}.")


def validated(model: type[Model], layers: Layers) -> Model:
    """The settings of all layers, or one line about the first wrong value.

    Raises:
        SettingsError: Names the place, the setting, what was found and what is allowed.
    """
    try:
        return build(model, layers.merged())
    except ValidationError as error:
        name, found, message = problem(error, model)
        raise SettingsError(f"{layers.source(name)}: {name} = {found!r}: {message}") from None
