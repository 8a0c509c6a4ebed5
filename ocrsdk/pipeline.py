"""``Pipeline``: the only place where all parts meet."""

from __future__ import annotations

import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocrsdk import plugins, run_folder
from ocrsdk.errors import CacheEnvironmentError, CacheStoreError, CheckpointError, DataError, SettingsError, TrainingError
from ocrsdk.results import EvaluationResult, FitResult, Plan
from ocrsdk.settings import LoggingSettings, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ocrsdk.cache.store import SampleCache
    from ocrsdk.cache_control import CacheControl
    from ocrsdk.data.datamodule import DetectionDataModule
    from ocrsdk.data.folder import DataReport, Progress
    from ocrsdk.data.source import SampleSource
    from ocrsdk.data.transforms import EvalTransform, TrainTransform
    from ocrsdk.inference import Detector
    from ocrsdk.loggers.base import LoggerFactory
    from ocrsdk.precision.base import PrecisionStrategy
    from ocrsdk.settings_sources import Layers
    from ocrsdk.training.module import DetectionModule
    from ocrsdk.types import Annotation, PageDetections

    _Loaded = tuple[list[Annotation], DataReport]


@dataclass(frozen=True)
class _Parts:
    """Everything that a run is built from; nothing has been written yet."""

    module: DetectionModule
    datamodule: DetectionDataModule
    strategy: PrecisionStrategy
    loggers: list[LoggerFactory]
    cache: SampleCache
    device: str
    train_report: DataReport
    val_report: DataReport


class Pipeline:
    """Train, evaluate and run a text detector.

    >>> from ocrsdk import Pipeline, Settings
    >>> pipeline = Pipeline(Settings(trainer={"max_time": "10m"}))  # doctest: +SKIP
    >>> result = pipeline.fit("receipts")  # doctest: +SKIP
    >>> pages = pipeline.predict(["scan.jpg"])  # doctest: +SKIP

    Args:
        settings: All settings; the defaults if None. The environment and files are read by ``Settings.load`` only.
        progress: Wraps long loops over files, for a progress bar: ``progress(paths, total)``.
        layers: Where each setting came from, to be written into the run folder.
    """

    def __init__(self, settings: Settings | None = None, *, progress: Progress | None = None, layers: Layers | None = None) -> None:
        self.settings = settings or Settings()
        self._progress, self._layers = progress, layers
        self._detector: Detector | None = None
        self._checked: tuple[_Loaded, _Loaded] | None = None

    @classmethod
    def from_checkpoint(
        cls, path: Path | str, postprocess: dict[str, Any] | None = None, *, progress: Progress | None = None
    ) -> Pipeline:
        """A pipeline that evaluates and predicts with trained weights.

        Args:
            path: A checkpoint file, for instance ``runs/.../checkpoints/best.ckpt``.
            postprocess: Values that replace the checkpoint's, by name (``{"unclip_ratio": 2.0}``).
            progress: As for the constructor.

        Raises:
            CheckpointError: The file is missing, damaged, unsafe, or of another architecture.
        """
        from ocrsdk.inference import Detector
        from ocrsdk.training.trainer import device_kind

        pipeline = cls(progress=progress)
        pipeline._detector = Detector.load(path, device_kind("auto"), postprocess)
        return pipeline

    @property
    def cache(self) -> CacheControl:
        """The cache of these settings: its health, status, and what can be done to it."""
        from ocrsdk.cache_control import CacheControl

        return CacheControl(self.settings, self._progress)

    # ---------------------------------------------------------------- training

    def fit(self, data: Path | str | None = None, resume: Path | str | None = None) -> FitResult:
        """Train on ``data``; afterwards the pipeline holds the best weights.

        Args:
            data: Folder with ``train/`` and ``val/``, each with ``images/`` and ``labels/``; ``settings.data.root`` if None.
            resume: A run folder: continue that run in it.

        Raises:
            OcrsdkError: Bad settings, data, plug-ins or checkpoints; before anything is written, where that can be known.
        """
        from ocrsdk.training.trainer import build_trainer

        checkpoint, before = self._resumable(Path(resume)) if resume is not None else (None, 0)
        folder = Path(resume) if resume is not None else run_folder.choose(self.settings)
        parts = self._build(data, session=folder.resolve().name)
        settings = self.settings
        if checkpoint is None:
            run_folder.create(folder)
            run_folder.write_settings(folder, settings, self._layers)
        _prepare_cache(parts.cache)
        built = build_trainer(
            settings,
            folder,
            parts.strategy,
            self._loggers(parts, folder, checkpoint),
            parts.datamodule.val.annotations,
            parts.cache,
        )
        trainer, module = built.trainer, parts.module
        start = time.monotonic()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            warnings.filterwarnings("ignore", ".*dataloader is not resumable.*")  # ours is: see DetectionDataModule
            warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")
            trainer.fit(module, parts.datamodule, ckpt_path=checkpoint, weights_only=True)
        parts.cache.close()
        signals = built.signals
        if trainer.global_step == before and signals.received is None:
            raise TrainingError(
                f"0 steps were made: {folder} is at step {before} and its limits are reached. Give it more: --epochs or --max-time"
            )
        best = built.checkpoints.best_path
        result = FitResult(
            run_dir=folder,
            status="stopped" if signals.received else "finished",
            epochs=trainer.current_epoch,
            steps=trainer.global_step,
            seconds=time.monotonic() - start,
            best_hmean=built.checkpoints.best_hmean if best.exists() else None,
            score=module.score,
            best_checkpoint=best if best.exists() else None,
            last_checkpoint=built.checkpoints.last_path,
            overlays=folder / "overlays" if (folder / "overlays").is_dir() else None,
            signal=signals.received.name if signals.received else None,
        )
        if result.best_checkpoint is not None:
            self._detector = Pipeline.from_checkpoint(result.best_checkpoint)._detector
        return result

    def plan(self, data: Path | str | None = None) -> Plan:
        """Build everything, make one real step, and say what ``fit`` would do. Nothing is written.

        Args:
            data: As for ``fit``.
        """
        from pytorch_lightning import Trainer

        from ocrsdk.training.memory import peak_memory
        from ocrsdk.training.trainer import OneStep

        parts = self._build(data, session=None)
        one = OneStep()
        kwargs = parts.strategy.trainer_kwargs()
        trainer = Trainer(
            accelerator=parts.device, devices=1, max_steps=1, limit_val_batches=0, logger=False, callbacks=[one],
            enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
            use_distributed_sampler=False, **kwargs,
        )  # fmt: skip
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            trainer.fit(parts.module, parts.datamodule)
        parts.cache.close()
        settings, data_module = self.settings, parts.datamodule
        steps_per_epoch = -(-len(data_module.train) // data_module.batch_size)
        return Plan(
            model=f"{settings.model.name} on {settings.model.backbone}",
            parameters=sum(p.numel() for p in parts.module.model.parameters()),
            train_pages=parts.train_report.images,
            train_regions=parts.train_report.instances,
            val_pages=parts.val_report.images,
            batch_size=data_module.batch_size,
            steps_per_epoch=steps_per_epoch,
            steps=steps_per_epoch * settings.trainer.epochs,
            device=parts.device,
            precision=parts.strategy.name,
            cache=parts.cache.backend.name,
            cache_version=parts.cache.backend.location.version,
            loggers=[logger.name for logger in parts.loggers],
            loss=one.loss,
            step_seconds=one.seconds,
            peak_memory_bytes=peak_memory(parts.device),
            skipped=[*parts.train_report.skipped, *parts.val_report.skipped],
        )

    def check(self, data: Path | str | None = None) -> None:
        """Check settings, plug-ins, and every image and label, before PyTorch is loaded; ``fit`` and ``plan`` do it themselves.

        Args:
            data: As for ``fit``.

        Raises:
            OcrsdkError: Something cannot be used.
        """
        if self._checked is not None and data is None:
            return
        from ocrsdk.data.encoding import check_codec
        from ocrsdk.data.folder import load_annotations
        from ocrsdk.data.workers import choose_workers

        settings = self.settings
        open_cache(settings, "check")
        check_codec(settings.cache.compress)
        plugins.precision_strategy(settings.precision.strategy)
        if settings.logging != LoggingSettings():  # asking for loggers loads PyTorch, and the defaults are known to be there
            self._logger_factories()
        choose_workers(settings.data.workers)
        if settings.augment.scale_min > settings.augment.scale_max:
            raise SettingsError("augment.scale_min is larger than augment.scale_max; exchange them")
        root = Path(data) if data is not None else settings.data.root
        if root is None:
            raise SettingsError("no data folder given. Try: ocrsdk train DATA")
        self.settings = settings = settings.model_copy(update={"data": settings.data.model_copy(update={"root": root})})
        policies = (settings.data.on_bad_sample, settings.data.outside, settings.data.verify)
        train, val = (load_annotations(folder, *policies, self._progress) for folder in _split_folders(root, settings))
        for _, report in (train, val):
            _tell(report)
        self._checked = (train, val)

    def _build(self, data: Path | str | None, session: str | None) -> _Parts:
        """Check and build everything, cheap checks first; writes nothing.

        Args:
            data: The data folder.
            session: Name under which the cache counts; None leaves the cache out.
        """
        self.check(data)
        assert self._checked is not None
        (train, train_report), (val, val_report) = self._checked
        self._checked = None  # a later run reads the data again
        import torch

        from ocrsdk.data.datamodule import DetectionDataModule
        from ocrsdk.data.dataset import EvalDataset, TrainDataset
        from ocrsdk.data.targets import TargetSpec
        from ocrsdk.data.workers import choose_workers
        from ocrsdk.losses import DBLoss
        from ocrsdk.models.checkpoint import make_passport
        from ocrsdk.models.dbnet import DBNet, DBNetConfig
        from ocrsdk.models.postprocess import PostProcessor
        from ocrsdk.training.module import DetectionModule
        from ocrsdk.training.optimizers import OptimizerSpec
        from ocrsdk.training.trainer import device_kind

        settings = self.settings
        device = device_kind(settings.trainer.accelerator)
        strategy = self._strategy(device)
        loggers = self._logger_factories()
        cache = open_cache(settings, session or "plan")
        workers = choose_workers(settings.data.workers)

        torch.manual_seed(settings.seed)
        config = DBNetConfig(settings.model.name, settings.model.backbone)
        model = DBNet(config)
        if settings.model.backbone_weights is not None:
            model.load_backbone(settings.model.backbone_weights)
        page, crop = eval_transform(settings), train_transform(settings)
        source = sample_source(settings, cache if session is not None else None)
        targets = TargetSpec(**settings.targets.model_dump())
        datamodule = DetectionDataModule(
            TrainDataset(train, crop, targets, settings.seed, source),
            EvalDataset(val, page, source),
            settings.data.batch_size,
            workers,
            settings.seed,
        )
        postprocessor = PostProcessor(**settings.postprocess.model_dump())
        passport = make_passport(config, asdict(page), asdict(postprocessor), settings.model_dump(mode="json"))
        optimizer = OptimizerSpec(**settings.optimizer.model_dump())
        module = DetectionModule(model, DBLoss(**settings.loss.model_dump()), postprocessor, optimizer, passport)
        return _Parts(module, datamodule, strategy, loggers, cache, device, train_report, val_report)

    def _strategy(self, device: str) -> PrecisionStrategy:
        given = self.settings.precision
        cls = plugins.precision_strategy(given.strategy)
        strategy = cls(cls.check_options(given.options, "precision.options"))
        strategy.check(device)
        return strategy

    def _logger_factories(self) -> list[LoggerFactory]:
        given = self.settings.logging
        for name in given.options.keys() - set(given.loggers):
            raise SettingsError(f"logging.options.{name}: {name!r} is not among logging.loggers ({', '.join(given.loggers)})")
        factories = []
        for name in given.loggers:
            cls = plugins.logger(name)
            factories.append(cls(cls.check_options(given.options.get(name, {}), f"logging.options.{name}")))
        return factories

    def _loggers(self, parts: _Parts, folder: Path, checkpoint: Path | None) -> list[Any]:
        from ocrsdk.loggers.base import RunInfo

        run = RunInfo(folder, self.settings.name, self.settings.model_dump(mode="json"), checkpoint is not None)
        return [logger for factory in parts.loggers if (logger := factory.build(run)) is not None]

    def _resumable(self, run: Path) -> tuple[Path, int]:
        """The checkpoint of ``run`` and its step, if these settings can go on from it."""
        from ocrsdk.models.checkpoint import read_checkpoint

        path = run_folder.last_checkpoint(run)
        content = read_checkpoint(path)
        trained = content["ocrsdk"]["model"]
        asked = {"name": self.settings.model.name, "backbone": self.settings.model.backbone}
        if trained != asked:
            raise CheckpointError(f"{path}: a checkpoint of {trained}, but the settings ask for {asked}")
        return path, int(content["global_step"])

    # ------------------------------------------------------ evaluation, inference

    def evaluate(self, data: Path | str | None = None) -> EvaluationResult:
        """Score on annotated pages, ICDAR protocol at IoU 0.5.

        Args:
            data: A data folder (its ``val/`` is taken, if there is one) or a folder of ``images/`` and ``labels/``.
        """
        from ocrsdk.data.folder import load_annotations

        detector = self._trained()
        root = Path(data) if data is not None else self.settings.data.root
        if root is None:
            raise SettingsError("no data folder given. Try: ocrsdk evaluate CHECKPOINT DATA")
        val = root / self.settings.data.val
        policies = (self.settings.data.on_bad_sample, self.settings.data.outside, "header")
        annotations, report = load_annotations(val if val.is_dir() else root, *policies)  # type: ignore[arg-type]
        _tell(report)
        wrapped: Iterable[Annotation] = annotations
        if self._progress is not None:
            paths = self._progress((a.image for a in annotations), len(annotations))
            wrapped = (annotation for annotation, _ in zip(annotations, paths, strict=True))
        result = detector.evaluate(wrapped)
        return EvaluationResult(result.score, result.pages, report)

    def predict(self, images: Iterable[Path | str]) -> list[PageDetections]:
        """Text in each image file; polygons in pixels of the upright original."""
        return list(self.iter_predict(images))

    def iter_predict(self, images: Iterable[Path | str]) -> Iterator[PageDetections]:
        """``predict``, one page at a time."""
        detector = self._trained()
        for image in images:
            yield detector.detect_file(Path(image))

    def _trained(self) -> Detector:
        if self._detector is None:
            raise CheckpointError("no trained weights: call fit(), or use Pipeline.from_checkpoint(path)")
        return self._detector


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
    from ocrsdk.cache.versioning import fingerprint

    given = settings.cache
    cls = plugins.cache_backend(given.backend)
    options = cls.check_options(given.options, "cache.options")
    involved = {f"cache backend {cls.name}": plugins.installed().distribution("cache backend", cls.name)}
    manifest = given.manifest(settings.data, settings.augment, involved)
    folder = given.dir.expanduser()
    location = CacheLocation(folder, fingerprint(manifest), manifest, int(given.budget))
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
    return SampleSource(cache if given.policy != "off" else None, given.identity, given.compress, given.policy == "sample")


def warm_items(settings: Settings, data: Path, cache: SampleCache) -> tuple[Iterable[Any], int]:
    """What to iterate over, so that everything that training on ``data`` keeps is kept; and how many items."""
    from torch.utils.data import ConcatDataset, DataLoader

    from ocrsdk.data.dataset import EvalDataset, KeptPages, KeptSamples
    from ocrsdk.data.folder import load_annotations
    from ocrsdk.data.workers import choose_workers

    source = sample_source(settings, cache)
    policies = (settings.data.on_bad_sample, settings.data.outside, "header")
    train, val = (load_annotations(folder, *policies)[0] for folder in _split_folders(data, settings))  # type: ignore[arg-type]
    pages = KeptPages(train, train_transform(settings).preparation, source)
    both: ConcatDataset[int] = ConcatDataset([pages, KeptSamples(EvalDataset(val, eval_transform(settings), source))])
    return DataLoader(both, batch_size=None, num_workers=choose_workers(settings.data.workers)), len(both)


def _prepare_cache(cache: SampleCache) -> None:
    """Create the cache's place; a store that is damaged, or a full disk, costs the cache and not the run.

    Raises:
        CacheError: The settings can never work.
    """
    try:
        cache.backend.prepare()
    except (CacheStoreError, CacheEnvironmentError) as error:
        from ocrsdk.logs import get_logger

        get_logger(__name__).warning("training goes on without a cache", reason=str(error))
        cache.switch_off()


def _split_folders(root: Path, settings: Settings) -> tuple[Path, Path]:
    """The training and the validation folder."""
    if not root.is_dir():
        raise DataError(f"{root}: no such folder. To generate one: ocrsdk data synth {root}")
    folders = (root / settings.data.train, root / settings.data.val)
    for folder, key in zip(folders, ("train", "val"), strict=True):
        if not folder.is_dir():
            flat = " This folder holds pages itself: name it for both with --set data.train=. --set data.val=." * (
                (root / "images").is_dir()
            )
            raise DataError(f"{root}: no {folder.name}/ in it; expected train/ and val/, or set data.{key}.{flat}")
    return folders


def _tell(report: DataReport) -> None:
    from ocrsdk.logs import get_logger

    log = get_logger(__name__)
    for message in report.skipped:
        log.warning("sample skipped", reason=message)
    if report.outside:
        log.warning("text reaches beyond its page", folder=str(report.root), regions=len(report.outside), first=report.outside[0])
