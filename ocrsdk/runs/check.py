"""Is everything that a run needs there? Found out before PyTorch is loaded, and before anything is written."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ocrsdk.cache.encoding import check_codec
from ocrsdk.data.folder import load_annotations
from ocrsdk.data.index import FOLDER, PageIndexes
from ocrsdk.data.layout import PageSource
from ocrsdk.data.own_transforms import own_transforms
from ocrsdk.data.preparation import Preparation
from ocrsdk.data.table import JoinedPages
from ocrsdk.data.units import doubts
from ocrsdk.data.workers import choose_workers
from ocrsdk.errors import DataError, SettingsError
from ocrsdk.loggers.make import make_factories
from ocrsdk.logs import get_logger
from ocrsdk.precision.make import make_strategy
from ocrsdk.runs.cache import open_run_cache
from ocrsdk.runs.secrets import names_used, withhold
from ocrsdk.settings.sections import SourceSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch.utils.data import Dataset

    from ocrsdk.cache.store import SampleCache
    from ocrsdk.data.datamodule import DetectionDataModule
    from ocrsdk.data.folder import DataReport
    from ocrsdk.data.layout import Progress
    from ocrsdk.data.table import PageTable
    from ocrsdk.loggers.base import LoggerFactory
    from ocrsdk.precision.base import PrecisionStrategy
    from ocrsdk.settings.schema import Settings
    from ocrsdk.settings.sections import DataSettings, Verification
    from ocrsdk.types import Annotation, Sample


class Source(NamedTuple):
    """One set of pages, and what was found while it was read."""

    pages: PageTable
    report: DataReport
    weight: float


class Split(NamedTuple):
    """The pages of one split of the data: one source, or several."""

    sources: tuple[Source, ...]

    @property
    def annotations(self) -> Sequence[Annotation]:
        """The pages of all sources."""
        return self.sources[0].pages if len(self.sources) == 1 else JoinedPages([source.pages for source in self.sources])

    @property
    def reports(self) -> list[DataReport]:
        """Of each source."""
        return [source.report for source in self.sources]

    @property
    def shares(self) -> list[tuple[int, float]]:
        """(pages, weight) of each source."""
        return [(len(source.pages), source.weight) for source in self.sources]


class FolderData(NamedTuple):
    """What is trained on: a data folder."""

    train: Split
    val: Split


class GivenData(NamedTuple):
    """What is trained on: datasets that were given, or a data module that serves them."""

    train: Dataset[Sample]
    val: Dataset[Sample]
    module: DetectionDataModule | None


TrainingData = FolderData | GivenData


@dataclass(frozen=True)
class CheckedRun:
    """Settings, plug-ins and data that can be used. Each plug-in is looked up and made here, once."""

    settings: Settings
    """With ``data.root`` filled in."""
    data: TrainingData
    strategy: PrecisionStrategy
    loggers: Sequence[LoggerFactory]
    """The record of truth comes first."""
    cache: SampleCache
    public: Settings
    """The settings without secrets: what may be written."""
    secrets: dict[str, Any] = field(default_factory=dict, repr=False)
    """Dotted name -> value of what may not."""


def check_run(settings: Settings, data: Path | TrainingData | None, progress: Progress | None = None) -> CheckedRun:
    """Check settings, plug-ins, and every image and label.

    Args:
        settings: All settings.
        data: The data folder (``settings.data.root`` if None), or datasets.
        progress: Wraps the loop over files.

    Raises:
        OcrsdkError: Something cannot be used.
    """
    cache = open_run_cache(settings, "check")
    check_codec(settings.cache.compress, "cache.compress")
    check_codec(settings.cache.compress_maps, "cache.compress_maps")
    if settings.cache.policy == "maps" and not settings.trainer.val_loss:
        raise SettingsError(
            "cache.policy=maps keeps target maps for the validation loss, which is off. "
            "Try: --set trainer.val_loss=true, or --set cache.policy=sample"
        )
    strategy = make_strategy(settings.precision.strategy, settings.precision.options)
    loggers = make_factories(settings.logging.loggers, settings.logging.options)
    choose_workers(settings.data.workers)
    if settings.augment.scale_min > settings.augment.scale_max:
        raise SettingsError("augment.scale_min is larger than augment.scale_max; exchange them")
    if settings.augment.transforms:
        own_transforms(settings.augment.transforms).check(settings.data.crop)
    if settings.targets.thresh_min >= settings.targets.thresh_max:
        raise SettingsError("targets.thresh_min is not smaller than targets.thresh_max; exchange them")
    if isinstance(data, GivenData):
        found: TrainingData = data
    else:
        root = data if isinstance(data, Path) else settings.data.root
        if root is None:
            raise SettingsError("no data folder given. Try: ocrsdk train DATA", parameter="data")
        images = settings.data.images.absolute() if settings.data.images is not None else None
        absolute = settings.data.model_copy(update={"root": root.absolute(), "images": images})  # to resume from any folder
        settings = settings.model_copy(update={"data": absolute})
        found = data if isinstance(data, FolderData) else read_folder(settings, root, settings.data.verify, progress)
    public, secrets = withhold(settings, names_used(cache.backend, strategy, loggers))
    return CheckedRun(settings, found, strategy, loggers, cache, public, secrets)


def read_folder(settings: Settings, root: Path, verify: Verification, progress: Progress | None = None) -> FolderData:
    """Read and check both splits of a data folder, and tell what is odd in them.

    Raises:
        DataError: Something cannot be used.
    """
    train, val = (read_split(sources, settings, verify, progress) for sources in split_sources(root, settings))
    sizes = Preparation(settings.data.short_side, settings.data.max_side)
    for report in (*train.reports, *val.reports):
        report_problems(report)
        sides = np.asarray(report.extents)[:, 2:]
        strips = sides[sides.max(axis=1) > sizes.strip_ratio * sides.min(axis=1)]
        if len(strips):
            get_logger(__name__).warning(
                "pages are so long that data.max_side more than halves their text in training: cut them, or raise it",
                folder=str(report.root), pages=len(strips), longest=int(strips.max()),
            )  # fmt: skip
    return FolderData(train, val)


def read_split(sources: Sequence[PageSource], settings: Settings, verify: Verification, progress: Progress | None = None) -> Split:
    """The pages of some sources, each by ``load_annotations`` with the policies of the settings.

    Raises:
        DataError: Something cannot be used.
    """
    given = settings.data
    indexes = PageIndexes(settings.cache.dir / FOLDER) if given.index and settings.cache.backend != "none" else None
    found = []
    for source in sources:
        pages, report = load_annotations(
            source.path, on_bad_sample=given.on_bad_sample, on_bad_box=given.on_bad_box, outside=given.outside, verify=verify,
            progress=progress, format=source.format, format_options=source.options, images=source.images, indexes=indexes,
        )  # fmt: skip
        found.append(Source(pages, report, source.weight))
    return Split(tuple(found))


def verification(settings: Settings) -> Verification:
    """How images are checked that are decoded later: where bad samples are skipped, one that cannot be has to be found now."""
    return "decode" if settings.data.on_bad_sample == "skip" else "header"


def split_sources(root: Path, settings: Settings) -> tuple[list[PageSource], list[PageSource]]:
    """Where the training pages lie, and where the validation pages.

    Raises:
        DataError: Something is missing.
        SettingsError: Validation pages have weights.
    """
    if not root.is_dir():
        if root.exists():
            raise DataError(
                f"{root}: is a file, not a data folder. For label files, name their folder, and each file: "
                f"ocrsdk train {shlex.quote(str(root.parent))} --set {shlex.quote(f'data.train={root.name}')} --set data.val=FILE"
            )
        raise DataError(f"{root}: no such folder. To generate one: ocrsdk data synth {shlex.quote(str(root))}")
    train, val = sources_in(root, settings.data.train, settings.data), sources_in(root, settings.data.val, settings.data)
    if any(source.weight != 1 for source in val):
        raise SettingsError("data.val: a weight has no meaning for validation pages, each of which is scored once; leave it out")
    for sources, key in ((train, "train"), (val, "val")):
        for source in sources:
            if source.path.exists():
                continue
            flat = " This folder holds pages itself: name it for both with --set data.train=. --set data.val=." * (
                (root / "images").is_dir()
            )
            files = sorted(path.name for path in root.iterdir() if path.suffix.lower() in (".json", ".txt") and path.is_file())
            listed = (
                f" Files here: {', '.join(files[:6])}; a label file is named as --set {shlex.quote(f'data.{key}={files[0]}')}."
                if files
                else ""
            )
            name = source.path.name if source.path.parent == root else str(source.path)
            raise DataError(f"{root}: no {name}/ in it; expected train/ and val/, or set data.{key}.{flat}{listed}")
    return train, val


def sources_in(root: Path, sources: Iterable[SourceSettings], given: DataSettings) -> list[PageSource]:
    """Where the pages of some sources lie, and how their labels are read."""
    return [
        PageSource(
            root / source.path, source.format or given.format,
            source.format_options if source.format or source.format_options else given.format_options,
            root / source.images if source.images else given.images, source.weight,
        )
        for source in sources
    ]  # fmt: skip


def sources_or_root(root: Path, sources: Iterable[SourceSettings], given: DataSettings) -> list[PageSource]:
    """Some sources of a data folder, or where none of them is there, ``root`` itself as the one.

    Raises:
        DataError: Some are there and some are not.
    """
    found = sources_in(root, sources, given)
    missing = [source.path for source in found if not source.path.exists()]
    if missing and len(missing) < len(found):
        raise DataError(f"{missing[0]}: no such file or folder, beside {len(found) - len(missing)} other sources that are there")
    return found if found and not missing else sources_in(root, [SourceSettings(path=".")], given)


def report_problems(report: DataReport) -> None:
    """Log what was skipped or cut, and a folder in which nothing is to be found."""
    log = get_logger(__name__)
    if report.unread:
        log.warning(
            "files that are no images, and sub-folders, were not read", folder=str(report.root / "images"),
            names=len(report.unread), first=report.unread[0],
        )  # fmt: skip
    for message in report.skipped:
        log.warning("sample skipped", reason=message)
    for message in report.dropped:
        log.warning("region dropped", reason=message)
    if report.instances == report.ignored:
        log.warning(
            "no text that counts in any page", folder=str(report.root), regions=report.instances, of_them_ignored=report.ignored
        )
    for doubt in doubts(report.extents):
        log.warning(f"labels may be in another unit: {doubt}", folder=str(report.root))
    if report.blank:
        log.warning("pages of one colour", folder=str(report.root), pages=len(report.blank), first=report.blank[0])
    if report.outside:
        log.warning("text reaches beyond its page", folder=str(report.root), regions=len(report.outside), first=report.outside[0])
