"""The built-in plug-ins, registered as a third-party package would register its own.

Implementations are imported inside each function: asking for a cache backend loads neither torch nor Lightning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocrsdk.plugins.hookspecs import hookimpl

if TYPE_CHECKING:
    from ocrsdk.cache.base import CacheBackend
    from ocrsdk.formats.base import AnnotationFormat
    from ocrsdk.loggers.base import LoggerFactory
    from ocrsdk.precision.base import PrecisionStrategy


@hookimpl
def ocrsdk_register_cache_backends() -> list[type[CacheBackend]]:
    """On a local disk, or none."""
    from ocrsdk.cache.disk.backend import DiskCache
    from ocrsdk.cache.null import NullCache

    return [DiskCache, NullCache]


@hookimpl
def ocrsdk_register_precision_strategies() -> list[type[PrecisionStrategy]]:
    """Single precision, two half precisions, and the best that has proved itself."""
    from ocrsdk.precision.auto import Auto
    from ocrsdk.precision.bf16 import BF16
    from ocrsdk.precision.fp16_safe import FP16Safe
    from ocrsdk.precision.fp32 import FP32

    return [FP32, FP16Safe, BF16, Auto]


@hookimpl
def ocrsdk_register_loggers() -> list[type[LoggerFactory]]:
    """A JSON line per row, Weights & Biases, a table, or nothing."""
    from ocrsdk.loggers.factories import CsvLoggerFactory, JsonlLoggerFactory, NullLoggerFactory, WandbLoggerFactory

    return [JsonlLoggerFactory, WandbLoggerFactory, CsvLoggerFactory, NullLoggerFactory]


@hookimpl
def ocrsdk_register_annotation_formats() -> list[type[AnnotationFormat]]:
    """What public data sets and labelling tools write."""
    from ocrsdk.formats.coco import Coco, CocoText, TextOCR
    from ocrsdk.formats.icdar import Icdar13, Icdar15, IcdarPolygons, Mlt, Rctw, Sroie
    from ocrsdk.formats.json_pages import Cord, Funsd, LabelMe
    from ocrsdk.formats.json_sets import MMOCR, DocTR, Words
    from ocrsdk.formats.label_studio import LabelStudio
    from ocrsdk.formats.paddleocr import PaddleOCR
    from ocrsdk.formats.totaltext import TotalText
    from ocrsdk.formats.xml_pages import Alto, Page

    lines = [Icdar15, Mlt, Rctw, IcdarPolygons, Icdar13, Sroie, TotalText, PaddleOCR]
    return [*lines, DocTR, MMOCR, Coco, CocoText, TextOCR, Words, LabelStudio, LabelMe, Funsd, Cord, Page, Alto]
