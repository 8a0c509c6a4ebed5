"""``Pipeline.precision``: probe, check, replay."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocrsdk.errors import DataError, OcrsdkError, SettingsError
from ocrsdk.logs import get_logger
from ocrsdk.precision.make import make_strategy
from ocrsdk.runs.check import check_run

if TYPE_CHECKING:
    from collections.abc import Callable

    from ocrsdk.data.layout import Progress
    from ocrsdk.precision.base import PrecisionStrategy
    from ocrsdk.precision.certificates import Certificate
    from ocrsdk.precision.gate import ArmRun, ParityReport
    from ocrsdk.precision.numerics import ModuleRange
    from ocrsdk.precision_tools.probe import ReplayResult
    from ocrsdk.runs.check import CheckedRun
    from ocrsdk.settings.schema import Settings

LEAST_HMEAN = 10.0
"""A baseline below this many points has learned nothing that a comparison could show."""


class PrecisionControl:
    """What number formats do to a training run.

    Args:
        settings: All settings of the run.
        progress: Wraps long loops over files.
    """

    def __init__(self, settings: Settings, progress: Progress | None = None) -> None:
        self.settings, self._progress = settings, progress

    def probe(
        self, data: Path | str | None = None, checkpoint: Path | None = None, batches: int = 4
    ) -> tuple[PrecisionStrategy, list[ModuleRange]]:
        """Run real training batches forward and backward, and watch how close each module comes to the limit of fp16.

        Args:
            data: The data folder; ``settings.data.root`` if None.
            checkpoint: Trained weights; those of a new run if None, whose numbers are much smaller.
            batches: How many to look at.

        Returns:
            The strategy, and the ranges: closest to overflow first.
        """
        from ocrsdk.precision_tools.probe import load_weights, ranges
        from ocrsdk.runs.build import build_run

        parts = build_run(check_run(self.settings, _path(data), self._progress))
        if checkpoint is not None:
            load_weights(parts, checkpoint)
        return parts.precision.strategy, ranges(parts, parts.precision.strategy, batches)

    def check(
        self,
        data: Path | str | None = None,
        candidate: str = "fp16-safe",
        *,
        baseline: str = "fp32",
        seeds: int = 3,
        epochs: int = 3,
        margin: float = 1.0,
        out: Path | None = None,
        on_run: Callable[[ArmRun, int, int], object] | None = None,
    ) -> ParityReport:
        """Train with both strategies, the same seeds and the same order of data, and compare.

        Both arms sum up as many batches in an update as the candidate asks for: only the numbers differ.

        Args:
            data: The data folder; ``settings.data.root`` if None.
            candidate: The strategy to judge; ``settings.precision.options`` are its options.
            baseline: What it is compared with.
            seeds: Paired runs; they count up from ``settings.seed``.
            epochs: Of each run.
            margin: Points of hmean (hundredths) that do not matter.
            out: Folder of the report and the runs; ``runs/<date>-precision-<candidate>`` if None.
            on_run: Called after each run with it, its number and the number of all.

        Raises:
            OcrsdkError: The check cannot be made.
        """
        from ocrsdk.precision.certificates import check_folder
        from ocrsdk.precision.device import device_kind
        from ocrsdk.precision.gate import check_arguments, conclude, judge, report_folder
        from ocrsdk.precision_tools.check import paired_runs
        from ocrsdk.runs.precision import binding

        check_arguments(margin, seeds, candidate, baseline)
        if epochs < 1:
            raise SettingsError(f"epochs={epochs}: expected 1 or more", parameter="epochs")
        device = device_kind(self.settings.trainer.accelerator)
        options = self.settings.precision.options
        strategy = make_strategy(candidate, options, device)
        reference = make_strategy(baseline, {}, device)
        for compared in (strategy, reference):
            if compared.delegates:
                raise SettingsError(f"{compared.name} stands for a choice of strategies; compare the strategies themselves")
        asked = self.settings.precision.model_copy(update={"strategy": candidate})
        checked = check_run(self.settings.model_copy(update={"precision": asked}), _path(data), self._progress)
        kept = self.settings.precision.certificates
        check_folder(kept)
        settings = _comparable(checked.public, self.settings.trainer.accumulate or strategy.accumulate, epochs)
        bound = binding(checked, strategy, device)
        folder = report_folder(out or Path("runs") / f"{datetime.now():%Y-%m-%d_%H-%M-%S}-precision-{candidate}")
        runs: list[ArmRun] = []
        arms: Any = {"baseline": (baseline, {}), "candidate": (candidate, checked.public.precision.options)}
        for run in paired_runs(settings, arms, seeds, folder, checked.secrets):
            if run.data != bound.subject["data"]:
                raise DataError(
                    f"{settings.data.root}: changed while the check was under way, so nothing can be compared; run it again"
                )
            runs.append(run)
            if on_run is not None:
                on_run(run, len(runs), 2 * seeds)
        report = judge(
            runs, candidate, baseline, margin, bound, folder, least_score=LEAST_HMEAN, epochs=epochs,
            ranges=[found.as_dict() for found in _ranges_after(checked, strategy, runs)],
        )  # fmt: skip
        return conclude(report, kept if reference.reference else None)

    def certificates(self) -> list[Certificate]:
        """All that there are, the newest first."""
        from ocrsdk.precision.certificates import read_all

        return read_all(self.settings.precision.certificates)

    def replay(self, path: Path, strategy: str | None = None) -> ReplayResult:
        """Run the update again that stopped a training run.

        Args:
            path: The ``nonfinite-step-N.ckpt`` that it left.
            strategy: Another precision strategy; None for the one of the run.
        """
        from ocrsdk.precision.device import device_kind
        from ocrsdk.precision_tools.probe import replay

        return replay(path, strategy, device_kind(self.settings.trainer.accelerator))


def _path(data: Path | str | None) -> Path | None:
    return Path(data) if data is not None else None


def _ranges_after(checked: CheckedRun, strategy: PrecisionStrategy, runs: list[ArmRun]) -> list[ModuleRange]:
    """Those of a trained baseline; hours of training are not lost because a page has gone meanwhile."""
    from ocrsdk.precision_tools.probe import load_weights, ranges
    from ocrsdk.runs.build import build_run

    try:
        parts = build_run(checked, trained=True)
        trained = next((Path(r.folder) for r in runs if r.arm == "baseline" and not r.stopped), None)
        if trained is not None:
            load_weights(parts, trained / "checkpoints" / "best.ckpt")
        return ranges(parts, strategy, 2)
    except (OcrsdkError, OSError) as error:
        get_logger(__name__).warning("the report has no activation ranges", reason=str(error))
        return []


def _comparable(settings: Settings, accumulate: int, epochs: int) -> Settings:
    """One validation at the end, every loss logged, no clock."""
    trainer = {"epochs": epochs, "max_time": None, "validations": 1, "accumulate": accumulate, "overlays": 0}
    logging = {"loggers": ("jsonl",), "every_n_steps": 1, "options": {}}
    return settings.model_copy(
        update={
            "trainer": settings.trainer.model_copy(update=trainer),
            "logging": settings.logging.model_copy(update=logging),
        }
    )
