"""What several commands share: options, settings from them, output for people and for machines."""

from __future__ import annotations

import json
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
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Warnings and errors only.")]
LogFormatOption = Annotated[
    str, typer.Option("--log-format", metavar="FORMAT", help="console, or json: one JSON object a line on stderr, for machines.")
]


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


def set_up_output(verbose: bool = False, quiet: bool = False, log_format: str = "console") -> None:
    """Log lines on stderr; those of libraries, and their warnings, only with ``--verbose``."""
    from ocrsdk import logs

    if verbose and quiet:
        raise SettingsError("--verbose and --quiet go ill together; choose one")
    if log_format not in ("console", "json"):
        raise SettingsError(f"--log-format {log_format}: expected console or json")
    logs.configure("debug" if verbose else "warning" if quiet else "info", log_format)  # type: ignore[arg-type]
    if not verbose:
        warnings.filterwarnings("ignore", module=r"pytorch_lightning\.")
        warnings.filterwarnings("ignore", module=r"torch\.")


def load_libraries() -> None:
    """Import PyTorch and Lightning, which takes seconds, and bring what they say into our log."""
    note("loading PyTorch")
    import pytorch_lightning  # noqa: F401 - it sets up its log when it is imported

    from ocrsdk.logs import route_libraries

    route_libraries()


def say(text: str = "") -> None:
    """A line for people, on stdout."""
    typer.echo(text)


def note(text: str) -> None:
    """A line for people, on stderr, where it does not mix with results."""
    from ocrsdk import logs

    if logs.is_json():
        logs.get_logger(__name__).info(text)
    elif not logs.is_quiet():
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
        from ocrsdk import logs

        if not sys.stderr.isatty() or logs.is_json() or logs.is_quiet():
            note(f"{label}: {total} images")
            return paths
        from rich.console import Console
        from rich.progress import track

        return track(paths, label, total, console=Console(file=sys.stderr), transient=True)

    return wrap
