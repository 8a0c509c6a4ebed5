"""Train text detectors and trust the result.

The public names are resolved on first use, so ``import ocrsdk`` costs nothing. What is not listed here may change without notice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocrsdk.version import __version__ as __version__
from ocrsdk.version import api_version as api_version

if TYPE_CHECKING:
    from ocrsdk.cache.base import CacheBackend as CacheBackend
    from ocrsdk.cache.dataset import CachedDataset as CachedDataset
    from ocrsdk.cache.dataset import content_identity as content_identity
    from ocrsdk.cache.dataset import file_identity as file_identity
    from ocrsdk.cache.folder_backend import FolderBackend as FolderBackend
    from ocrsdk.data.datamodule import DetectionDataModule as DetectionDataModule
    from ocrsdk.data.datamodule import collate as collate
    from ocrsdk.data.dataset import EvalDataset as EvalDataset
    from ocrsdk.data.dataset import TrainDataset as TrainDataset
    from ocrsdk.data.dataset import make_sample as make_sample
    from ocrsdk.data.folder import load_annotations as load_annotations
    from ocrsdk.data.targets import draw_targets as draw_targets
    from ocrsdk.data.transforms import EvalTransform as EvalTransform
    from ocrsdk.data.transforms import TrainTransform as TrainTransform
    from ocrsdk.errors import AnnotationError as AnnotationError
    from ocrsdk.errors import CacheError as CacheError
    from ocrsdk.errors import CheckpointError as CheckpointError
    from ocrsdk.errors import DataError as DataError
    from ocrsdk.errors import ImageError as ImageError
    from ocrsdk.errors import LoggerError as LoggerError
    from ocrsdk.errors import NonFiniteError as NonFiniteError
    from ocrsdk.errors import OcrsdkError as OcrsdkError
    from ocrsdk.errors import PluginError as PluginError
    from ocrsdk.errors import RunFolderError as RunFolderError
    from ocrsdk.errors import SettingsError as SettingsError
    from ocrsdk.errors import TrainingError as TrainingError
    from ocrsdk.formats.base import AnnotationFormat as AnnotationFormat
    from ocrsdk.formats.base import Holds as Holds
    from ocrsdk.formats.base import LabelledPage as LabelledPage
    from ocrsdk.formats.base import PageToWrite as PageToWrite
    from ocrsdk.formats.files import LabelFile as LabelFile
    from ocrsdk.inference import Detector as Detector
    from ocrsdk.loggers.base import LoggerFactory as LoggerFactory
    from ocrsdk.loggers.base import RowLogger as RowLogger
    from ocrsdk.loggers.callback import LogState as LogState
    from ocrsdk.loggers.make import open_run_logger as open_run_logger
    from ocrsdk.metrics.cleval import CLEvalMetric as CLEvalMetric
    from ocrsdk.metrics.deteval import DetEvalMetric as DetEvalMetric
    from ocrsdk.metrics.hmean import HmeanMetric as HmeanMetric
    from ocrsdk.metrics.totaltext import TotalTextMetric as TotalTextMetric
    from ocrsdk.models.dbnet import DBNet as DBNet
    from ocrsdk.models.losses import DBLoss as DBLoss
    from ocrsdk.models.postprocess import PostProcessor as PostProcessor
    from ocrsdk.pipeline import Pipeline as Pipeline
    from ocrsdk.plugins.hookspecs import hookimpl as hookimpl
    from ocrsdk.precision.base import PrecisionStrategy as PrecisionStrategy
    from ocrsdk.precision.gate import check_parity as check_parity
    from ocrsdk.precision.trainer import TrainerPrecision as TrainerPrecision
    from ocrsdk.settings.options import Options as Options
    from ocrsdk.settings.schema import Settings as Settings
    from ocrsdk.settings.sections import AugmentSettings as AugmentSettings
    from ocrsdk.settings.sections import LossSettings as LossSettings
    from ocrsdk.settings.sections import PostProcessSettings as PostProcessSettings
    from ocrsdk.settings.sections import TargetSettings as TargetSettings
    from ocrsdk.types import Annotation as Annotation
    from ocrsdk.types import Batch as Batch
    from ocrsdk.types import Sample as Sample
    from ocrsdk.types import TargetMaps as TargetMaps
    from ocrsdk.types import TextInstance as TextInstance

_HOMES = {
    "Pipeline": "pipeline",
    "Settings": "settings.schema",
    "Detector": "inference",
    "TrainDataset": "data.dataset",
    "EvalDataset": "data.dataset",
    "TrainTransform": "data.transforms",
    "EvalTransform": "data.transforms",
    "make_sample": "data.dataset",
    "collate": "data.datamodule",
    "DetectionDataModule": "data.datamodule",
    "Annotation": "types",
    "TextInstance": "types",
    "Sample": "types",
    "Batch": "types",
    "TargetMaps": "types",
    "TargetSettings": "settings.sections",
    "AugmentSettings": "settings.sections",
    "LossSettings": "settings.sections",
    "PostProcessSettings": "settings.sections",
    "load_annotations": "data.folder",
    "draw_targets": "data.targets",
    "DBNet": "models.dbnet",
    "DBLoss": "models.losses",
    "PostProcessor": "models.postprocess",
    "HmeanMetric": "metrics.hmean",
    "CLEvalMetric": "metrics.cleval",
    "DetEvalMetric": "metrics.deteval",
    "TotalTextMetric": "metrics.totaltext",
    "CachedDataset": "cache.dataset",
    "file_identity": "cache.dataset",
    "content_identity": "cache.dataset",
    "TrainerPrecision": "precision.trainer",
    "check_parity": "precision.gate",
    "open_run_logger": "loggers.make",
    "LogState": "loggers.callback",
    "hookimpl": "plugins.hookspecs",
    "Options": "settings.options",
    "CacheBackend": "cache.base",
    "FolderBackend": "cache.folder_backend",
    "PrecisionStrategy": "precision.base",
    "LoggerFactory": "loggers.base",
    "AnnotationFormat": "formats.base",
    "Holds": "formats.base",
    "LabelledPage": "formats.base",
    "PageToWrite": "formats.base",
    "LabelFile": "formats.files",
    "RowLogger": "loggers.base",
    "OcrsdkError": "errors",
    "SettingsError": "errors",
    "DataError": "errors",
    "AnnotationError": "errors",
    "ImageError": "errors",
    "PluginError": "errors",
    "CacheError": "errors",
    "CheckpointError": "errors",
    "LoggerError": "errors",
    "RunFolderError": "errors",
    "TrainingError": "errors",
    "NonFiniteError": "errors",
}

__all__ = [*_HOMES, "__version__", "api_version"]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(f"ocrsdk.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'ocrsdk' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
