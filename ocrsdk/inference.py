"""Run a trained detector: checkpoint -> images -> polygons with scores. No Lightning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch

from ocrsdk.data.image import MAX_PIXELS, as_image, read_image
from ocrsdk.data.preparation import PAGE_MULTIPLE
from ocrsdk.data.transforms import EvalTransform
from ocrsdk.errors import CheckpointError, ImageError
from ocrsdk.metrics.cleval import CLEvalMetric, CLEvalScore
from ocrsdk.metrics.deteval import DetEvalMetric, DetEvalScore
from ocrsdk.metrics.hmean import HmeanMetric, Score
from ocrsdk.metrics.mistakes import Mistakes, find_mistakes
from ocrsdk.metrics.totaltext import TotalTextMetric
from ocrsdk.models.checkpoint import LoadedCheckpoint, load_checkpoint
from ocrsdk.models.postprocess import PostProcessor
from ocrsdk.precision.device import device_kind
from ocrsdk.settings.options import build, problem
from ocrsdk.settings.sections import PostProcessSettings
from ocrsdk.types import Annotation, Detection, PageDetections

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from PIL.Image import Image

    from ocrsdk.data.folder import DataReport
    from ocrsdk.metrics.hmean import ImageScore

    ImageLike = str | Path | bytes | IO[bytes] | NDArray[np.uint8] | Image


@dataclass(frozen=True)
class EvaluationResult:
    """Score and detections of a set of pages."""

    score: Score
    pages: list[PageDetections]
    cleval: CLEvalScore
    """CLEval over all pages."""
    cleval_per_image: tuple[CLEvalScore, ...]
    deteval: DetEvalScore
    """DetEval over all pages."""
    deteval_per_image: tuple[DetEvalScore, ...]
    totaltext: Score
    """As Total-Text counts."""
    mistakes: tuple[Mistakes, ...]
    """Of each page."""
    thresholds: dict[str, Any]
    """Of the post-processing."""
    tuned: dict[str, Any]
    """What they were chosen on, if by ``ocrsdk tune``."""
    reports: tuple[DataReport, ...] = ()
    """What was found while the pages were read, for each source."""

    def by(self, protocol: str) -> tuple[dict[str, Any], list[float]]:
        """Ratios and counts by a protocol, and the hmean of each page.

        Args:
            protocol: ``icdar-iou``, ``cleval``, ``deteval`` or ``totaltext``.
        """
        scores: dict[str, tuple[Score | CLEvalScore | DetEvalScore, Sequence[ImageScore | CLEvalScore | DetEvalScore]]] = {
            "icdar-iou": (self.score, self.score.per_image),
            "cleval": (self.cleval, self.cleval_per_image),
            "deteval": (self.deteval, self.deteval_per_image),
            "totaltext": (self.totaltext, self.totaltext.per_image),
        }
        total, pages = scores[protocol]
        return dict(total.as_dict()), [page.hmean for page in pages]

    def as_dict(self) -> dict[str, object]:
        """JSON-ready: the score, and the counts of each page."""
        per_page = [
            {
                "image": str(page.image),
                "matched": image.matched,
                "gt_cared": image.gt_cared,
                "det_cared": image.det_cared,
                "hmean": image.hmean,
                "precision": image.precision,
                "recall": image.recall,
                "misses": len(wrong.misses),
                "false_alarms": len(wrong.false_alarms),
                "merges": len(wrong.merges),
                "splits": len(wrong.splits),
                "cleval_hmean": characters.hmean,
                "cleval_precision": characters.precision,
                "cleval_recall": characters.recall,
                "deteval_hmean": objects.hmean,
                "totaltext_hmean": whole.hmean,
            }
            for page, image, wrong, characters, objects, whole in zip(
                self.pages,
                self.score.per_image,
                self.mistakes,
                self.cleval_per_image,
                self.deteval_per_image,
                self.totaltext.per_image,
                strict=True,
            )
        ]
        skipped = [message for report in self.reports for message in report.skipped]
        return {
            **self.score.as_dict(), "cleval": self.cleval.as_dict(), "deteval": self.deteval.as_dict(),
            "totaltext": self.totaltext.as_dict(), "thresholds": self.thresholds, "tuned": self.tuned,
            "skipped": skipped, "per_page": per_page,
        }  # fmt: skip


class Detector:
    """Finds text in images.

    Args:
        checkpoint: A checkpoint file, or what ``load_checkpoint`` returned.
        device: ``cpu``, ``cuda`` or ``mps``; ``auto`` is the fastest that is here.
        postprocess: Values that replace those of the checkpoint, by name in ``PostProcessSettings``.
        prepare: The same, of ``EvalTransform``: ``short_side``, ``max_side``.

    Raises:
        CheckpointError: The checkpoint cannot be used.
        SettingsError: There is no such device.
    """

    def __init__(
        self,
        checkpoint: LoadedCheckpoint | Path | str,
        device: str = "cpu",
        postprocess: Mapping[str, object] | None = None,
        prepare: Mapping[str, object] | None = None,
    ) -> None:
        loaded = load_checkpoint(Path(checkpoint)) if isinstance(checkpoint, Path | str) else checkpoint
        self.device = torch.device(device_kind(device))
        self.tuned = {} if {"box_threshold", "unclip_ratio"} & set(postprocess or {}) else loaded.tuned
        """What the thresholds were chosen on, if they were."""
        self.model = loaded.model.to(self.device).to_memory_format(self.device.type).eval()
        try:
            self.transform = EvalTransform(**{**loaded.prepare, **(prepare or {})})
            self.postprocessor = PostProcessor(build(PostProcessSettings, {**loaded.postprocess, **(postprocess or {})}))
        except TypeError as error:
            raise CheckpointError(f"{loaded.path}: holds preparation or post-processing unknown here ({error})") from error
        except ValueError as error:  # of pydantic
            name, found, message = problem(error, PostProcessSettings)  # type: ignore[arg-type]
            raise CheckpointError(f"{loaded.path}: its post-processing cannot be used: {name} = {found!r}: {message}") from error

    def probability_map(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """(H, W) float32 probabilities of the prepared page, and the 3x3 matrix from ``image`` to it.

        A strip that ``max_side`` would make less than half as large as ``short_side`` asks for is read in tiles, at full size.

        Args:
            image: (H, W, 3) uint8 RGB, upright.
        """
        if self.transform.preparation.is_strip(*image.shape[:2]):
            return self._strip(image)
        page, matrix = self.transform(image)
        return self._probabilities(page), matrix

    def _strip(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """As ``probability_map``, in tiles along the longer side, each with a margin that belongs to its neighbour."""
        most = MAX_PIXELS // self.transform.short_side
        page, matrix = replace(self.transform, max_side=most)(image)
        axis = int(page.shape[1] > page.shape[0])
        length, tile = page.shape[axis], self.transform.max_side // PAGE_MULTIPLE * PAGE_MULTIPLE
        margin = tile // 8 // PAGE_MULTIPLE * PAGE_MULTIPLE
        along = page if axis == 0 else page.swapaxes(0, 1)
        found = np.empty(along.shape[:2], np.float32)
        for start in range(0, max(length - 2 * margin, 1), tile - 2 * margin):
            end = min(start + tile, length)
            inner = start + (margin if start else 0)
            part = along[start:end] if axis == 0 else along[start:end].swapaxes(0, 1)
            probabilities = self._probabilities(np.ascontiguousarray(part))
            found[inner:end] = (probabilities if axis == 0 else probabilities.T)[inner - start :]
        return np.ascontiguousarray(found if axis == 0 else found.T), matrix

    def _probabilities(self, page: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(H, W) probabilities of a page of (H, W, 3)."""
        batch = torch.from_numpy(page).permute(2, 0, 1)[None].to(self.device)
        with torch.inference_mode():
            probabilities: NDArray[np.float32] = self.model(batch).prob_logits.float().sigmoid()[0, 0].cpu().numpy()
        return probabilities

    def detect(self, image: NDArray[np.uint8]) -> list[Detection]:
        """Text in one image, (H, W, 3) uint8 RGB; polygons are in its pixels.

        Raises:
            ImageError: The array is no such image.
        """
        image = as_image(image, "image")
        prob_map, matrix = self.probability_map(image)
        return self.postprocessor(prob_map, matrix, (image.shape[0], image.shape[1]))

    def detect_page(self, image: ImageLike, name: str = "image") -> PageDetections:
        """Text in one image, wherever it comes from; polygons are in pixels of the upright original.

        Args:
            image: A path, the bytes of an image file, a binary file object, an (H, W, 3) or (H, W) uint8 array in RGB, or a PIL
                image.
            name: What an image that is no file is called in the result and in errors.

        Raises:
            ImageError: It cannot be read.
        """
        path = Path(image) if isinstance(image, str | Path) else Path(getattr(image, "filename", "") or name)
        pixels = read_image(path) if isinstance(image, str | Path) else as_image(image, str(path))
        return PageDetections(path, (pixels.shape[0], pixels.shape[1]), self.detect(pixels))

    def evaluate(self, annotations: Iterable[Annotation]) -> EvaluationResult:
        """Score against annotated pages by each protocol, and what went wrong on each page."""
        metric, characters, objects, whole = HmeanMetric(), CLEvalMetric(), DetEvalMetric(), TotalTextMetric()
        pages, mistakes = list[PageDetections](), list[Mistakes]()
        for annotation in annotations:
            page = self.detect_page(annotation.image)
            pages.append(page)
            truth, ignore, found = annotation.polygons, annotation.ignore, [d.polygon for d in page.detections]
            score = metric.update(truth, ignore, found)
            characters.update(truth, [instance.text for instance in annotation.instances], ignore, found)
            objects.update(truth, ignore, found)
            whole.update(truth, ignore, found)
            mistakes.append(find_mistakes(truth, ignore, found, score))
        thresholds = self.postprocessor.settings.model_dump(mode="json")
        return EvaluationResult(
            metric.compute(), pages, characters.compute(), tuple(characters.per_image), objects.compute(), tuple(objects.per_image),
            whole.compute(), tuple(mistakes), thresholds, self.tuned,
        )  # fmt: skip


def each_image(images: ImageLike | Iterable[ImageLike]) -> Iterator[tuple[ImageLike, str]]:
    """(image, name) of everything that ``Pipeline.predict`` takes: one image or many, folders among them.

    Raises:
        ImageError: It is neither, or a folder holds no image.
    """
    from ocrsdk.data.listing import find_images

    if isinstance(images, str | Path) and Path(images).is_dir():
        found = find_images(Path(images))
        if not found:
            raise ImageError(f"{images}: no images in it")
        yield from ((path, path.name) for path in found)
    elif _is_one(images):
        yield images, "image"  # type: ignore[misc]
    elif isinstance(images, Iterable):
        for number, image in enumerate(images):
            if isinstance(image, str | Path):
                yield from each_image(image)
            elif _is_one(image):
                yield image, f"image {number}"  # type: ignore[misc]
            else:
                raise ImageError(f"image {number}: a {type(image).__name__} is no image; {_TAKEN}")
    else:
        raise ImageError(f"a {type(images).__name__} is no image; {_TAKEN}")


_TAKEN = "give paths, folders, bytes, binary files, uint8 arrays in RGB or PIL images, one or many"


def _is_one(image: object) -> bool:
    """Whether it is one image: a path, bytes, a file, a PIL image, or an array of two or three dimensions."""
    if isinstance(image, np.ndarray):
        return image.ndim < 4
    return isinstance(image, str | Path | bytes) or hasattr(image, "read") or hasattr(image, "getexif")
