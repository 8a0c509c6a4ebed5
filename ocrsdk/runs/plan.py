"""What a run would do, after one real step; nothing is written."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from ocrsdk.data.dataset import Share
from ocrsdk.precision.device import tf32_allowed
from ocrsdk.runs.build import build_data, build_run
from ocrsdk.runs.check import FolderData
from ocrsdk.runs.precision import tell_precision
from ocrsdk.runs.results import Plan, SourcePlan
from ocrsdk.runs.resume import draws_of
from ocrsdk.training.callbacks.guard import DetectionGuard
from ocrsdk.training.memory import peak_memory, reset_peak_memory
from ocrsdk.training.module import DetectionModule
from ocrsdk.training.trainer import OneStep, quiet_trainer
from ocrsdk.training.values import RunValues

if TYPE_CHECKING:
    from ocrsdk.runs.check import CheckedRun


def plan(checked: CheckedRun) -> Plan:
    """Build everything, make one real step, and say what ``fit`` would do.

    Raises:
        OcrsdkError: Something cannot be used.
    """
    parts = build_run(checked)
    tell_precision(parts.precision, None)
    settings, strategy, guard, one = parts.settings, parts.precision.strategy, DetectionGuard(None), OneStep()
    datamodule = build_data(parts, None)
    module = DetectionModule(
        parts.model, parts.loss, parts.postprocessor, settings.optimizer, lambda: 0.0, guard, RunValues(), parts.metadata
    )
    reset_peak_memory(parts.device)
    trainer = quiet_trainer(
        parts.device, parts.trainer_kwargs, max_steps=1, limit_val_batches=0, callbacks=[guard, one],
        accumulate_grad_batches=1,
    )  # fmt: skip
    with warnings.catch_warnings(), tf32_allowed(strategy.tf32):
        warnings.filterwarnings("ignore", ".*does not have many workers.*")
        trainer.fit(module, datamodule)
    data = checked.data
    batches = -(-draws_of(data) // datamodule.batch_size)
    steps_per_epoch = -(-batches // parts.accumulate)
    reports = [*data.train.reports, *data.val.reports] if isinstance(data, FolderData) else []
    return Plan(
        model=f"{settings.model.name} on {settings.model.backbone}",
        parameters=sum(p.numel() for p in parts.model.parameters()),
        train_pages=len(datamodule.train),  # type: ignore[arg-type]
        train_regions=sum(report.instances for report in data.train.reports) if isinstance(data, FolderData) else None,
        sources=_sources(data) if isinstance(data, FolderData) and len(data.train.sources) > 1 else [],
        val_pages=len(datamodule.val),  # type: ignore[arg-type]
        batch_size=datamodule.batch_size,
        steps_per_epoch=steps_per_epoch,
        steps=steps_per_epoch * settings.trainer.epochs,
        device=parts.device,
        precision=strategy.name,
        cache=checked.cache.backend.name,
        cache_version=checked.cache.backend.location.version,
        loggers=[logger.name for logger in checked.loggers],
        loss=one.loss,
        step_seconds=one.seconds,
        peak_memory_bytes=peak_memory(parts.device),
        skipped=[message for report in reports for message in report.skipped],
    )


def _sources(data: FolderData) -> list[SourcePlan]:
    found = []
    for pages, report, weight in data.train.sources:
        drawn = Share(len(pages), weight).drawn
        found.append(SourcePlan(str(report.root), report.images, report.instances, weight, drawn))
    return found
