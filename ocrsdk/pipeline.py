"""``Pipeline``: the only place where all parts meet."""

from __future__ import annotations

import shlex
import time
import uuid
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocrsdk.runs import resume as resuming

from ocrsdk.runs import folder as run_folder
from ocrsdk.runs.build import build_loggers, build_run, check_run, prepare_cache, report_problems, verification
from ocrsdk.errors import CheckpointError, DataError, NonFiniteError, SettingsError
from ocrsdk.logs import bind
from ocrsdk.runs.precision import tell_precision
from ocrsdk.runs.results import CheckedRun, EvaluationResult, FitResult, Plan
from ocrsdk.settings.schema import EVALUATION_DATA, Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ocrsdk.runs.build import RunParts
    from ocrsdk.cache_tools.control import CacheControl
    from ocrsdk.data.folder import Progress
    from ocrsdk.inference import Detector
    from ocrsdk.precision_tools.check import ParityReport
    from ocrsdk.precision_tools.control import PrecisionControl
    from ocrsdk.runs.resume import BegunRun
    from ocrsdk.settings.sources import Layers
    from ocrsdk.types import Annotation, PageDetections


_PREPARED = {"image_size": "short_side", "max_side": "max_side"}
"""Settings of the data that decide how a page is prepared, and what ``EvalTransform`` calls them."""


def _environment(parts: RunParts) -> dict[str, Any]:
    """What the run computes on, for the run folder and the loggers."""
    from ocrsdk.runs.environment import describe
    from ocrsdk.training.device import device_name

    precision, location = parts.precision, parts.cache.backend.location
    return {
        **describe(),
        "device": device_name(parts.device),
        "cache": {"backend": parts.cache.backend.name, "version": location.version},
        "precision": {
            "strategy": precision.strategy.name,
            "certificate": precision.certificate.summary() if precision.certificate is not None else None,
        },
    }


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
        if settings is not None and not isinstance(settings, Settings):
            raise TypeError(f"expected Settings, found {type(settings).__name__}. Try: Pipeline(Settings(...))")
        self.settings = settings or Settings()
        self._progress, self._layers = progress, layers
        self._detector: Detector | None = None
        self._checkpoint: Path | None = None
        """Where the weights of ``from_checkpoint`` are from: its settings are not those of a training run."""
        self._checked: CheckedRun | None = None

    @classmethod
    def from_checkpoint(
        cls,
        path: Path | str,
        postprocess: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        *,
        progress: Progress | None = None,
    ) -> Pipeline:
        """A pipeline that evaluates and predicts with trained weights, as the run did that trained them.

        Args:
            path: A checkpoint file, for instance ``runs/.../checkpoints/best.ckpt``.
            postprocess: Values that replace the checkpoint's, by name (``{"unclip_ratio": 2.0}``).
            data: The same, of ``settings.EVALUATION_DATA``: ``image_size``, ``max_side``, ``val``, ``outside``, ``on_bad_sample``.
            progress: As for the constructor.

        Raises:
            CheckpointError: The file is missing, damaged, unsafe, or of another architecture.
            SettingsError: A name is unknown or a value is wrong.
        """
        from ocrsdk.inference import Detector
        from ocrsdk.models.checkpoint import load_checkpoint
        from ocrsdk.training.device import device_kind

        loaded, data, postprocess = load_checkpoint(Path(path)), data or {}, postprocess or {}
        if others := data.keys() - set(EVALUATION_DATA):
            raise SettingsError(f"data.{min(others)} is not for trained weights; there are: {', '.join(EVALUATION_DATA)}")
        trained = loaded.settings.get("data", {})
        values = {f"data.{name}": trained[name] for name in EVALUATION_DATA if name in trained}
        values |= {f"data.{name}": value for name, value in data.items()}
        values |= {f"postprocess.{name}": value for name, value in postprocess.items()}
        settings = Settings.load(None, values, {}, place=f"with {path}")
        pipeline = cls(settings, progress=progress)
        pipeline._checkpoint = Path(path)
        pipeline._detector = Detector(
            loaded,
            device_kind("auto"),
            {name: getattr(settings.postprocess, name) for name in postprocess},
            {field: getattr(settings.data, name) for name, field in _PREPARED.items() if name in data},
        )
        return pipeline

    @property
    def cache(self) -> CacheControl:
        """The cache of these settings: its health, status, and what can be done to it."""
        from ocrsdk.cache_tools.control import CacheControl

        return CacheControl(self.settings, self._progress)

    @property
    def precision(self) -> PrecisionControl:
        """What number formats do to these settings: activation ranges, accuracy checks, replays."""
        from ocrsdk.precision_tools.control import PrecisionControl

        return PrecisionControl(self.settings, self._progress)

    def check_precision(self, data: Path | str | None = None, candidate: str = "fp16-safe", **options: Any) -> ParityReport:
        """Whether training with ``candidate`` is as accurate as with fp32: paired runs, an equivalence test, a certificate.

        Args:
            data: As for ``fit``.
            candidate: A precision strategy.
            options: See ``PrecisionControl.check``: ``baseline``, ``seeds``, ``epochs``, ``margin``, ``out``.
        """
        return self.precision.check(data, candidate, **options)

    # ---------------------------------------------------------------- training

    def fit(
        self, data: Path | str | None = None, resume: Path | str | None = None, *, allow_precision_change: bool = False
    ) -> FitResult:
        """Train on ``data``; afterwards the pipeline holds the best weights.

        On a CPU, this process keeps from then on the memory that it frees; see ``training.device.keep_freed_memory``.

        Args:
            data: Folder with ``train/`` and ``val/``, each with ``images/`` and ``labels/``; ``settings.data.root`` if None.
            resume: A run folder: continue that run in it.
            allow_precision_change: Resume although the run was begun under another precision strategy.

        Raises:
            OcrsdkError: Bad settings, data, plug-ins or checkpoints; before anything is written, where that can be known.
        """
        from ocrsdk.inference import Detector
        from ocrsdk.models.checkpoint import load_checkpoint

        with ExitStack() as stack:
            begun = None
            if resume is not None:
                folder = Path(resume)
                run_folder.last_checkpoint(folder)
                stack.enter_context(run_folder.held(folder))  # before its checkpoint is read: another process may still write it
                begun = resuming.begun_run(folder, self.settings)
            parts = self._build(data, session=self.settings.name, trained=begun is not None)
            if begun is not None:
                resuming.check(parts, begun, folder, allow_precision_change)
            else:
                folder = run_folder.create_new(self.settings)
                stack.enter_context(run_folder.held(folder))
            parts.cache.counter.session = folder.resolve().name
            tell_precision(parts.precision, folder / run_folder.SETTINGS_FILE)
            run_folder.write_settings(folder, self.settings, self._layers)
            result = self._train(parts, folder, begun)
            run_folder.write_result(folder, result.as_dict())
        if result.best_checkpoint is not None:
            self._detector = Detector(load_checkpoint(result.best_checkpoint), parts.device, {}, {})
        return result

    def _train(self, parts: RunParts, folder: Path, begun: BegunRun | None) -> FitResult:
        from ocrsdk.loggers.base import RunInfo
        from ocrsdk.training.device import fp32_products, keep_freed_memory
        from ocrsdk.training.loader_errors import end_loaders, loader_error
        from ocrsdk.training.trainer import build_trainer

        settings, strategy, module = self.settings, parts.precision.strategy, parts.module
        run_id = begun.passport["run_id"] if begun is not None else uuid.uuid4().hex[:8]
        module.passport["run_id"] = run_id
        environment = _environment(parts)
        if parts.device == "cpu":
            keep_freed_memory()
        prepare_cache(parts.cache)
        info = RunInfo(folder, settings.name, settings.model_dump(mode="json"), begun is not None, run_id, environment)
        logger = build_loggers(parts.loggers, info, begun.loggers if begun is not None else {})
        run_folder.write_start(folder, run_id, environment)
        (folder / run_folder.RESULT_FILE).unlink(missing_ok=True)
        built = build_trainer(settings, folder, parts.accumulate, parts.trainer_kwargs, logger, parts.datamodule, parts.cache)
        bind(run=folder.name, rank=built.trainer.global_rank)
        trainer, checkpoint = built.trainer, begun.path if begun is not None else None
        start = time.monotonic()
        try:
            with warnings.catch_warnings(), fp32_products(strategy.tf32), built.signals:
                warnings.filterwarnings("ignore", ".*does not have many workers.*")
                warnings.filterwarnings("ignore", ".*dataloader is not resumable.*")  # ours is: see DetectionDataModule
                warnings.filterwarnings("ignore", ".*smaller than the logging interval.*")
                trainer.fit(module, parts.datamodule, ckpt_path=checkpoint, weights_only=True)
        except Exception as error:
            shown = loader_error(error, parts.datamodule)
            if shown is None:
                raise
            end_loaders()
            raise shown from error
        finally:
            parts.cache.close()
        signals = built.signals
        before = begun.step if begun is not None else 0
        if module.attempted_steps == before and signals.received is None:
            raise resuming.limits_reached(folder, before)
        if not trainer.global_step and signals.received is None:
            raise NonFiniteError(
                f"0 steps were made: all {module.skipped_steps} updates were left out, because gradients were not finite. "
                f"To see why: ocrsdk precision probe --config {shlex.quote(str(folder / run_folder.SETTINGS_FILE))}"
            )
        best = built.checkpoints.best_path
        return FitResult(
            run_dir=folder,
            status="stopped" if signals.received else "finished",
            epochs=trainer.current_epoch,
            steps=trainer.global_step,
            seconds=time.monotonic() - start,
            best_hmean=built.checkpoints.best_hmean if best.exists() and built.checkpoints.best_hmean >= 0 else None,
            score=module.score,
            best_checkpoint=best if best.exists() else None,
            last_checkpoint=built.checkpoints.last_path,
            overlays=folder / "overlays" if (folder / "overlays").is_dir() else None,
            precision=strategy.name,
            validated=strategy.reference or parts.precision.certificate is not None,
            skipped_steps=module.skipped_steps,
            images_per_second=built.resources.images_per_second,
            peak_memory_bytes=built.resources.peak_memory_bytes,
            profile=built.profile.report.as_dict() if built.profile is not None and built.profile.report is not None else None,
            logger_problems=dict(logger.problems) if logger is not None else {},
            signal=signals.received.name if signals.received else None,
        )

    def plan(self, data: Path | str | None = None) -> Plan:
        """Build everything, make one real step, and say what ``fit`` would do. Nothing is written.

        Args:
            data: As for ``fit``.
        """
        from ocrsdk.training.device import fp32_products, peak_memory, reset_peak_memory
        from ocrsdk.training.trainer import OneStep, quiet_trainer

        parts = self._build(data, session=None)
        tell_precision(parts.precision, None)
        one = OneStep()
        strategy = parts.precision.strategy
        reset_peak_memory(parts.device)
        trainer = quiet_trainer(parts.device, parts.trainer_kwargs, max_steps=1, limit_val_batches=0, callbacks=[one])
        with warnings.catch_warnings(), fp32_products(strategy.tf32):
            warnings.filterwarnings("ignore", ".*does not have many workers.*")
            trainer.fit(parts.module, parts.datamodule)
        parts.cache.close()
        settings, data_module = self.settings, parts.datamodule
        batches = -(-len(data_module.train) // data_module.batch_size)
        steps_per_epoch = -(-batches // parts.accumulate)
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
            precision=strategy.name,
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
        if self._checkpoint is not None:
            raise SettingsError(
                f"this pipeline evaluates and predicts with {self._checkpoint}. To train: Pipeline(settings); to go on with a run: "
                "Pipeline(settings).fit(resume=RUN)"
            )
        if self._checked is None or data is not None:
            self._checked = check_run(self.settings, data, self._progress)
            self.settings = self._checked.settings

    def _build(self, data: Path | str | None, session: str | None, trained: bool = False) -> RunParts:
        self.check(data)
        assert self._checked is not None
        checked, self._checked = self._checked, None  # a later run reads the data again
        return build_run(checked, session, trained)

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
        if root.is_dir() and not val.is_dir() and not (root / "images").is_dir():
            raise DataError(f"{root}: neither {val.name}/ nor images/ in it; name the folder that holds images/ and labels/")
        policies = (self.settings.data.on_bad_sample, self.settings.data.outside, verification(self.settings))
        annotations, report = load_annotations(val if val.is_dir() else root, *policies)
        report_problems(report)
        wrapped: Iterable[Annotation] = annotations
        if self._progress is not None:
            paths = self._progress((a.image for a in annotations), len(annotations))
            wrapped = (annotation for annotation, _ in zip(annotations, paths, strict=True))
        result = detector.evaluate(wrapped)
        return EvaluationResult(result.score, result.pages, report)

    def predict(self, images: Iterable[Path | str] | Path | str) -> list[PageDetections]:
        """Text in each image file, or in one; polygons in pixels of the upright original."""
        return list(self.iter_predict(images))

    def iter_predict(self, images: Iterable[Path | str] | Path | str) -> Iterator[PageDetections]:
        """``predict``, one page at a time."""
        detector = self._trained()
        for image in [images] if isinstance(images, Path | str) else images:
            yield detector.detect_file(Path(image))

    def _trained(self) -> Detector:
        if self._detector is None:
            raise CheckpointError("no trained weights: call fit(), or use Pipeline.from_checkpoint(path)")
        return self._detector
