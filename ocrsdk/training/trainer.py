"""Settings to a Lightning trainer and its parts."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytorch_lightning import Callback, Trainer

from ocrsdk.data.workers import available_cpus
from ocrsdk.training.callbacks.cache import CacheMonitor
from ocrsdk.training.callbacks.checkpoints import BestAndLast
from ocrsdk.training.callbacks.guard import NumericGuard
from ocrsdk.training.callbacks.limits import RunLimits
from ocrsdk.training.callbacks.overlays import Overlays
from ocrsdk.training.callbacks.pictures import Pictures
from ocrsdk.training.callbacks.progress import TrainingProgress
from ocrsdk.training.callbacks.random_state import RandomState
from ocrsdk.training.callbacks.resources import Resources
from ocrsdk.training.callbacks.rows import Rows
from ocrsdk.training.checkpoint import AtomicCheckpointIO
from ocrsdk.training.device import device_kind
from ocrsdk.training.profile import PhaseProfiler, Profile
from ocrsdk.training.signals import StopSignals

if TYPE_CHECKING:
    from pathlib import Path

    from ocrsdk.cache.store import SampleCache
    from ocrsdk.data.datamodule import DetectionDataModule
    from ocrsdk.loggers.run_logger import RunLogger
    from ocrsdk.settings.schema import Settings


@dataclass(frozen=True)
class TrainerParts:
    """A trainer, and the callbacks that the pipeline talks to."""

    trainer: Trainer
    limits: RunLimits
    checkpoints: BestAndLast
    signals: StopSignals
    resources: Resources
    profile: Profile | None


def build_trainer(
    settings: Settings,
    run_dir: Path,
    accumulate: int,
    precision_kwargs: dict[str, Any],
    logger: RunLogger | None,
    datamodule: DetectionDataModule,
    cache: SampleCache,
) -> TrainerParts:
    """A trainer that writes into ``run_dir`` only, and sums up ``accumulate`` batches in an update."""
    max_time = settings.trainer.max_time
    limits = RunLimits(max_time.total_seconds() if max_time else None, settings.trainer.validations)
    checkpoints = BestAndLast(run_dir / "checkpoints", settings.trainer.save_every.total_seconds(), limits)
    signals = StopSignals(limits.request_stop)
    device = device_kind(settings.trainer.accelerator)
    resources = Resources(device)
    callbacks: list[Callback] = [
        NumericGuard(run_dir), signals, limits, RandomState(), checkpoints, resources,
    ]  # fmt: skip
    if settings.trainer.overlays:
        callbacks.append(Overlays(run_dir / "overlays", datamodule.val.annotations, checkpoints, settings.trainer.overlays))
    if logger is not None and settings.logging.images:
        callbacks.append(Pictures(datamodule.val.annotations, settings.logging.images))
    if cache.enabled:
        callbacks.append(CacheMonitor(cache))
    callbacks.append(TrainingProgress(limits))
    profile = None
    if settings.trainer.profile:
        profiler = PhaseProfiler(wait_for_gpu=device == "cuda")
        profile = Profile(profiler, datamodule.train, cache, datamodule.workers, available_cpus(), device)
        callbacks.append(profile)
    callbacks.append(Rows(limits))
    precision = dict(precision_kwargs)
    plugins = [AtomicCheckpointIO(), *precision.pop("plugins", [])]
    trainer = Trainer(
        accelerator=device,
        devices=1,
        max_epochs=settings.trainer.epochs,
        min_epochs=0,
        accumulate_grad_batches=accumulate,
        logger=logger or False,
        callbacks=callbacks,
        plugins=plugins,
        default_root_dir=run_dir,
        profiler=profile.profiler if profile is not None else None,
        log_every_n_steps=settings.logging.every_n_steps,
        num_sanity_val_steps=0,
        enable_checkpointing=True,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **precision,
    )
    return TrainerParts(trainer, limits, checkpoints, signals, resources, profile)


def quiet_trainer(device: str, precision_kwargs: dict[str, Any], **more: Any) -> Trainer:
    """A trainer that writes and shows nothing, on one device.

    Args:
        device: Accelerator.
        precision_kwargs: What the precision strategy gives.
        more: Further arguments of Lightning's trainer.
    """
    return Trainer(
        accelerator=device,
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **precision_kwargs,
        **more,
    )


class OneStep(Callback):
    """Times the first step of a dry run."""

    def __init__(self) -> None:
        self.loss = float("nan")
        self.seconds = 0.0
        self._started = 0.0

    def on_train_batch_start(self, *_args: Any) -> None:
        """The batch is there."""
        self._started = time.monotonic()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, *_args: Any) -> None:
        """The step is done."""
        self.seconds, self.loss = time.monotonic() - self._started, float(outputs["loss"])
