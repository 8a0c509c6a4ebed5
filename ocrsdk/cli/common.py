"""What several commands share: options, settings from them, output for people and for machines."""

from __future__ import annotations

import json
import logging
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocrsdk.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ocrsdk.settings import Settings
    from ocrsdk.settings_sources import Layers

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="Settings file, TOML or YAML.", metavar="FILE")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting, e.g. optimizer.lr=0.001. Repeatable."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for programs.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="More log lines, library warnings included.")]


def load_settings(
    config: Path | None, sets: Sequence[str] | None, options: Mapping[str, Any] | None = None
) -> tuple[Settings, Layers]:
    """Settings from all sources.

    Args:
        config: The file of ``--config``.
        sets: The ``KEY=VALUE`` of ``--set``.
        options: Dotted names to values of command-line options; None means "not given".
    """
    from ocrsdk.settings import Settings

    overrides: dict[str, Any] = {}
    for item in sets or ():
        key, sign, value = item.partition("=")
        if not sign:
            raise SettingsError(f"--set {item}: expected KEY=VALUE, for instance --set trainer.epochs=3")
        overrides[key.strip()] = value.strip()
    overrides.update((key, value) for key, value in (options or {}).items() if value is not None)
    return Settings.load_with_sources(config, overrides)


def set_up_output(verbose: bool = False) -> None:
    """Log lines on stderr; warnings of libraries only with ``--verbose``."""
    from ocrsdk import logs

    logs.configure("debug" if verbose else "info")
    if not verbose:
        warnings.filterwarnings("ignore", module=r"pytorch_lightning\.")
        warnings.filterwarnings("ignore", module=r"torch\.")


def quiet_lightning() -> None:
    """No device table, no advice. Lightning sets its level when it is imported, so it is imported first."""
    import pytorch_lightning

    logging.getLogger(pytorch_lightning.__name__).setLevel(logging.WARNING)


def say(text: str = "") -> None:
    """A line for people, on stdout."""
    typer.echo(text)


def note(text: str) -> None:
    """A line for people, on stderr, where it does not mix with results."""
    typer.echo(text, err=True)


def print_json(document: Any) -> None:
    """One JSON document on stdout."""
    typer.echo(json.dumps(document, ensure_ascii=False, indent=2))


def table(rows: Iterable[Sequence[str]], header: Sequence[str]) -> str:
    """Left-aligned columns."""
    body = [list(header), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in body) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in body]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def file_progress(label: str) -> Any:
    """A progress bar over files on a terminal, one line elsewhere; for ``Pipeline(progress=...)``."""

    def wrap(paths: Iterable[Path], total: int) -> Iterable[Path]:
        if not sys.stderr.isatty():
            note(f"{label}: {total} images")
            return paths
        from rich.console import Console
        from rich.progress import track

        return track(paths, label, total, console=Console(file=sys.stderr), transient=True)

    return wrap
