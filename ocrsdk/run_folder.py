"""The folder of a run: settings, metrics, checkpoints, pictures."""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocrsdk.errors import CheckpointError, RunFolderError

if TYPE_CHECKING:
    from ocrsdk.settings import Settings
    from ocrsdk.settings_sources import Layers

SETTINGS_FILE = "settings.yaml"


def choose(settings: Settings) -> Path:
    """``settings.run_dir``, or a new folder named by date and run."""
    if settings.run_dir is not None:
        return settings.run_dir
    stamp = datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    return Path("runs") / f"{stamp}-{settings.name}"


def create(folder: Path) -> None:
    """Create the folder, or take an empty one.

    Raises:
        RunFolderError: It cannot be written, or holds a run already.
    """
    try:
        if (folder / SETTINGS_FILE).exists():
            raise RunFolderError(f"{folder}: holds a run already. To go on with it: --resume {folder}; else choose another")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "checkpoints").mkdir(exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"{folder}: cannot be created ({error.strerror}); choose another with --run-dir") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RunFolderError(f"{folder}: cannot be written (permission denied); choose another with --run-dir")


def write_settings(folder: Path, settings: Settings, layers: Layers | None) -> None:
    """Write every effective value, and where it came from, as a file that ``--config`` reads."""
    lines = [
        "# The effective settings of this run, each with its source. Train again with the same: --config settings.yaml",
        *_yaml_lines(settings.model_dump(mode="json"), layers),
    ]
    (folder / SETTINGS_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _yaml_lines(table: dict[str, Any], layers: Layers | None, prefix: str = "", tables: int = 1) -> list[str]:
    lines = []
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and tables:
            lines += [f"{key}:", *("  " + line for line in _yaml_lines(value, layers, f"{name}.", tables - 1))]
        else:
            source = layers.source(name) if layers else "default"
            lines.append(f"{key}: {json.dumps(value, ensure_ascii=False)}  # {source}")
    return lines


def last_checkpoint(run: Path) -> Path:
    """The checkpoint from which ``run`` goes on.

    Raises:
        CheckpointError: There is none.
    """
    path = run / "checkpoints" / "last.ckpt"
    if path.is_file():
        return path
    if not run.is_dir():
        raise CheckpointError(f"{run}: no such run folder")
    raise CheckpointError(f"{run}: no checkpoints/last.ckpt to go on from; start anew without --resume")
