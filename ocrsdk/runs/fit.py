"""A training run from its checked settings to its result."""

from __future__ import annotations

import shlex
import time
import uuid
import warnings
from contextlib import ExitStack
from typing import TYPE_CHECKING

from ocrsdk.cache.make import prepare
from ocrsdk.errors import NonFiniteError
from ocrsdk.loggers.base import RunInfo
from ocrsdk.logs import bind
from ocrsdk.precision.device import device_name, tf32_allowed
from ocrsdk.runs import folder as run_folder
from ocrsdk.runs import resume
from ocrsdk.runs.build import build_run, build_training
from ocrsdk.runs.environment import describe
from ocrsdk.runs.precision import tell_precision
from ocrsdk.runs.results import FitResult
from ocrsdk.training.loader_errors import loader_error
from ocrsdk.training.memory import keep_freed_memory
from ocrsdk.training.signals import StoppedWaitingError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from pytorch_lightning import Callback

    from ocrsdk.runs.build import RunParts, Training
    from ocrsdk.runs.check import CheckedRun
    from ocrsdk.runs.resume import ResumableRun
    from ocrsdk.settings.sources import Layers


def fit(
    checked: CheckedRun,
    *,
    resumed_folder: Path | None = None,
    allow_precision_change: bool = False,
    layers: Layers | None = None,
    callbacks: Sequence[Callback] = (),
    loggers: Mapping[str, object] | None = None,
) -> FitResult:
    """Train.

    Args:
        checked: From ``check_run``.
        resumed_folder: Resume the run in this folder; None starts a new one.
        allow_precision_change: Resume although the run was started under another precision strategy.
        layers: Where each setting came from, for the run folder.
        callbacks: Further callbacks of the trainer.
        loggers: Further loggers by name, built already.

    Raises:
        OcrsdkError: Something cannot be used, or training cannot go on.
    """
    settings = checked.settings
    with ExitStack() as stack:
        resumed = None
        if resumed_folder is not None:
            folder = resumed_folder
            run_folder.last_checkpoint(folder)
            stack.enter_context(run_folder.locked(folder))  # before its checkpoint is read: another process may still write it
            resumed = resume.resumable_run(folder, settings)
        parts = build_run(checked, trained=resumed is not None)
        if resumed is not None:
            resume.check(parts, resumed, folder, allow_precision_change)
        else:
            folder = run_folder.create_new(settings)
            stack.enter_context(run_folder.locked(folder))
        tell_precision(parts.precision, folder / run_folder.SETTINGS_FILE)
        run_folder.write_settings(folder, checked.public, layers, sorted(checked.secrets))
        result = _train(parts, folder, resumed, callbacks, loggers)
        run_folder.write_result(folder, result.as_dict())
    return result


def _train(
    parts: RunParts,
    folder: Path,
    resumed: ResumableRun | None,
    callbacks: Sequence[Callback],
    loggers: Mapping[str, object] | None,
) -> FitResult:
    checked, settings = parts.checked, parts.settings
    run_id = resumed.metadata["run_id"] if resumed is not None else uuid.uuid4().hex[:8]
    cache = checked.cache.for_session(folder.resolve().name)
    environment = _environment(parts)
    if parts.device == "cpu":
        keep_freed_memory()
    prepare(cache)
    info = RunInfo(folder, settings.name, checked.public.model_dump(mode="json"), resumed is not None, run_id, environment)
    states = resumed.loggers if resumed is not None else {}
    training = build_training(parts, folder, info, states, cache, callbacks, loggers)
    run_folder.write_start(folder, run_id, environment)
    (folder / run_folder.RESULT_FILE).unlink(missing_ok=True)
    bind(run=folder.name, rank=training.trainer.global_rank)
    start = time.monotonic()
    try:
        with warnings.catch_warnings(), tf32_allowed(parts.precision.strategy.tf32), training.signals:
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            warnings.filterwarnings("ignore", ".*dataloader is not resumable.*")  # ours is: see DetectionDataModule
            warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")
            checkpoint = resumed.path if resumed is not None else None
            training.trainer.fit(training.module, training.datamodule, ckpt_path=checkpoint, weights_only=True)
    except StoppedWaitingError:
        training.datamodule.kill_workers()
    except BaseException as error:
        shown = loader_error(error, training.datamodule.watches)
        training.datamodule.kill_workers()  # Python would wait for them at its end, and they may wait for each other
        if shown is None:
            raise
        raise shown from error
    finally:
        training.datamodule.wake_workers()
        cache.close()
    return _result(parts, training, folder, resumed, time.monotonic() - start)


def _result(parts: RunParts, training: Training, folder: Path, resumed: ResumableRun | None, seconds: float) -> FitResult:
    trainer, module, signal = training.trainer, training.module, training.signals.received
    before = resumed.step if resumed is not None else 0
    if module.attempted_steps == before and signal is None:
        raise resume.limits_reached(folder, before)
    if not trainer.global_step and signal is None:
        raise NonFiniteError(
            f"0 steps were made: all {training.guard.skipped_steps} updates were skipped, because gradients were not finite. "
            f"To see why: ocrsdk precision probe --config {shlex.quote(str(folder / run_folder.SETTINGS_FILE))}"
        )
    checkpoints, strategy = training.checkpoints, parts.precision.strategy
    report = training.profile.report if training.profile is not None else None
    best = checkpoints.best_path if checkpoints.best_path.exists() else None
    return FitResult(
        run_dir=folder,
        status="stopped" if signal else "finished",
        epochs=trainer.current_epoch,
        steps=trainer.global_step,
        seconds=seconds,
        best_hmean=checkpoints.best_hmean if best is not None and checkpoints.best_hmean >= 0 else None,
        score=module.score,
        best_checkpoint=best,
        last_checkpoint=checkpoints.last_path,
        overlays=folder / "overlays" if (folder / "overlays").is_dir() else None,
        precision=strategy.name,
        validated=strategy.reference or parts.precision.certificate is not None,
        skipped_steps=training.guard.skipped_steps,
        images_per_second=training.resources.images_per_second,
        peak_memory_bytes=training.resources.peak_memory_bytes,
        profile=report.as_dict() if report is not None else None,
        logger_problems=dict(training.logger.problems) if training.logger is not None else {},
        signal=signal.name if signal else None,
    )


def _environment(parts: RunParts) -> dict[str, object]:
    """What the run computes on, for the run folder and the loggers."""
    precision, backend = parts.precision, parts.checked.cache.backend
    return {
        **describe(),
        "device": device_name(parts.device),
        "cache": {"backend": backend.name, "version": backend.location.version},
        "precision": {
            "strategy": precision.strategy.name,
            "certificate": precision.certificate.summary() if precision.certificate is not None else None,
        },
    }
