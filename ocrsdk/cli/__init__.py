"""The command line. Only typer is imported here: ``--help`` must not wait for torch."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from ocrsdk.cli import bench, cache, config, data, evaluate, plugins, precision, predict, runs, train
from ocrsdk.errors import OcrsdkError

app = typer.Typer(
    name="ocrsdk",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Train text detectors and trust the result.\n\n"
    "First steps:  ocrsdk data synth demo-data   then   ocrsdk train demo-data --max-time 4m",
)


def _version(asked: bool) -> None:
    if asked:
        from ocrsdk import __version__

        typer.echo(f"ocrsdk {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")] = False,
) -> None:
    """Options before the command."""


app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.add_typer(data.app, name="data")
app.add_typer(cache.app, name="cache")
app.add_typer(precision.app, name="precision")
app.add_typer(runs.runs_app, name="runs")
app.add_typer(runs.logs_app, name="logs")
app.add_typer(bench.app, name="bench")
app.add_typer(config.app, name="config")
app.add_typer(plugins.app, name="plugins")


def main() -> None:
    """The console script: an error raised on purpose becomes one line on stderr and exit code 2."""
    try:
        app()
    except OcrsdkError as error:
        from ocrsdk import logs

        if logs.is_json():
            logs.get_logger(__name__).error(str(error), kind=type(error).__name__)
        else:
            typer.echo(f"error: {error}", err=True)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
