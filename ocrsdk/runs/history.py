"""What run folders tell: states, scores, curves, and how two runs differ."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import yaml

from ocrsdk.errors import LoggerError, RunFolderError
from ocrsdk.fingerprint import differences
from ocrsdk.loggers.base import flatten
from ocrsdk.loggers.rows import FILE_NAME, RECORD, read_rows
from ocrsdk.runs import folder as run_folder

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

State = Literal["running", "finished", "stopped", "interrupted"]


@dataclass(frozen=True)
class Run:
    """One run folder."""

    folder: Path
    state: State
    """``stopped`` by a signal, with a checkpoint; ``interrupted`` by an error or a kill."""
    run_id: str
    started: str
    """UTC, ISO 8601; the first start."""
    settings: dict[str, Any]
    result: dict[str, Any]
    """As ``FitResult.as_dict``; empty while it runs, and if it was interrupted."""
    sessions: list[dict[str, Any]]
    """When and on what it was started and resumed."""
    rows: list[dict[str, Any]] = field(repr=False)
    """Everything that was logged."""

    def curve(self, metric: str) -> list[tuple[int, float]]:
        """(step, value) of each row that has ``metric``."""
        return [(int(row["step"] or 0), float(row[metric])) for row in self.rows if metric in row]

    @property
    def steps(self) -> int:
        """Updates that the run has made."""
        return int(self.result["steps"]) if self.result else max((int(r["step"] or 0) + 1 for r in self.rows), default=0)

    @property
    def best_hmean(self) -> float | None:
        """Highest score of a validation; None before there is one."""
        scores = [value for _, value in self.curve("val/hmean") if not math.isnan(value)]
        return max(scores) if scores else self.result.get("best_hmean")

    @property
    def seconds(self) -> float:
        """Time of training, as far as it is known."""
        return max((float(row.get("wall_time", 0)) for row in self.rows), default=float(self.result.get("seconds", 0.0)))

    def changed(self) -> list[str]:
        """``name: default -> value`` of each setting that is not the default."""
        from ocrsdk.settings.schema import Settings

        return differences(Settings().model_dump(mode="json"), self.settings)

    def as_dict(self) -> dict[str, object]:
        """JSON-ready, without the rows."""
        return {
            "folder": str(self.folder), "state": self.state, "run_id": self.run_id, "started": self.started, "steps": self.steps,
            "seconds": self.seconds, "best_hmean": self.best_hmean, "precision": self.settings["precision"]["strategy"],
            "changed": self.changed(), "result": self.result, "sessions": self.sessions,
        }  # fmt: skip


def load_run(folder: Path) -> Run:
    """Read a run folder.

    Raises:
        RunFolderError: It is none, or is damaged.
    """
    path = folder / run_folder.SETTINGS_FILE
    try:
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunFolderError(f"{folder}: no run in it ({run_folder.SETTINGS_FILE} is missing). See: ocrsdk runs list") from None
    except (OSError, yaml.YAMLError) as error:
        raise RunFolderError(f"{path}: cannot be read ({error})") from error
    if not isinstance(settings, dict) or not {"name", "precision", "logging"} <= settings.keys():
        raise RunFolderError(f"{path}: not the settings of a run")
    known = run_folder.read_json(folder / run_folder.RUN_FILE) or {"run_id": "", "sessions": []}
    result = run_folder.read_json(folder / run_folder.RESULT_FILE) or {}
    state: State = "running" if run_folder.is_locked(folder) else result.get("status", "interrupted")
    rows = read_rows(folder / FILE_NAME) if (folder / FILE_NAME).exists() else []
    sessions = known["sessions"]
    return Run(folder, state, known["run_id"], sessions[0]["started"] if sessions else "", settings, result, sessions, rows)


def list_runs(root: Path) -> tuple[list[Run], list[str]]:
    """The runs below ``root``, the newest first, and what is wrong with those that cannot be read.

    Raises:
        RunFolderError: There is no such folder.
    """
    if not root.is_dir():
        raise RunFolderError(f"{root}: no such folder")
    runs, broken = [], []
    for path in sorted(root.glob(f"*/{run_folder.SETTINGS_FILE}")):
        try:
            runs.append(load_run(path.parent))
        except RunFolderError as error:
            broken.append(str(error))
    return sorted(runs, key=lambda run: run.started, reverse=True), broken


def compare_settings(runs: Sequence[Run]) -> list[tuple[str, list[object]]]:
    """(name, value in each run) of each setting in which the runs differ."""
    flat = [flatten(run.settings) for run in runs]
    names = sorted(set().union(*flat))
    rows = [(name, [values.get(name) for values in flat]) for name in names]
    return [(name, values) for name, values in rows if any(value != values[0] for value in values[1:])]


def plot_curves(runs: Sequence[Run], metrics: Sequence[str], path: Path) -> None:
    """Write a picture of the curves of ``metrics``, one panel each.

    Raises:
        RunFolderError: The file cannot be written, or no run has any of the metrics.
    """
    from matplotlib.figure import Figure

    if not any(run.curve(metric) for run in runs for metric in metrics):
        known = sorted({key for run in runs for row in run.rows for key in row if "/" in key})
        raise RunFolderError(f"no run has logged {', '.join(metrics)}. There are: {', '.join(known)}")
    figure = Figure(figsize=(5 * len(metrics), 4), layout="constrained")
    panels = figure.subplots(1, len(metrics), squeeze=False)[0]
    for panel, metric in zip(panels, metrics, strict=True):
        for run in runs:
            points = run.curve(metric)
            panel.plot(
                [x for x, _ in points], [y for _, y in points], marker="." if len(points) < 40 else "", label=run.folder.name
            )
        panel.set(xlabel="step", title=metric)
        panel.legend()
    try:
        figure.savefig(path, dpi=120)
    except (OSError, ValueError) as error:
        raise RunFolderError(f"{path}: cannot be written ({error})") from error


_BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int = 60) -> str:
    """The curve as a line of bars; at most ``width`` of them, each the mean of its share."""
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ""
    count = min(width, len(finite))
    means = []
    for i in range(count):
        part = finite[i * len(finite) // count : (i + 1) * len(finite) // count]
        means.append(sum(part) / len(part))
    low, high = min(means), max(means)
    span = (high - low) or 1.0
    return "".join(_BARS[round((value - low) / span * (len(_BARS) - 1))] for value in means)


def sync(run: Run, logger: str, options: dict[str, object]) -> tuple[int, int]:
    """Send the rows of a run to a logger.

    Args:
        run: The run.
        logger: Its name.
        options: Its options.

    Returns:
        (rows sent, rows that it had already).

    Raises:
        OcrsdkError: It cannot take them all.
    """
    from ocrsdk.loggers.base import RunInfo
    from ocrsdk.loggers.make import make_factory
    from ocrsdk.loggers.run_logger import missing_rows
    from ocrsdk.plugins.manager import call

    if logger == RECORD:
        raise LoggerError(f"{run.folder / FILE_NAME} is where rows come from; choose another logger")
    if not run.rows:
        raise RunFolderError(f"{run.folder}: nothing has been logged there")
    own = run.settings["logging"]["options"].get(logger, {})
    factory = make_factory(logger, {**own, **options})
    environment = run.sessions[-1]["environment"] if run.sessions else {}
    made = call(factory.build, RunInfo(run.folder, run.settings["name"], run.settings, True, run.run_id, environment))
    if made is None:
        raise LoggerError(f"{logger} keeps nothing")
    sent = call(factory.send, made, list(missing_rows(made, run.rows)))
    return sent, len(run.rows) - sent
