"""The parity gate: paired training runs, an equivalence test, a report and a certificate."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import isfinite
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, Literal

from ocrsdk.errors import NonFiniteError, TrainingError
from ocrsdk.loggers.rows import FILE_NAME, read_rows
from ocrsdk.logs import get_logger
from ocrsdk.models.checkpoint import read_checkpoint
from ocrsdk.runs.folder import last_checkpoint
from ocrsdk.settings.sources import child_environment

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ocrsdk.precision.certificates import Binding
    from ocrsdk.precision.equivalence import Equivalence, Outcome
    from ocrsdk.settings.schema import Settings
    from ocrsdk.training.numerics import ModuleRange

Arm = Literal["baseline", "candidate"]


@dataclass(frozen=True)
class ArmRun:
    """One training run of the comparison."""

    arm: Arm
    strategy: str
    seed: int
    folder: str
    hmean: float
    """Of the last validation, in points; 0 for a run that NaN or infinity stopped."""
    images_per_second: float | None
    peak_memory_bytes: int
    skipped_steps: int
    losses: list[float | None]
    """``train/loss`` at each update; None where it was NaN or infinite."""
    stopped: str = ""
    """The error of a run that NaN or infinity stopped."""
    data: str = ""
    """What it was trained on; see ``certificates.data_fingerprint``."""


@dataclass(frozen=True)
class ParityReport:
    """What ``ocrsdk precision check`` found."""

    outcome: Outcome
    reason: str
    candidate: str
    baseline: str
    margin: float
    epochs: int
    difference: float
    low: float
    high: float
    speedup: float | None
    """Images a second, candidate over baseline, medians."""
    memory_ratio: float
    binding: Binding
    runs: list[ArmRun]
    ranges: list[ModuleRange]
    """Activations and gradients of the trained baseline under the candidate, closest to overflow first."""
    folder: Path
    certificate: Path | None = None

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: an infinite bound is null."""
        document = {key: value for key, value in asdict(self).items() if key not in ("ranges", "folder", "certificate")}
        bounds = {key: document[key] if abs(document[key]) != float("inf") else None for key in ("low", "high")}
        return {
            **document, **bounds, "ranges": [r.as_dict() for r in self.ranges], "folder": str(self.folder),
            "certificate": str(self.certificate) if self.certificate else None,
        }  # fmt: skip


def paired_runs(settings: Settings, arms: dict[Arm, tuple[str, dict[str, Any]]], seeds: int, folder: Path) -> Iterator[ArmRun]:
    """Train both arms with each seed, in processes of their own, so that memory and crashes stay apart.

    Args:
        settings: Of every run, but for precision and seed.
        arms: Strategy and options of each.
        seeds: How many; they count up from ``settings.seed``.
        folder: Where the runs go.
    """
    for seed in range(settings.seed, settings.seed + seeds):
        for arm, (strategy, options) in arms.items():
            name = f"{arm}-{strategy}-seed{seed}"
            precision = settings.precision.model_copy(update={"strategy": strategy, "options": options})
            of_run = settings.model_copy(update={"seed": seed, "run_dir": folder / name, "precision": precision, "name": name})
            yield _train(of_run, arm, folder / f"{name}.yaml")


def _train(settings: Settings, arm: Arm, config: Path) -> ArmRun:
    assert settings.run_dir is not None
    config.write_text(json.dumps(settings.model_dump(mode="json"), indent=1), encoding="utf-8")  # JSON is YAML, too
    command = [sys.executable, "-m", "ocrsdk", "train", "--config", str(config), "--json", "--log-format", "json"]
    done = subprocess.run(command, env=child_environment(), capture_output=True, text=True, check=False)
    (log := config.with_suffix(".log")).write_text(done.stderr, encoding="utf-8")
    strategy, folder = settings.precision.strategy, settings.run_dir
    if done.returncode == 0:
        result = json.loads(done.stdout)
        return ArmRun(
            arm, strategy, settings.seed, str(folder), 100 * result["score"]["hmean"], result["images_per_second"],
            result["peak_memory_bytes"], result["skipped_steps"], _losses(folder), "", _data(folder),
        )  # fmt: skip
    last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
    with suppress(ValueError):  # else it is no error that was raised on purpose
        told = json.loads(last)
        last = told["event"]
        if told.get("kind") == NonFiniteError.__name__:
            return ArmRun(arm, strategy, settings.seed, str(folder), 0.0, None, 0, 0, _losses(folder), last, _data(folder))
    raise TrainingError(f"the run {folder.name} ended with exit code {done.returncode}: {last} (all of it: {log})")


def _losses(folder: Path) -> list[float | None]:
    values = [row["train/loss"] for row in read_rows(folder / FILE_NAME) if "train/loss" in row]
    return [value if isfinite(value) else None for value in values]


def _data(folder: Path) -> str:
    return str(read_checkpoint(last_checkpoint(folder))["ocrsdk"]["data"])


def judge(runs: list[ArmRun], margin: float) -> Equivalence:
    """The verdict over the runs."""
    from ocrsdk.precision.equivalence import Equivalence, equivalence

    scores: dict[Arm, list[float]] = {
        arm: [r.hmean for r in sorted(runs, key=lambda r: r.seed) if r.arm == arm] for arm in ("baseline", "candidate")
    }
    found = equivalence(scores["baseline"], scores["candidate"], margin)
    for run in runs:
        if run.stopped and run.arm == "baseline":
            return Equivalence(
                "inconclusive", f"the baseline itself failed: {run.stopped}", found.difference, found.low, found.high
            )
    stopped = [run for run in runs if run.stopped]
    if stopped:
        reason = f"{len(stopped)} of the candidate's runs stopped: {stopped[0].stopped}"
        return Equivalence("fail", reason, found.difference, found.low, found.high)
    return found


def ratios(runs: list[ArmRun]) -> tuple[float | None, float]:
    """(speed, memory), candidate over baseline; the speed is None if runs were too short to tell.

    The first pair does not count for the speed if there are more: its first run fills the cache.
    """
    first = min(run.seed for run in runs)
    only = all(run.seed == first for run in runs)
    speed, memory = {}, {}
    for arm in ("baseline", "candidate"):
        of_arm = [r for r in runs if r.arm == arm and not r.stopped]
        rates = [r.images_per_second for r in of_arm if r.images_per_second and (only or r.seed != first)]
        speed[arm] = median(rates) if rates else None
        memory[arm] = fmean(r.peak_memory_bytes for r in of_arm) if of_arm else 0.0
    fast, slow = speed["candidate"], speed["baseline"]
    return (fast / slow if fast and slow else None), (memory["candidate"] / memory["baseline"] if memory["baseline"] else 0.0)


def write_report(report: ParityReport) -> None:
    """``report.json`` and ``report.png`` in the report's folder."""
    document = json.dumps(report.as_dict(), indent=1, allow_nan=False)
    (report.folder / "report.json").write_text(document + "\n", encoding="utf-8")
    draw(report, report.folder / "report.png")


def draw(report: ParityReport, path: Path) -> None:
    """Loss curves, paired scores, and the difference with its interval."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    curves, scores, interval = figure.subplots(1, 3, width_ratios=(3, 2, 2))
    colours = {"baseline": "tab:blue", "candidate": "tab:orange"}
    names = {"baseline": report.baseline, "candidate": report.candidate}
    for arm, colour in colours.items():
        of_arm = [run for run in report.runs if run.arm == arm]
        for i, run in enumerate(of_arm):
            losses = [float("nan") if loss is None else loss for loss in run.losses]
            curves.plot(range(1, len(losses) + 1), losses, color=colour, alpha=0.6, label=names[arm] if i == 0 else None)
        scores.plot([r.seed for r in of_arm], [r.hmean for r in of_arm], "o", color=colour, label=names[arm])
    curves.set(xlabel="update", ylabel="train/loss", yscale="log", title="loss")
    scores.set(xlabel="seed", ylabel="hmean, points", title="paired scores", xticks=sorted({r.seed for r in report.runs}))
    curves.legend()
    scores.legend()
    reach = max(abs(v) for v in (report.low, report.high, report.margin) if abs(v) != float("inf")) * 1.4
    interval.axvspan(-report.margin, report.margin, color="tab:green", alpha=0.2, label=f"margin {report.margin:g}")
    interval.plot([max(report.low, -reach), min(report.high, reach)], [0, 0], color="black", linewidth=3)
    interval.plot([report.difference], [0], "o", color="black")
    interval.set(xlim=(-reach, reach), yticks=[], xlabel="difference in points, 90 % interval", title=report.outcome)
    interval.legend(loc="lower right")
    figure.savefig(path, dpi=120)


def certify(report: ParityReport, folder: Path) -> Path | None:
    """Write the certificate of a check that was passed; one that failed takes an earlier certificate away."""
    from ocrsdk.precision.certificates import Certificate, revoke, save

    if report.outcome == "fail":
        revoke(folder, report.binding)
    if report.outcome != "pass":
        return None
    if report.speedup is None:
        get_logger(__name__).warning(
            "runs too short to compare speeds; auto will not choose this strategy", strategy=report.candidate
        )
    path = save(
        folder,
        Certificate(
            binding=report.binding, baseline=report.baseline, difference=report.difference, low=report.low, high=report.high,
            margin=report.margin, seeds=len(report.runs) // 2, epochs=report.epochs, speedup=report.speedup or 1.0,
            memory_ratio=report.memory_ratio, created=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
    )  # fmt: skip
    return path
