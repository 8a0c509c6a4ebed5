"""``ocrsdk config``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from ocrsdk.cli.common import ConfigOption, JsonOption, SetOption, load_settings, print_json, say, table

if TYPE_CHECKING:
    from collections.abc import Iterator

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Show the settings and where they come from.")


@app.command()
def show(config: ConfigOption = None, sets: SetOption = None, json: JsonOption = False) -> None:
    """Every effective setting, and its source: command line, OCRSDK_* variable, file:line or default."""
    settings, layers = load_settings(config, sets)
    rows = [(name, value, layers.source(name)) for name, value in _rows(settings.model_dump(mode="json"))]
    if json:
        print_json({name: {"value": value, "source": source} for name, value, source in rows})
    else:
        say(table([(name, str(value), source) for name, value, source in rows], ("setting", "value", "source")))


def _rows(table: dict[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """(dotted name, value) of every setting, options of plug-ins one by one where some are given."""
    for key, value in table.items():
        if isinstance(value, dict) and value:
            yield from _rows(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


@app.command()
def schema() -> None:
    """The JSON schema of the settings, options of the installed plug-ins included, for editors and other programs."""
    from ocrsdk.plugins.schema import settings_schema

    print_json(settings_schema())
