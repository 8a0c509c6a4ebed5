"""``ocrsdk config``."""

from __future__ import annotations

import typer

from ocrsdk.cli.common import ConfigOption, JsonOption, SetOption, load_settings, print_json, say, table

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Show the settings and where they come from.")


@app.command()
def show(config: ConfigOption = None, sets: SetOption = None, json: JsonOption = False) -> None:
    """Every effective setting, and its source: command line, OCRSDK_* variable, file:line or default."""
    from ocrsdk.settings.sources import leaves

    settings, layers = load_settings(config, sets)
    values = settings.model_dump(mode="json")
    rows = []
    for name in leaves(type(settings)):
        value = values
        for part in name.split("."):
            value = value[part]
        rows.append((name, value, layers.source(name)))
    if json:
        print_json({name: {"value": value, "source": source} for name, value, source in rows})
    else:
        say(table([(name, str(value), source) for name, value, source in rows], ("setting", "value", "source")))


@app.command()
def schema() -> None:
    """The JSON schema of the settings, options of the installed plug-ins included, for editors and other programs."""
    from ocrsdk.plugins.doctor import settings_schema

    print_json(settings_schema())
