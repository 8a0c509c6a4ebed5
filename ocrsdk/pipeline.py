"""``Pipeline``: the door. Train, evaluate and run a detector; ask about its cache and its precision."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ocrsdk.errors import CheckpointError, SettingsError
from ocrsdk.runs.check import FolderData, GivenData, check_run, read_split, report_problems, sources_or_root, verification
from ocrsdk.settings.schema import Settings
from ocrsdk.settings.sections import EVALUATION_DATA

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from pytorch_lightning import Callback
    from torch.utils.data import Dataset

    from ocrsdk.cache_tools.control import CacheControl
    from ocrsdk.data.datamodule import DetectionDataModule
    from ocrsdk.data.layout import Progress
    from ocrsdk.inference import Detector, EvaluationResult, ImageLike
    from ocrsdk.precision.gate import ParityReport
    from ocrsdk.precision_tools.control import PrecisionControl
    from ocrsdk.runs.check import CheckedRun, Split
    from ocrsdk.runs.results import FitResult, Plan
    from ocrsdk.runs.tune import Tuning
    from ocrsdk.settings.sources import Layers
    from ocrsdk.types import Annotation, PageDetections, Sample

    TrainOn = Path | str | tuple[Dataset[Sample], Dataset[Sample]] | DetectionDataModule


class Pipeline:
    """Train, evaluate and run a text detector.

    >>> from ocrsdk import Pipeline, Settings
    >>> pipeline = Pipeline(Settings(trainer={"max_time": "10m"}))  # doctest: +SKIP
    >>> result = pipeline.fit("receipts")  # doctest: +SKIP
    >>> pages = pipeline.predict("scan.jpg")  # doctest: +SKIP

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
        postprocess: Mapping[str, object] | None = None,
        data: Mapping[str, object] | None = None,
        *,
        device: str = "auto",
        progress: Progress | None = None,
    ) -> Pipeline:
        """A pipeline that evaluates and predicts with trained weights, as the run did that trained them.

        Args:
            path: A checkpoint file, for instance ``runs/.../checkpoints/best.ckpt``.
            postprocess: Values that replace the checkpoint's, by name (``{"unclip_ratio": 2.0}``).
            data: The same, of ``settings.sections.EVALUATION_DATA``: ``short_side``, ``max_side``, ``val``, ``outside``,
                ``on_bad_sample``.
            device: ``cpu``, ``cuda`` or ``mps``; ``auto`` is the fastest that is here.
            progress: As for the constructor.

        Raises:
            CheckpointError: The file is missing, damaged, unsafe, or of another architecture.
            SettingsError: A name is unknown or a value is wrong.
        """
        from ocrsdk.inference import Detector
        from ocrsdk.models.checkpoint import load_checkpoint

        loaded, data, postprocess = load_checkpoint(Path(path)), data or {}, postprocess or {}
        if others := data.keys() - set(EVALUATION_DATA):
            raise SettingsError(f"data={min(others)!r}: with trained weights there are: {', '.join(EVALUATION_DATA)}")
        trained = loaded.settings.get("data", {})
        values = {f"data.{name}": trained[name] for name in EVALUATION_DATA if name in trained}
        values |= {f"data.{name}": value for name, value in data.items()}
        values |= {f"postprocess.{name}": value for name, value in postprocess.items()}
        settings = Settings.load(None, values, {}, place=f"with {path}")
        pipeline = cls(settings, progress=progress)
        pipeline._checkpoint = Path(path)
        changed = {name: getattr(settings.postprocess, name) for name in postprocess}
        sizes = {name: getattr(settings.data, name) for name in ("short_side", "max_side") if name in data}
        pipeline._detector = Detector(loaded, device, changed, sizes)
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
            data: A data folder.
            candidate: A precision strategy.
            options: See ``PrecisionControl.check``: ``baseline``, ``seeds``, ``epochs``, ``margin``, ``out``.
        """
        return self.precision.check(data, candidate, **options)

    # ---------------------------------------------------------------- training

    def fit(
        self,
        data: TrainOn | None = None,
        resume: Path | str | None = None,
        *,
        callbacks: Sequence[Callback] = (),
        loggers: Sequence[Any] = (),
        allow_precision_change: bool = False,
    ) -> FitResult:
        """Train on ``data``; afterwards the pipeline holds the best weights.

        On a CPU, this process keeps from then on the memory that it frees; see ``training.memory.keep_freed_memory``.

        Args:
            data: A folder with ``train/`` and ``val/``, each with pages and labels of any annotation format; or (training,
                validation) datasets of ``Sample``, as ``TrainDataset`` and ``EvalDataset``; or a ``DetectionDataModule``.
                ``settings.data.root`` if None.
            resume: A run folder: resume that run.
            callbacks: Lightning callbacks, called after those that the run itself needs.
            loggers: Logger objects beside those of the settings: Lightning's, or ``RowLogger`` of your own. They get every row.
            allow_precision_change: Resume although the run was started under another precision strategy.

        Raises:
            OcrsdkError: Bad settings, data, plug-ins or checkpoints; before anything is written, where that can be known.
        """
        from ocrsdk.inference import Detector
        from ocrsdk.runs.fit import fit

        if loggers and self.settings.logging.loggers == ("none",):
            raise SettingsError(
                "loggers are given, but logging.loggers is none; rows go to metrics.jsonl first, so leave it at jsonl"
            )
        self.check(data)
        assert self._checked is not None
        checked, self._checked = self._checked, None  # a later run reads the data again
        result = fit(
            checked, resumed_folder=Path(resume) if resume is not None else None, allow_precision_change=allow_precision_change,
            layers=self._layers, callbacks=callbacks, loggers=_named(loggers),
        )  # fmt: skip
        if result.best_checkpoint is not None:
            self._detector = Detector(result.best_checkpoint, checked.settings.trainer.accelerator)
        return result

    def plan(self, data: TrainOn | None = None) -> Plan:
        """Build everything, make one real step, and say what ``fit`` would do. Nothing is written.

        Args:
            data: As for ``fit``.
        """
        from ocrsdk.runs.plan import plan

        self.check(data)
        assert self._checked is not None
        checked, self._checked = self._checked, None
        return plan(checked)

    def check(self, data: TrainOn | None = None) -> None:
        """Check settings, plug-ins, and every image and label, before PyTorch is loaded; ``fit`` and ``plan`` do it themselves.

        Args:
            data: As for ``fit``.

        Raises:
            OcrsdkError: Something cannot be used.
        """
        if self._checkpoint is not None:
            raise SettingsError(
                f"this pipeline evaluates and predicts with {self._checkpoint}. To train: Pipeline(settings); to resume a run: "
                "Pipeline(settings).fit(resume=RUN)"
            )
        if self._checked is None or data is not None:
            self._checked = check_run(self.settings, _training_data(data), self._progress)
            self.settings = self._checked.settings

    # ------------------------------------------------------ evaluation, inference

    def evaluate(self, data: Path | str | Iterable[Annotation] | None = None) -> EvaluationResult:
        """Score on annotated pages, ICDAR protocol at IoU 0.5.

        Args:
            data: A data folder (its ``val/`` is taken, if there is one), a folder of pages and labels, a
                label file, or annotations.
        """
        from dataclasses import replace

        detector = self.detector
        if data is not None and not isinstance(data, Path | str):
            return detector.evaluate(data)
        split, _ = self._annotated(data, "evaluate")
        return replace(detector.evaluate(self._watched(split.annotations)), reports=tuple(split.reports))

    def tune(self, data: Path | str | None = None, out: Path | None = None) -> Tuning:
        """Choose box threshold and unclip ratio on annotated pages, for this pipeline, and for a checkpoint that is written.

        Args:
            data: As for ``evaluate``. Take pages that were not trained on, and give the final score on others.
            out: The checkpoint to write, which may be the one that was read; none if None.

        Raises:
            OcrsdkError: Pages cannot be used, or the checkpoint cannot be written.
        """
        from ocrsdk.models.postprocess import PostProcessor
        from ocrsdk.runs.tune import save_tuned, tune

        detector = self.detector
        split, folder = self._annotated(data, "tune")
        annotations = split.annotations
        tuning = tune(detector, annotations, folder.absolute().name, pages=self._watched(annotations))
        if out is not None:
            if self._checkpoint is None:
                raise CheckpointError("these weights came from fit(); tune with Pipeline.from_checkpoint(path)")
            save_tuned(self._checkpoint, tuning, out)
        chosen = {name: tuning.best[name] for name in ("box_threshold", "unclip_ratio")}
        detector.postprocessor = PostProcessor(detector.postprocessor.settings.model_copy(update=chosen))
        detector.tuned = tuning.record()
        return tuning

    def _annotated(self, data: Path | str | None, command: str) -> tuple[Split, Path]:
        """The annotated pages to score on, and where they lie."""
        root = Path(data) if data is not None else self.settings.data.root
        if root is None:
            raise SettingsError(f"no data folder given. Try: ocrsdk {command} CHECKPOINT DATA", parameter="data")
        given = self.settings.data
        sources = sources_or_root(root, given.val, given)
        split = read_split(sources, self.settings, verification(self.settings))
        for report in split.reports:
            report_problems(report)
        return split, sources[0].path if len(sources) == 1 else root

    def _watched(self, annotations: Sequence[Annotation]) -> Iterable[Annotation]:
        if self._progress is None:
            return annotations
        paths = self._progress((a.image for a in annotations), len(annotations))
        return (annotation for annotation, _ in zip(annotations, paths, strict=True))

    def predict(self, images: ImageLike | Iterable[ImageLike]) -> list[PageDetections]:
        """Text in each image; polygons in pixels of the upright original.

        Args:
            images: One or many of: paths, folders of images, bytes of image files, binary file objects, (H, W, 3) or (H, W) uint8
                arrays in RGB, PIL images.

        Raises:
            ImageError: One cannot be read.
        """
        return list(self.iter_predict(images))

    def iter_predict(self, images: ImageLike | Iterable[ImageLike]) -> Iterator[PageDetections]:
        """As ``predict``, one page at a time."""
        from ocrsdk.inference import each_image

        detector = self.detector
        for image, name in each_image(images):
            yield detector.detect_page(image, name)

    @property
    def detector(self) -> Detector:
        """The trained detector; its network is ``detector.model``.

        Raises:
            CheckpointError: There are no trained weights yet.
        """
        if self._detector is None:
            raise CheckpointError("no trained weights: call fit(), or use Pipeline.from_checkpoint(path)")
        return self._detector


def _training_data(data: TrainOn | None) -> Path | FolderData | GivenData | None:
    if data is None or isinstance(data, Path | str):
        return Path(data) if data is not None else None
    if isinstance(data, tuple) and len(data) == 2:
        return GivenData(data[0], data[1], None)
    from ocrsdk.data.datamodule import DetectionDataModule

    if isinstance(data, DetectionDataModule):
        return GivenData(data.train, data.val, data)
    raise TypeError(
        f"data: a {type(data).__name__} cannot be trained on; "
        "give a folder, (training, validation) datasets, or a DetectionDataModule"
    )


def _named(loggers: Sequence[object]) -> dict[str, object]:
    """Logger objects by the name of their class, numbered where two are of one class."""
    named: dict[str, Any] = {}
    for logger in loggers:
        base = type(logger).__name__
        named[next(name for n in range(1, len(loggers) + 2) if (name := base if n == 1 else f"{base} {n}") not in named)] = logger
    return named
