"""The parity gate: is training with one strategy as accurate as with another? Paired runs and an equivalence test."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING, Any, Literal

from ocrsdk.errors import NonFiniteError, OcrsdkError, RunFolderError, SettingsError
from ocrsdk.fingerprint import canonical_json
from ocrsdk.logs import get_logger
from ocrsdk.precision.certificates import Binding, Certificate, check_folder, revoke, save, versions_of
from ocrsdk.precision.equivalence import MOST_MARGIN, Equivalence, equivalence
from ocrsdk.precision.make import make_strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from ocrsdk.precision.equivalence import Outcome

Arm = Literal["baseline", "candidate"]


@dataclass(frozen=True)
class ArmRun:
    """One training run of the comparison."""

    arm: Arm
    strategy: str
    seed: int
    score: float
    """Higher is better: hmean in points for our own runs. 0 for a run that NaN or infinity stopped."""
    folder: str = ""
    images_per_second: float | None = None
    peak_memory_bytes: int = 0
    skipped_steps: int = 0
    losses: list[float | None] = field(default_factory=list)
    """The loss of each update; None where it was NaN or infinite."""
    stopped: str = ""
    """The error of a run that NaN or infinity stopped."""
    data: str = ""
    """Fingerprint of what it was trained on."""


@dataclass(frozen=True)
class ParityReport:
    """What a comparison found."""

    outcome: Outcome
    reason: str
    candidate: str
    baseline: str
    margin: float
    difference: float
    """Mean score of the candidate minus that of the baseline."""
    low: float
    high: float
    """Its 90 % confidence interval."""
    speedup: float | None
    """Images a second, candidate over baseline, medians."""
    memory_ratio: float
    binding: Binding
    runs: list[ArmRun]
    folder: Path
    epochs: int | None = None
    """Of each run, if it is known."""
    ranges: list[dict[str, Any]] = field(default_factory=list)
    """Activations and gradients of the trained baseline under the candidate, closest to overflow first."""
    certificate: Path | None = None

    def as_dict(self) -> dict[str, object]:
        """JSON-ready: an infinite bound is null."""
        document = {key: value for key, value in asdict(self).items() if key not in ("folder", "certificate")}
        bounds = {key: document[key] if abs(document[key]) != float("inf") else None for key in ("low", "high")}
        return {
            **document, **bounds, "folder": str(self.folder), "certificate": str(self.certificate) if self.certificate else None,
        }  # fmt: skip


def check_parity(
    train: Callable[[str, int], float],
    candidate: str,
    *,
    subject: Mapping[str, object],
    baseline: str = "fp32",
    seeds: int = 3,
    first_seed: int = 0,
    margin: float = 1.0,
    least_score: float = 0.0,
    options: Mapping[str, object] | None = None,
    device: str = "auto",
    out: Path | str,
    certificates: Path | str | None = None,
    on_run: Callable[[ArmRun, int, int], object] | None = None,
) -> ParityReport:
    """Compare two strategies by any function that trains: two one-sided paired t-tests at 5 % (Schuirmann 1987).

    Args:
        train: ``train(precision, seed)`` trains with the strategy called ``precision`` and returns a score, higher is better. The
            seed decides everything random, so that both arms differ in nothing but their numbers. ``NonFiniteError`` and
            ``FloatingPointError`` count as a run that NaN or infinity stopped.
        candidate: The strategy to judge.
        subject: What is trained on what, JSON-ready: a certificate holds for exactly this.
        baseline: What it is compared with.
        seeds: Paired runs.
        first_seed: They count up from here.
        margin: Difference in the score that does not matter, in its own units.
        least_score: A baseline below it has learned nothing that a comparison could show.
        options: Options of the candidate, for the certificate; ``train`` applies them.
        device: What ``train`` computes on.
        out: New or empty folder of ``report.json`` and ``report.png``.
        certificates: Folder where a pass leaves its certificate; None leaves none.
        on_run: Called after each run with it, its number and the number of all.

    Raises:
        SettingsError: An argument cannot be used.
        PluginError: There is no such strategy, or the device cannot run it.
        RunFolderError: ``out`` cannot be written.
    """
    from ocrsdk.precision.device import device_kind, device_name

    where = device_kind(device)
    judged, reference = make_strategy(candidate, options or {}, where), make_strategy(baseline, {}, where)
    check_arguments(margin, seeds, candidate, baseline)
    folder = report_folder(Path(out))
    kept = Path(certificates).expanduser() if certificates is not None else None
    if kept is not None:
        check_folder(kept)
    chosen = judged.options.model_dump(mode="json") if judged.options is not None else {}
    bound = Binding(candidate, chosen, dict(subject), device_name(where), versions_of(candidate))
    try:
        canonical_json(bound.subject)
    except (TypeError, ValueError) as error:
        raise SettingsError(
            f"subject: is not JSON-ready ({error}); use texts, numbers, lists and dicts", parameter="subject"
        ) from None
    runs: list[ArmRun] = []
    for seed in range(first_seed, first_seed + seeds):
        arms: tuple[tuple[Arm, str], ...] = (("baseline", baseline), ("candidate", candidate))
        for arm, strategy in arms:
            try:
                run = ArmRun(arm, strategy, seed, float(train(strategy, seed)))
            except (NonFiniteError, FloatingPointError) as error:
                run = ArmRun(arm, strategy, seed, 0.0, stopped=str(error))
            if not isfinite(run.score):
                raise SettingsError(f"train({strategy!r}, {seed}) returned {run.score}; a score is a finite number")
            runs.append(run)
            if on_run is not None:
                on_run(run, len(runs), 2 * seeds)
    report = judge(runs, candidate, baseline, margin, bound, folder, least_score=least_score)
    return conclude(report, kept if reference.reference else None)


def check_arguments(margin: float, seeds: int, candidate: str, baseline: str) -> None:
    """Refuse a comparison that says nothing.

    Raises:
        SettingsError: Names the parameter.
    """
    if not 0 < margin <= MOST_MARGIN:
        raise SettingsError(f"margin={margin:g}: expected more than 0 and at most {MOST_MARGIN:g}", parameter="margin")
    if seeds < 1:
        raise SettingsError(f"seeds={seeds}: expected 1 or more", parameter="seeds")
    if candidate == baseline:
        raise SettingsError(
            f"candidate and baseline are both {candidate!r}; a strategy proves nothing against itself", parameter="candidate"
        )


def report_folder(folder: Path) -> Path:
    """Create the folder of a report, or take an empty one.

    Raises:
        RunFolderError: It cannot be created, or holds something.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        empty = not any(folder.iterdir())
    except OSError as error:
        raise RunFolderError(f"{folder}: cannot be created ({error.strerror}); choose another folder", parameter="out") from error
    if not empty:
        raise RunFolderError(f"{folder}: is not empty; choose another folder", parameter="out")
    return folder


def judge(
    runs: Sequence[ArmRun], candidate: str, baseline: str, margin: float, bound: Binding, folder: Path, *,
    least_score: float = 0.0, epochs: int | None = None, ranges: Iterable[dict[str, object]] = (),
) -> ParityReport:  # fmt: skip
    """A report over the runs."""
    found = verdict(runs, margin, least_score)
    speedup, memory_ratio = ratios(runs)
    return ParityReport(
        found.outcome, found.reason, candidate, baseline, margin, found.difference, found.low, found.high, speedup,
        memory_ratio, bound, list(runs), folder, epochs, list(ranges),
    )  # fmt: skip


def verdict(runs: Sequence[ArmRun], margin: float, least_score: float = 0.0) -> Equivalence:
    """Whether the candidate's scores are equivalent; a run that stopped fails the candidate."""
    scores: dict[Arm, list[float]] = {
        arm: [r.score for r in sorted(runs, key=lambda r: r.seed) if r.arm == arm] for arm in ("baseline", "candidate")
    }
    found = equivalence(scores["baseline"], scores["candidate"], margin, least_score)
    for run in runs:
        if run.stopped and run.arm == "baseline":
            reason = f"the baseline itself failed: {run.stopped}"
            return Equivalence("inconclusive", reason, found.difference, found.low, found.high)
    stopped = [run for run in runs if run.stopped]
    if stopped:
        reason = f"{len(stopped)} of the candidate's runs stopped: {stopped[0].stopped}"
        return Equivalence("fail", reason, found.difference, found.low, found.high)
    return found


def ratios(runs: Sequence[ArmRun]) -> tuple[float | None, float]:
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


def conclude(report: ParityReport, certificates: Path | None) -> ParityReport:
    """Write the report, and keep or revoke a certificate.

    Args:
        report: From ``judge``.
        certificates: Their folder; None if no certificate is to be kept.
    """
    from dataclasses import replace

    try:
        if certificates is not None:
            report = replace(report, certificate=_certify(report, certificates))
    finally:
        document = json.dumps(report.as_dict(), indent=1, allow_nan=False)
        (report.folder / "report.json").write_text(document + "\n", encoding="utf-8")
        draw(report, report.folder / "report.png")
    return report


def _certify(report: ParityReport, folder: Path) -> Path | None:
    """Write the certificate of a check that was passed; one that failed takes an earlier certificate away."""
    if report.outcome == "fail":
        revoke(folder, report.binding)
    if report.outcome != "pass":
        return None
    if report.speedup is None:
        get_logger(__name__).warning("speeds were not compared; auto will not choose this strategy", strategy=report.candidate)
    return save(
        folder,
        Certificate(
            binding=report.binding, baseline=report.baseline, difference=report.difference, low=report.low, high=report.high,
            margin=report.margin, seeds=len(report.runs) // 2, epochs=report.epochs, speedup=report.speedup or 1.0,
            memory_ratio=report.memory_ratio, created=datetime.now(UTC).isoformat(timespec="seconds"),
        ),
    )  # fmt: skip


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
        scores.plot([r.seed for r in of_arm], [r.score for r in of_arm], "o", color=colour, label=names[arm])
    if any(run.losses for run in report.runs):
        curves.set(yscale="log")
    curves.set(xlabel="update", ylabel="loss", title="loss")
    scores.set(xlabel="seed", ylabel="score", title="paired scores", xticks=sorted({r.seed for r in report.runs}))
    curves.legend()
    scores.legend()
    reach = max(abs(v) for v in (report.low, report.high, report.margin) if abs(v) != float("inf")) * 1.4
    interval.axvspan(-report.margin, report.margin, color="tab:green", alpha=0.2, label=f"margin {report.margin:g}")
    interval.plot([max(report.low, -reach), min(report.high, reach)], [0, 0], color="black", linewidth=3)
    interval.plot([report.difference], [0], "o", color="black")
    interval.set(xlim=(-reach, reach), yticks=[], xlabel="difference, 90 % interval", title=report.outcome)
    interval.legend(loc="lower right")
    try:
        figure.savefig(path, dpi=120)
    except OSError as error:
        raise OcrsdkError(f"{path}: cannot be written ({error.strerror})") from error
