"""From a checked run to its parts: the one place that reads settings and makes objects of them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import Callback, Trainer

from ocrsdk.data.datamodule import DetectionDataModule
from ocrsdk.data.dataset import EvalDataset, Share, TrainDataset, annotations_of
from ocrsdk.data.folder import data_fingerprint
from ocrsdk.data.source import SampleSource
from ocrsdk.data.transforms import EvalTransform, TrainTransform
from ocrsdk.data.workers import available_cpus, choose_workers
from ocrsdk.fingerprint import fingerprint
from ocrsdk.loggers.make import build_run_logger
from ocrsdk.models.checkpoint import make_metadata
from ocrsdk.models.dbnet import DBNet
from ocrsdk.models.losses import DBLoss
from ocrsdk.models.postprocess import PostProcessor
from ocrsdk.plugins.manager import call
from ocrsdk.precision.device import device_kind
from ocrsdk.precision.make import trainer_kwargs
from ocrsdk.runs.check import FolderData
from ocrsdk.runs.precision import choose_precision
from ocrsdk.training.callbacks.cache import CacheMonitor
from ocrsdk.training.callbacks.checkpoints import BestAndLast
from ocrsdk.training.callbacks.guard import DetectionGuard, DetectionMonitor
from ocrsdk.training.callbacks.limits import RunLimits
from ocrsdk.training.callbacks.overlays import Overlays
from ocrsdk.training.callbacks.pictures import Pictures
from ocrsdk.training.callbacks.progress import TrainingProgress
from ocrsdk.training.callbacks.random_state import RandomState
from ocrsdk.training.callbacks.resources import Resources
from ocrsdk.training.callbacks.rows import Rows
from ocrsdk.training.checkpoint import AtomicCheckpointIO
from ocrsdk.training.module import DetectionModule
from ocrsdk.training.profile import PhaseProfiler, Profile
from ocrsdk.training.signals import StopSignals
from ocrsdk.training.values import RunValues

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from ocrsdk.cache.store import SampleCache
    from ocrsdk.loggers.base import RunInfo
    from ocrsdk.loggers.run_logger import RunLogger
    from ocrsdk.runs.check import CheckedRun, TrainingData
    from ocrsdk.runs.precision import Precision
    from ocrsdk.settings.schema import Settings


@dataclass(frozen=True)
class RunParts:
    """What can be built of a run before it has a folder."""

    checked: CheckedRun
    model: DBNet
    loss: DBLoss
    postprocessor: PostProcessor
    precision: Precision
    accumulate: int
    """Batches summed up in an update."""
    device: str
    trainer_kwargs: dict[str, Any]
    """What the precision strategy gives to Lightning's trainer."""
    metadata: dict[str, Any]
    """What every checkpoint says of the run: settings, data, precision, versions."""

    @property
    def settings(self) -> Settings:
        """Those of the run."""
        return self.checked.settings


@dataclass(frozen=True)
class Training:
    """A trainer, what it trains, and the callbacks that are asked afterwards."""

    trainer: Trainer
    module: DetectionModule
    datamodule: DetectionDataModule
    logger: RunLogger | None
    guard: DetectionGuard
    checkpoints: BestAndLast
    signals: StopSignals
    resources: Resources
    profile: Profile | None


def build_run(checked: CheckedRun, trained: bool = False) -> RunParts:
    """Build everything that needs no folder, cheap checks first. Nothing is written.

    Args:
        checked: From ``check_run``.
        trained: All weights will come from a checkpoint, so the backbone's own are not read.

    Raises:
        OcrsdkError: Something cannot be used.
    """
    settings = checked.settings
    device = device_kind(settings.trainer.accelerator)
    precision = choose_precision(checked, device)
    torch.manual_seed(settings.seed)
    model = DBNet(settings.model.backbone, settings.model.name)
    if settings.model.backbone_weights is not None and not trained:
        model.load_backbone(settings.model.backbone_weights)
    kwargs = trainer_kwargs(precision.strategy, device)
    call(precision.strategy.prepare, model)
    accumulate = settings.trainer.accumulate or precision.strategy.accumulate
    chosen = precision.strategy.options
    metadata = make_metadata(
        model, asdict(eval_transform(settings)), settings.postprocess.model_dump(mode="json"),
        checked.public.model_dump(mode="json"), precision.strategy.name,
        data=fingerprint_of(checked.data), accumulate=accumulate, batch_size=_batch_size(checked), secrets=sorted(checked.secrets),
        precision_options=chosen.model_dump(mode="json") if chosen is not None else {},
    )  # fmt: skip
    loss, postprocessor = DBLoss(settings.loss), PostProcessor(settings.postprocess)
    return RunParts(checked, model, loss, postprocessor, precision, accumulate, device, kwargs, metadata)


def fingerprint_of(data: TrainingData) -> str:
    """16 hex digits that change with any page or label, where the data tell what they hold."""
    if isinstance(data, FolderData):
        sources = (*data.train.sources, *data.val.sources)
        if len(sources) == 2 and all(source.weight == 1 for source in sources):
            return data_fingerprint(data.train.annotations, data.val.annotations)
        of_pages = data_fingerprint(*(source.pages for source in sources))  # their order is that of the samples
        return fingerprint({"pages": of_pages, "weights": [source.weight for source in data.train.sources]})
    pages = [annotations_of(data.train), annotations_of(data.val)]
    if pages[0] is not None and pages[1] is not None:
        return data_fingerprint(pages[0], pages[1])
    datasets = (data.train, data.val)
    return fingerprint({"datasets": [[type(d).__qualname__, len(d)] for d in datasets]})  # type: ignore[arg-type]


def _batch_size(checked: CheckedRun) -> int:
    data = checked.data
    module = data.module if not isinstance(data, FolderData) else None
    return module.batch_size if module is not None else checked.settings.data.batch_size


def build_data(parts: RunParts, cache: SampleCache | None) -> DetectionDataModule:
    """What serves the samples.

    Args:
        parts: From ``build_run``.
        cache: Where prepared pages are kept; None keeps nothing.
    """
    settings, data = parts.settings, parts.checked.data
    if not isinstance(data, FolderData) and data.module is not None:
        return data.module
    if isinstance(data, FolderData):
        source = sample_source(settings, cache)
        validated = settings.targets if settings.trainer.val_loss else None
        train = TrainDataset(data.train.annotations, train_transform(settings), settings.targets, settings.seed, source)
        val = EvalDataset(data.val.annotations, eval_transform(settings), source, validated)
    else:
        train, val = data.train, data.val  # type: ignore[assignment]
    workers, pin = choose_workers(settings.data.workers), parts.device == "cuda"
    shares = [Share(*share) for share in data.train.shares] if isinstance(data, FolderData) else None
    return DetectionDataModule(train, val, settings.data.batch_size, workers, settings.seed, pin_memory=pin, shares=shares)


def build_training(
    parts: RunParts,
    folder: Path,
    info: RunInfo,
    states: Mapping[str, object],
    cache: SampleCache,
    callbacks: Sequence[Callback] = (),
    loggers: Mapping[str, object] | None = None,
) -> Training:
    """A trainer that writes into ``folder`` only, and everything that it works with.

    Args:
        parts: From ``build_run``.
        folder: The run folder.
        info: For the loggers.
        states: Logger -> what it remembered in the checkpoint.
        cache: Counted under the run's name.
        callbacks: Further ones, called after those that the run itself needs.
        loggers: Further loggers, built already.

    Raises:
        OcrsdkError: A logger cannot work as asked.
    """
    settings, device = parts.settings, parts.device
    given, max_time = settings.trainer, settings.trainer.max_time
    datamodule, values = build_data(parts, cache), RunValues()
    guard = DetectionGuard(folder)
    limits = RunLimits(max_time.total_seconds() if max_time else None, given.validations)
    module = DetectionModule(
        parts.model, parts.loss, parts.postprocessor, settings.optimizer, limits.progress, guard, values,
        {**parts.metadata, "run_id": info.run_id},
    )  # fmt: skip
    rows = Rows(limits, values)
    logger = build_run_logger(
        parts.checked.loggers, info, states, columns=rows.columns, patience=settings.logging.patience.total_seconds(), more=loggers
    )
    signals = StopSignals(
        [limits.request_stop, datamodule.wake_workers, *([logger.hurry] if logger is not None else [])], datamodule.waited
    )
    checkpoints = BestAndLast(folder / "checkpoints", given.save_every.total_seconds(), limits)
    resources = Resources(device, values)
    used: list[Callback] = [
        guard, DetectionMonitor(guard, values), signals, limits, RandomState(), checkpoints, resources,
    ]  # fmt: skip
    if given.overlays:
        used.append(Overlays(folder / "overlays", checkpoints, given.overlays))
    if logger is not None and settings.logging.images:
        used.append(Pictures(settings.logging.images))
    if cache.enabled:
        used.append(CacheMonitor(cache, values))
    used.append(TrainingProgress(limits))
    profile = None
    if given.profile:
        profiler = PhaseProfiler(wait_for_gpu=device == "cuda")
        profile = Profile(profiler, datamodule.train, cache, datamodule.workers, available_cpus(), device, values)
        used.append(profile)
    precision = dict(parts.trainer_kwargs)
    plugins = [AtomicCheckpointIO(), *precision.pop("plugins", [])]
    trainer = Trainer(
        accelerator=device,
        devices=1,
        max_epochs=given.epochs,
        min_epochs=0,
        accumulate_grad_batches=parts.accumulate,
        logger=logger or False,
        callbacks=[*used, *callbacks, rows],
        plugins=plugins,
        default_root_dir=folder,
        profiler=profile.profiler if profile is not None else None,
        log_every_n_steps=settings.logging.every_n_steps,
        num_sanity_val_steps=0,
        enable_checkpointing=True,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **precision,
    )
    return Training(trainer, module, datamodule, logger, guard, checkpoints, signals, resources, profile)


def eval_transform(settings: Settings) -> EvalTransform:
    """How pages are prepared for evaluation."""
    return EvalTransform(settings.data.short_side, settings.data.max_side)


def train_transform(settings: Settings) -> TrainTransform:
    """How random crops are made."""
    return TrainTransform(settings.data.crop, settings.augment, eval_transform(settings))


def sample_source(settings: Settings, cache: SampleCache | None) -> SampleSource:
    """Where pages and samples come from, as the cache's policy says."""
    given = settings.cache
    if given.policy == "off":
        return SampleSource()
    return SampleSource(cache, given.policy, given.identity, given.compress, given.compress_maps)
