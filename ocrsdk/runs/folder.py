"""The folder of a run: settings, metrics, checkpoints, pictures."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocrsdk.errors import CheckpointError, RunFolderError
from ocrsdk.logs import json_text
from ocrsdk.settings.sources import variable_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ocrsdk.settings.schema import Settings
    from ocrsdk.settings.sources import Layers

RUNS = Path("runs")
"""Where runs go that are given no folder."""
SETTINGS_FILE = "settings.yaml"
RUN_FILE = "run.json"
"""The run's id, and when and on what it was started and resumed."""
RESULT_FILE = "result.json"
"""How it ended; absent while it runs, and if it was killed."""
LOCK_FILE = ".lock"


def choose(settings: Settings) -> Path:
    """``settings.run_dir``, or a new folder named by date and run."""
    if settings.run_dir is not None:
        return settings.run_dir
    stamp = f"{datetime.now():%Y-%m-%d_%H-%M-%S}-{settings.name}"
    return next(folder for n in count(1) if not (folder := RUNS / (stamp if n == 1 else f"{stamp}-{n}")).exists())


def create_new(settings: Settings) -> Path:
    """Create the folder of ``choose``; of runs that start in the same second, each gets its own.

    Raises:
        RunFolderError: As ``create``.
    """
    while True:
        folder = choose(settings)
        if settings.run_dir is None:
            with contextlib.suppress(OSError):  # told by ``create``
                try:
                    folder.mkdir(parents=True)
                except FileExistsError:
                    continue
        create(folder)
        return folder


def create(folder: Path) -> None:
    """Create the folder, or take an empty one.

    Raises:
        RunFolderError: It cannot be written, or holds a run or anything else already.
    """
    try:
        if (folder / SETTINGS_FILE).exists():
            raise RunFolderError(f"{folder}: holds a run already. To resume it: --resume {folder}; else choose another")
        if folder.is_dir() and (found := next((path for path in folder.iterdir() if path.name != LOCK_FILE), None)):
            raise RunFolderError(f"{folder}: is not empty ({found.name}); choose another with --run-dir")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "checkpoints").mkdir(exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"{folder}: cannot be created ({error.strerror}); choose another with --run-dir") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise RunFolderError(f"{folder}: cannot be written (permission denied); choose another with --run-dir")


def write_settings(folder: Path, settings: Settings, layers: Layers | None, secrets: Sequence[str] = ()) -> None:
    """Write every effective value, and where it came from, as a file that ``--config`` reads.

    Args:
        folder: The run folder.
        settings: Without secrets.
        layers: Where each value came from; None if from nowhere but Python.
        secrets: Names of the options whose values must not be written.
    """
    lines = [
        "# The effective settings of this run, each with its source. To train with them again: --config FILE --run-dir NEW",
        *(f"# {name} is a secret and is not kept; give it again: {variable_of(name)}" for name in secrets),
        *_yaml_lines(settings.model_dump(mode="json"), layers),
    ]
    (folder / SETTINGS_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _yaml_lines(table: dict[str, object], layers: Layers | None, prefix: str = "", tables: int = 1) -> list[str]:
    lines = []
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and tables:
            lines += [f"{key}:", *("  " + line for line in _yaml_lines(value, layers, f"{name}.", tables - 1))]
        else:
            source = layers.source(name) if layers else "default"
            lines.append(f"{key}: {json_text(value)}  # {source}")
    return lines


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock the folder for this process while a run trains in it; the lock goes with the process.

    Raises:
        RunFolderError: Another process has the lock.
    """
    try:
        file = (folder / LOCK_FILE).open("a")
    except OSError as error:
        raise RunFolderError(f"{folder}: cannot be written ({error.strerror}); choose another with --run-dir") from error
    with file:
        for attempt in range(10):  # one that only looks at runs has it for a moment
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError:
                if attempt == 9:
                    raise RunFolderError(f"{folder}: another process is training in it; choose another with --run-dir") from None
                time.sleep(0.05)
        yield


def is_locked(folder: Path) -> bool:
    """Whether a process is training in the folder."""
    try:
        with (folder / LOCK_FILE).open("r") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def write_start(folder: Path, run_id: str, environment: dict[str, object]) -> None:
    """Note in ``run.json`` that the run starts, or is resumed, and where."""
    path = folder / RUN_FILE
    known = read_json(path) or {"run_id": run_id, "sessions": []}
    started = datetime.now(UTC).isoformat(timespec="seconds")
    _replace(path, {**known, "sessions": [*known["sessions"], {"started": started, "environment": environment}]})


def write_result(folder: Path, result: dict[str, object]) -> None:
    """Keep in ``result.json`` how the run ended."""
    _replace(folder / RESULT_FILE, {**result, "ended": datetime.now(UTC).isoformat(timespec="seconds")})


def read_json(path: Path) -> dict[str, Any] | None:
    """The document; None if there is none.

    Raises:
        RunFolderError: It is damaged.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path}: cannot be read ({error})") from error
    return dict(document)


def _replace(path: Path, document: dict[str, Any]) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(json_text(document, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def find_last(root: Path = RUNS) -> Path:
    """The run below ``root`` that was started last.

    Raises:
        RunFolderError: There is none.
    """
    runs = [path.parent for path in root.glob(f"*/{SETTINGS_FILE}")]
    if not runs:
        raise RunFolderError(f"{root}: no run in it")
    return max(runs, key=lambda run: (run / SETTINGS_FILE).stat().st_mtime_ns)


def settings_file(run: Path) -> Path:
    """The settings of ``run``, a run folder; ``last`` is the one that was started last.

    Raises:
        RunFolderError: There is none.
    """
    if str(run) == "last" and not run.exists():
        run = find_last()
    if not (run / SETTINGS_FILE).is_file():
        raise RunFolderError(f"{run}: no run folder, as it holds no {SETTINGS_FILE}")
    return run / SETTINGS_FILE


def last_checkpoint(run: Path) -> Path:
    """The checkpoint from which ``run`` is resumed.

    Raises:
        CheckpointError: There is none.
    """
    path = run / "checkpoints" / "last.ckpt"
    if path.is_file():
        return path
    if run.is_file():
        raise CheckpointError(f"{run}: is a file; name the run's folder: --resume {run.parent.parent}")
    if not run.is_dir():
        raise CheckpointError(f"{run}: no such run folder")
    raise CheckpointError(f"{run}: no checkpoints/last.ckpt to resume from; start a new run without --resume")
