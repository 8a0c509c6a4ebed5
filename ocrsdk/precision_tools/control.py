"""``Pipeline.precision``: probe, check, replay."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocrsdk.runs.build import RunParts, build_run, check_run
from ocrsdk.errors import CheckpointError, DataError, OcrsdkError, RunFolderError, SettingsError
from ocrsdk.logs import get_logger
from ocrsdk.runs.precision import binding, precision_strategy, trainer_kwargs

if TYPE_CHECKING:
    from collections.abc import Callable

    from ocrsdk.precision.certificates import Certificate
    from ocrsdk.data.folder import Progress
    from ocrsdk.precision.base import PrecisionStrategy
    from ocrsdk.precision_tools.check import ArmRun, ParityReport
    from ocrsdk.runs.results import CheckedRun
    from ocrsdk.settings.schema import Settings
    from ocrsdk.training.numerics import Context, ModuleRange
    from ocrsdk.types import Batch


@dataclass(frozen=True)
class ReplayResult:
    """What a replayed update did."""

    strategy: str
    message: str
    """Why the run stopped."""
    step: int
    names: list[list[str]]
    """Image files of each batch."""
    where: str
    """Where NaN or infinity first appears now."""


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
        parts = build_run(check_run(self.settings, data, self._progress), session=None)
        if checkpoint is not None:
            _load_weights(parts, checkpoint)
        return parts.precision.strategy, _ranges(parts, parts.precision.strategy, batches)

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
        on_run: Callable[[ArmRun, int, int], Any] | None = None,
    ) -> ParityReport:
        """Train with both strategies, the same seeds and the same order of data, and compare.

        Both arms sum up as many batches in an update as the candidate asks for: only the numbers differ.

        Args:
            data: The data folder; ``settings.data.root`` if None.
            candidate: The strategy to judge; ``settings.precision.options`` are its options.
            baseline: What it is compared with.
            seeds: Paired runs; they count up from ``settings.seed``.
            epochs: Of each run.
            margin: Points of hmean that do not matter.
            out: Folder of the report and the runs; ``runs/<date>-precision-<candidate>`` if None.
            on_run: Called after each run with it, its number and the number of all.

        Raises:
            OcrsdkError: The check cannot be made.
        """
        from ocrsdk.precision import certificates
        from ocrsdk.precision.equivalence import MOST_MARGIN
        from ocrsdk.precision_tools.check import ParityReport, certify, judge, paired_runs, ratios, write_report
        from ocrsdk.training.device import device_kind

        if not 0 < margin <= MOST_MARGIN:
            raise SettingsError(f"--margin {margin:g}: expected more than 0 and at most {MOST_MARGIN:g} points of hmean")
        for option, count in (("--seeds", seeds), ("--epochs", epochs)):
            if count < 1:
                raise SettingsError(f"{option} {count}: expected 1 or more")
        device = device_kind(self.settings.trainer.accelerator)
        options = self.settings.precision.options
        strategy = precision_strategy(candidate, options, device)
        reference = precision_strategy(baseline, {}, device)
        if candidate == baseline:
            raise SettingsError(f"--candidate and --baseline are both {candidate}; a strategy proves nothing against itself")
        for compared in (strategy, reference):
            if compared.delegates:
                raise SettingsError(f"{compared.name} stands for a choice of strategies; compare the strategies themselves")
        asked = self.settings.precision.model_copy(update={"strategy": candidate})
        checked = check_run(self.settings.model_copy(update={"precision": asked}), data, self._progress)
        folder_of_proofs = self.settings.precision.certificates.expanduser()
        certificates.check_folder(folder_of_proofs)
        settings = _comparable(checked.settings, self.settings.trainer.accumulate or strategy.accumulate, epochs)
        bound = binding(checked, strategy, device)
        folder = _report_folder(out, candidate)
        runs: list[ArmRun] = []
        for run in paired_runs(settings, {"baseline": (baseline, {}), "candidate": (candidate, options)}, seeds, folder):
            if run.data != bound.data:
                raise DataError(
                    f"{settings.data.root}: changed while the check was under way, so nothing can be compared; run it again"
                )
            runs.append(run)
            if on_run is not None:
                on_run(run, len(runs), 2 * seeds)
        verdict = judge(runs, margin)
        speedup, memory_ratio = ratios(runs)
        report = ParityReport(
            verdict.outcome, verdict.reason, candidate, baseline, margin, epochs, verdict.difference, verdict.low, verdict.high,
            speedup, memory_ratio, bound, runs, _ranges_after(checked, strategy, runs), folder,
        )  # fmt: skip
        try:
            if reference.reference:
                report = replace(report, certificate=certify(report, folder_of_proofs))
        finally:
            write_report(report)
        return report

    def certificates(self) -> list[Certificate]:
        """All that there are, the newest first."""
        from ocrsdk.precision.certificates import read_all

        return read_all(self.settings.precision.certificates.expanduser())

    def replay(self, path: Path, strategy: str | None = None) -> ReplayResult:
        """Run the update again that stopped a training run.

        Args:
            path: The ``nonfinite-step-N.ckpt`` that it left.
            strategy: Another precision strategy; None for the one of the run.
        """
        from ocrsdk.models.losses import DBLoss
        from ocrsdk.models.dbnet import DBNet, DBNetConfig
        from ocrsdk.training.device import device_kind, fp32_products
        from ocrsdk.training.numerics import explain_nonfinite
        from ocrsdk.training.replay import read_replay

        found = read_replay(path)
        device = device_kind(self.settings.trainer.accelerator)
        name = strategy or found.passport["precision"]
        options = found.passport["precision_options"] if name == found.passport["precision"] else {}
        precision = precision_strategy(name, options, device)
        model = DBNet(DBNetConfig(**found.passport["model"]))
        try:
            model.load_state_dict(found.state)
        except RuntimeError as error:
            raise CheckpointError(f"{path}: its weights do not fit the model {found.passport['model']}") from error
        precision.prepare(model)
        model.train().to(device).lay_out(device)
        batches = [batch.to(device) for batch in found.batches]
        context, scale = _numbers(precision, device)
        if name == found.passport["precision"]:
            scale = found.scale
        with fp32_products(precision.tf32):
            where = explain_nonfinite(model, DBLoss(**found.passport["settings"]["loss"]), batches, context, scale)
        return ReplayResult(name, found.message, found.step, found.names, where)


def _report_folder(out: Path | None, candidate: str) -> Path:
    folder = out or Path("runs") / f"{datetime.now():%Y-%m-%d_%H-%M-%S}-precision-{candidate}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"{folder}: cannot be created ({error.strerror}); choose another with --out") from error
    if any(folder.iterdir()):
        raise RunFolderError(f"{folder}: is not empty; choose another with --out")
    return folder


def _ranges_after(checked: CheckedRun, strategy: PrecisionStrategy, runs: list[ArmRun]) -> list[ModuleRange]:
    """Those of a trained baseline; hours of training are not lost because a page has gone meanwhile."""
    try:
        parts = build_run(checked, session=None, trained=True)
        trained = next((Path(r.folder) for r in runs if r.arm == "baseline" and not r.stopped), None)
        if trained is not None:
            _load_weights(parts, trained / "checkpoints" / "best.ckpt")
        return _ranges(parts, strategy, 2)
    except (OcrsdkError, OSError) as error:
        get_logger(__name__).warning("activation ranges are left out of the report", reason=str(error))
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


def _load_weights(parts: RunParts, checkpoint: Path) -> None:
    from ocrsdk.models.checkpoint import load_checkpoint

    model, loaded = parts.module.model, load_checkpoint(checkpoint).model
    found, asked = loaded.config.as_dict(), model.config.as_dict()
    if found != asked:
        raise CheckpointError(f"{checkpoint}: a checkpoint of {found}, but the settings ask for {asked}")
    model.load_state_dict(loaded.state_dict())


def _ranges(parts: RunParts, strategy: PrecisionStrategy, count: int) -> list[ModuleRange]:
    from itertools import islice

    from ocrsdk.training.device import fp32_products
    from ocrsdk.training.numerics import module_ranges

    model = parts.module.model.train().to(parts.device).lay_out(parts.device)
    batches: list[Batch] = [batch.to(parts.device) for batch in islice(parts.datamodule.train_dataloader(), count)]
    context, _ = _numbers(strategy, parts.device)
    with fp32_products(strategy.tf32):
        return sorted(module_ranges(model, parts.module.loss, batches, context), key=lambda r: r.headroom)


def _numbers(strategy: PrecisionStrategy, device: str) -> tuple[Context, float]:
    """The autocast region and the loss scale, as Lightning would use them."""
    from ocrsdk.training.trainer import quiet_trainer

    plugin = quiet_trainer(device, trainer_kwargs(strategy, device)).precision_plugin
    return plugin.forward_context, float(getattr(plugin, "scale", 1.0))
