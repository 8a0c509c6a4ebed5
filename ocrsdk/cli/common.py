"""What several commands share: options, settings from them, output for people and for machines."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocrsdk.errors import SettingsError
from ocrsdk.logs import json_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from ocrsdk.settings.schema import Settings
    from ocrsdk.settings.sources import Layers

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="Settings file, TOML or YAML.", metavar="FILE")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any setting, e.g. optimizer.lr=0.001. Repeatable."),
]
CheckpointSetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Instead of the checkpoint's, e.g. postprocess.threshold=0.3, data.short_side=960. Repeatable.",
    ),
]
FormatOption = Annotated[
    str | None,
    typer.Option(metavar="FORMAT", help="Annotation format of the labels; see: ocrsdk data formats.  [default: recognised]"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, for programs.")]
VerboseOption = Annotated[bool, typer.Option("--verbose", "-v", help="More log lines, library warnings included.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Warnings and errors only.")]
LogFormatOption = Annotated[
    str, typer.Option("--log-format", metavar="FORMAT", help="console, or json: one JSON object a line on stderr, for machines.")
]


def load_settings(
    config: Path | None, sets: Sequence[str] | None, options: Mapping[str, object] | None = None
) -> tuple[Settings, Layers]:
    """Settings from all sources.

    Args:
        config: The file of ``--config``.
        sets: The ``KEY=VALUE`` of ``--set``.
        options: Dotted names to values of command-line options; None means "not given".
    """
    from ocrsdk.settings.schema import Settings

    overrides: dict[str, Any] = {}
    for item in sets or ():
        key, sign, value = item.partition("=")
        if not sign:
            raise SettingsError(f"--set {item}: expected KEY=VALUE, for instance --set trainer.epochs=3")
        overrides[key.strip()] = value.strip()
    overrides.update((key, value) for key, value in (options or {}).items() if value is not None)
    return Settings.load_with_sources(config, overrides)


def checkpoint_settings(sets: Sequence[str] | None, options: Mapping[str, object] | None = None) -> dict[str, dict[str, object]]:
    """Values that replace those of a checkpoint, by section, as ``Pipeline.from_checkpoint`` takes them.

    Args:
        sets: The ``KEY=VALUE`` of ``--set``.
        options: As for ``load_settings``.

    Raises:
        SettingsError: As for ``load_settings``, or an option has no meaning with trained weights; such variables are left alone.
    """
    from ocrsdk.settings.sections import EVALUATION_DATA

    settings, layers = load_settings(None, sets, options)
    found: dict[str, dict[str, Any]] = {"postprocess": {}, "data": {}}
    for name in (*layers.environment, *layers.overrides):
        section, _, key = name.rpartition(".")
        if section == "postprocess" or (section == "data" and key in EVALUATION_DATA):
            found[section][key] = getattr(getattr(settings, section), key)
        elif name in layers.overrides:
            raise SettingsError(
                f"--set {name}: with trained weights there are postprocess.*, data.{', data.'.join(EVALUATION_DATA)}"
            )
    return found


def set_up_output(verbose: bool = False, quiet: bool = False, log_format: str = "console") -> None:
    """Log lines on stderr; those of libraries, and their warnings, only with ``--verbose``."""
    from ocrsdk import logs

    if verbose and quiet:
        raise SettingsError("--verbose and --quiet contradict each other; give one of them")
    if log_format not in ("console", "json"):
        raise SettingsError(f"--log-format {log_format}: expected console or json")
    logs.configure("debug" if verbose else "warning" if quiet else "info", log_format)  # type: ignore[arg-type]
    if not verbose:
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # our errors name the file; read when cv2 is imported
        warnings.filterwarnings("ignore", message="Image size .* exceeds limit")  # Pillow's bound for a warning; ours is twice that
        warnings.filterwarnings("ignore", module=r"pytorch_lightning\.")
        warnings.filterwarnings("ignore", module=r"torch\.")
        warnings.filterwarnings("ignore", module=r"PIL\.")  # of damaged files, which our errors name


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


def print_json(document: object) -> None:
    """One JSON document on stdout."""
    typer.echo(json_text(document, indent=2))


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
