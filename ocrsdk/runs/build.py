"""From settings to the parts of a run: the one place that reads settings and makes objects of them."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ocrsdk.plugins import manager as plugins
from ocrsdk.errors import CacheEnvironmentError, CacheStoreError, DataError, SettingsError
from ocrsdk.loggers.rows import RECORD

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ocrsdk.cache.store import SampleCache
    from ocrsdk.data.datamodule import DetectionDataModule
    from ocrsdk.data.folder import DataReport, Progress
    from ocrsdk.data.source import SampleSource
    from ocrsdk.data.transforms import EvalTransform, TrainTransform
    from ocrsdk.loggers.base import LoggerFactory, RunInfo
    from ocrsdk.loggers.run_logger import RunLogger
    from ocrsdk.runs.precision import Precision
    from ocrsdk.runs.results import CheckedRun
    from ocrsdk.settings.schema import Settings
    from ocrsdk.training.module import DetectionModule


@dataclass(frozen=True)
class RunParts:
    """Everything that a run is built from; nothing has been written yet."""

    settings: Settings
    module: DetectionModule
    datamodule: DetectionDataModule
    precision: Precision
    accumulate: int
    """Batches summed up in an update."""
    loggers: list[LoggerFactory]
    cache: SampleCache
    device: str
    trainer_kwargs: dict[str, Any]
    """What the precision strategy gives to Lightning's trainer."""
    train_report: DataReport
    val_report: DataReport


def check_run(settings: Settings, data: Path | str | None, progress: Progress | None = None) -> CheckedRun:
    """Check settings, plug-ins, and every image and label.

    Args:
        settings: All settings.
        data: The data folder; ``settings.data.root`` if None.
        progress: Wraps the loop over files.

    Raises:
        OcrsdkError: Something cannot be used.
    """
    from ocrsdk.cache.encoding import check_codec
    from ocrsdk.data.folder import load_annotations
    from ocrsdk.data.workers import choose_workers
    from ocrsdk.runs.results import CheckedRun, Split

    open_cache(settings, "check")
    check_codec(settings.cache.compress, "cache.compress")
    check_codec(settings.cache.compress_maps, "cache.compress_maps")
    if settings.cache.policy == "maps" and not settings.trainer.val_loss:
        raise SettingsError(
            "cache.policy=maps keeps target maps for the validation loss, which is off. "
            "Try: --set trainer.val_loss=true, or --set cache.policy=sample"
        )
    plugins.precision_strategy(settings.precision.strategy)
    logger_factories(settings)
    choose_workers(settings.data.workers)
    if settings.augment.scale_min > settings.augment.scale_max:
        raise SettingsError("augment.scale_min is larger than augment.scale_max; exchange them")
    if settings.targets.thresh_min >= settings.targets.thresh_max:
        raise SettingsError("targets.thresh_min is not smaller than targets.thresh_max; exchange them")
    root = Path(data) if data is not None else settings.data.root
    if root is None:
        raise SettingsError("no data folder given. Try: ocrsdk train DATA")
    settings = settings.model_copy(update={"data": settings.data.model_copy(update={"root": root.absolute()})})  # to go on anywhere
    policies = (settings.data.on_bad_sample, settings.data.outside, settings.data.verify)
    train, val = (Split(*load_annotations(folder, *policies, progress)) for folder in split_folders(root, settings))
    for split in (train, val):
        report_problems(split.report)
    return CheckedRun(settings, train, val)


def build_run(checked: CheckedRun, session: str | None, trained: bool = False) -> RunParts:
    """Build everything, cheap checks first.

    Args:
        checked: From ``check_run``.
        session: Name under which the cache counts; None leaves the cache out.
        trained: All weights will come from a checkpoint, so the backbone's own are not read.
    """
    import torch

    from ocrsdk.precision.certificates import data_fingerprint
    from ocrsdk.data.datamodule import DetectionDataModule
    from ocrsdk.data.dataset import EvalDataset, TrainDataset
    from ocrsdk.data.targets import TargetSpec
    from ocrsdk.data.workers import choose_workers
    from ocrsdk.models.losses import DBLoss
    from ocrsdk.models.checkpoint import make_passport
    from ocrsdk.models.dbnet import DBNet, DBNetConfig
    from ocrsdk.models.postprocess import PostProcessor
    from ocrsdk.runs.precision import choose_precision, trainer_kwargs
    from ocrsdk.training.device import device_kind
    from ocrsdk.training.module import DetectionModule
    from ocrsdk.training.optimizers import OptimizerSpec

    settings = checked.settings
    device = device_kind(settings.trainer.accelerator)
    precision = choose_precision(checked, device)
    loggers = logger_factories(settings)
    cache = open_cache(settings, session or "plan")
    workers = choose_workers(settings.data.workers)

    torch.manual_seed(settings.seed)
    config = DBNetConfig(settings.model.name, settings.model.backbone)
    model = DBNet(config)
    if settings.model.backbone_weights is not None and not trained:
        model.load_backbone(settings.model.backbone_weights)
    kwargs = trainer_kwargs(precision.strategy, device)
    with plugins.blamed("precision strategy", precision.strategy.name):
        precision.strategy.prepare(model)
    page, crop, targets = eval_transform(settings), train_transform(settings), TargetSpec(**settings.targets.model_dump())
    source = sample_source(settings, cache if session is not None else None)
    datamodule = DetectionDataModule(
        TrainDataset(checked.train.annotations, crop, targets, settings.seed, source),
        EvalDataset(checked.val.annotations, page, source, targets if settings.trainer.val_loss else None),
        settings.data.batch_size,
        workers,
        settings.seed,
        pin_memory=device == "cuda",
    )
    postprocessor = PostProcessor(**settings.postprocess.model_dump())
    passport = make_passport(config, asdict(page), asdict(postprocessor), settings.model_dump(mode="json"), precision.strategy.name)
    accumulate = settings.trainer.accumulate or precision.strategy.accumulate
    chosen = precision.strategy.options
    passport |= {
        "data": data_fingerprint(checked.train.annotations, checked.val.annotations),
        "accumulate": accumulate,
        "precision_options": chosen.model_dump(mode="json") if chosen is not None else {},
    }
    optimizer = OptimizerSpec(**settings.optimizer.model_dump())
    module = DetectionModule(model, DBLoss(**settings.loss.model_dump()), postprocessor, optimizer, passport)
    reports = (checked.train.report, checked.val.report)
    return RunParts(settings, module, datamodule, precision, accumulate, loggers, cache, device, kwargs, *reports)


# ----------------------------------------------------------------------- loggers


def logger_factories(settings: Settings) -> list[LoggerFactory]:
    """The loggers that ``settings`` name, with their options checked; the record of truth comes first."""
    given = settings.logging
    for name in given.options.keys() - set(given.loggers):
        raise SettingsError(f"logging.options.{name}: {name!r} is not among logging.loggers ({', '.join(given.loggers)})")
    if "none" in given.loggers and len(set(given.loggers)) > 1:
        raise SettingsError(f"logging.loggers: none goes with no other logger; found {', '.join(given.loggers)}")
    factories = []
    for name in given.loggers if given.loggers == ("none",) else dict.fromkeys((RECORD, *given.loggers)):
        cls = plugins.logger(name)
        options = cls.check_options(given.options.get(name, {}), f"logging.options.{name}")
        with plugins.blamed("logger", name):
            factories.append(cls(options))
    return factories


def build_loggers(factories: list[LoggerFactory], run: RunInfo, states: dict[str, Any]) -> RunLogger | None:
    """The one writer of a run, over all its loggers.

    Args:
        factories: From ``logger_factories``.
        run: The run.
        states: Logger -> what it remembered in the checkpoint.

    Raises:
        OcrsdkError: A logger cannot work as asked.
    """
    from ocrsdk.loggers.rows import FILE_NAME, read_rows
    from ocrsdk.loggers.run_logger import RunLogger

    built: dict[str, Any] = {}
    for factory in factories:
        with plugins.blamed("logger", factory.name):
            logger = factory.build(replace(run, state=states.get(factory.name, {})))
        if logger is not None:
            built[factory.name] = logger
    record = built.get(RECORD)
    if record is None:
        return None
    logger = RunLogger(run.name, built, record.last_row, record.superseded)
    if run.resumed:
        logger.send_missing(read_rows(run.folder / FILE_NAME))
    return logger


# ------------------------------------------------------------------ cache and data


def open_cache(settings: Settings, session: str) -> SampleCache:
    """The cache that ``settings`` describe: the one place where a cache is opened. Nothing is created yet.

    Args:
        settings: All settings: the version depends on more than ``settings.cache``.
        session: Name of the run or command, under which look-ups are counted.

    Raises:
        PluginError: There is no such backend.
        SettingsError: An option is wrong.
    """
    from ocrsdk.cache.base import CacheLocation
    from ocrsdk.cache.stats import Counter
    from ocrsdk.cache.store import SampleCache
    from ocrsdk.cache.keys import fingerprint

    given = settings.cache
    cls = plugins.cache_backend(given.backend)
    options = cls.check_options(given.options, "cache.options")
    involved = {f"cache backend {cls.name}": plugins.installed().distribution("cache backend", cls.name)}
    manifest = given.manifest(settings.data, settings.augment, settings.targets, involved)
    folder = given.dir.expanduser()
    location = CacheLocation(folder, fingerprint(manifest), manifest, int(given.budget))
    with plugins.blamed("cache backend", cls.name):
        backend = cls(location, options)
    counted = folder / cls.name / "stats" / location.version if backend.enabled else None
    return SampleCache(backend, Counter(counted, session))


def eval_transform(settings: Settings) -> EvalTransform:
    """How pages are prepared for evaluation."""
    from ocrsdk.data.transforms import EvalTransform

    return EvalTransform(settings.data.image_size, settings.data.max_side)


def train_transform(settings: Settings) -> TrainTransform:
    """How random crops are made."""
    from ocrsdk.data.transforms import TrainTransform

    augment = settings.augment
    scales = (augment.scale_min, augment.scale_max)
    return TrainTransform(settings.data.crop, scales, augment.rotate, augment.flip, augment.jitter, eval_transform(settings))


def sample_source(settings: Settings, cache: SampleCache | None) -> SampleSource:
    """Where pages and samples come from, as the cache's policy says."""
    from ocrsdk.data.source import SampleSource

    given = settings.cache
    if given.policy == "off":
        return SampleSource()
    return SampleSource(cache, given.policy, given.identity, given.compress, given.compress_maps)


def warm_items(settings: Settings, data: Path, cache: SampleCache) -> tuple[Iterable[Any], int]:
    """What to iterate over, so that everything that training on ``data`` keeps is kept; and how many items."""
    from torch.utils.data import ConcatDataset, DataLoader

    from ocrsdk.data.dataset import EvalDataset, KeptPages, KeptSamples
    from ocrsdk.data.folder import load_annotations
    from ocrsdk.data.targets import TargetSpec
    from ocrsdk.data.workers import choose_workers

    source = sample_source(settings, cache)
    targets = TargetSpec(**settings.targets.model_dump()) if settings.cache.policy == "maps" else None
    given = settings.data
    policies = (given.on_bad_sample, given.outside, verification(settings))
    train, val = (load_annotations(folder, *policies)[0] for folder in split_folders(data, settings))
    pages = KeptPages(train, train_transform(settings).preparation, source)
    samples = KeptSamples(EvalDataset(val, eval_transform(settings), source, targets))
    both: ConcatDataset[int] = ConcatDataset([pages, samples])
    return DataLoader(both, batch_size=None, num_workers=choose_workers(settings.data.workers)), len(both)


def prepare_cache(cache: SampleCache) -> None:
    """Create the cache's place; a store that is damaged, or a full disk, costs the cache and not the run.

    Raises:
        CacheError: The settings can never work.
    """
    try:
        with plugins.blamed("cache backend", cache.backend.name):
            cache.backend.prepare()
    except (CacheStoreError, CacheEnvironmentError) as error:
        from ocrsdk.logs import get_logger

        get_logger(__name__).warning("training goes on without a cache", reason=str(error))
        cache.switch_off()


def verification(settings: Settings) -> Literal["decode", "header"]:
    """How images are checked that are decoded later: where bad samples are skipped, one that cannot be has to be found now."""
    return "decode" if settings.data.on_bad_sample == "skip" else "header"


def split_folders(root: Path, settings: Settings) -> tuple[Path, Path]:
    """The training and the validation folder."""
    if not root.is_dir():
        if root.exists():
            raise DataError(f"{root}: is a file, not a data folder")
        raise DataError(f"{root}: no such folder. To generate one: ocrsdk data synth {shlex.quote(str(root))}")
    folders = (root / settings.data.train, root / settings.data.val)
    for folder, key in zip(folders, ("train", "val"), strict=True):
        if not folder.is_dir():
            flat = " This folder holds pages itself: name it for both with --set data.train=. --set data.val=." * (
                (root / "images").is_dir()
            )
            raise DataError(f"{root}: no {folder.name}/ in it; expected train/ and val/, or set data.{key}.{flat}")
    return folders


def report_problems(report: DataReport) -> None:
    """Log what was skipped or cut, and a folder in which nothing is to be found."""
    from ocrsdk.logs import get_logger

    log = get_logger(__name__)
    if report.unread:
        log.warning(
            "files that are no images were not read",
            folder=str(report.root / "images"),
            files=len(report.unread),
            first=report.unread[0],
        )
    for message in report.skipped:
        log.warning("sample skipped", reason=message)
    if report.instances == report.ignored:
        log.warning(
            "no text that counts in any page", folder=str(report.root), regions=report.instances, of_them_ignored=report.ignored
        )
    if report.outside:
        log.warning("text reaches beyond its page", folder=str(report.root), regions=len(report.outside), first=report.outside[0])
