"""The command line. Only typer is imported here: ``--help`` must not wait for torch."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Annotated, ClassVar, TextIO, cast

import typer

from ocrsdk.cli.limits import exhausted
from ocrsdk.cli.on_demand import Home, OnDemandGroup
from ocrsdk.errors import OcrsdkError

if TYPE_CHECKING:
    from collections.abc import Iterator


class Commands(OnDemandGroup):
    """The root's commands; each group and command is described in full where it is."""

    homes: ClassVar = {
        "train": Home("ocrsdk.cli.train", "train", "Train a detector."),
        "evaluate": Home("ocrsdk.cli.evaluate", "evaluate", "Score a checkpoint: precision, recall and hmean."),
        "tune": Home("ocrsdk.cli.tune", "tune", "Choose box threshold and unclip ratio on annotated pages."),
        "predict": Home("ocrsdk.cli.predict", "predict", "Find text in images."),
        "data": Home("ocrsdk.cli.data", "app", "Check data, convert labels, generate pages."),
        "cache": Home("ocrsdk.cli.cache", "app", "Look at, check and manage the sample cache."),
        "precision": Home("ocrsdk.cli.precision", "app", "See what half precision does, and prove that it is harmless."),
        "runs": Home("ocrsdk.cli.runs", "runs_app", "Look at runs and compare them."),
        "logs": Home("ocrsdk.cli.runs", "logs_app", "Send what a run has logged somewhere else."),
        "bench": Home("ocrsdk.cli.bench", "app", "Measure this machine."),
        "config": Home("ocrsdk.cli.config", "app", "Show the settings and where they come from."),
        "plugins": Home("ocrsdk.cli.plugins", "app", "See, check and make plug-ins."),
    }


app = typer.Typer(
    name="ocrsdk",
    cls=Commands,
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


class _Stderr:
    """A stderr that never fails: a full disk, a closed pipe or a closed stream must not end the command."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream or open(os.devnull, "w")  # noqa: SIM115, PTH123 - for the whole process

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def in_command_terms(error: OcrsdkError) -> str:
    """The message with the option's name instead of the parameter's: ``--margin 12: ...`` for ``margin=12: ...``."""
    text, name = str(error), error.parameter
    if name and text.startswith(f"{name}="):
        value, _, rest = text.removeprefix(f"{name}=").partition(": ")
        return f"--{name.replace('_', '-')} {value}: {rest}"
    return text


class _Ended(KeyboardInterrupt):
    """A signal asked the command to end: what cleans up after an interrupt does so, and nothing takes it for a plug-in's exit."""


@contextlib.contextmanager
def _ending_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise ``_Ended``, and exit with 128 and their number. What is ignored, as under nohup, stays so."""
    received: list[int] = []

    def end(number: int, _frame: object) -> None:
        received.append(number)
        raise _Ended

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    ours = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    for number in ours:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)
        if received:
            sys.exit(128 + received[0])


def main() -> None:
    """The console script.

    An error raised on purpose becomes one line on stderr and exit code 2, any other a traceback and 70; after a signal the code is
    128 and its number.
    """
    sys.stderr = cast("TextIO", _Stderr(sys.stderr))
    with _ending_on_signals():
        _run()


def _run() -> None:
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # names of files that are no text
    try:
        try:
            app()
        finally:
            sys.stdout.flush()  # what cannot be written is an error, too
    except OcrsdkError as error:
        _tell(in_command_terms(error), error)
        sys.exit(2)
    except KeyboardInterrupt:
        typer.echo("interrupted", err=True)
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - 1 is an answer of some commands
        reason = exhausted(error)
        if reason is None:
            traceback.print_exc()
            sys.exit(70)
        _tell(reason, error)
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - Python would try to write the rest once more
        sys.exit(1)


def _tell(text: str, error: Exception) -> None:
    from ocrsdk import logs

    if logs.is_json():
        logs.get_logger(__name__).error(text, kind=type(error).__name__)
    else:
        typer.echo(f"error: {text}", err=True)
