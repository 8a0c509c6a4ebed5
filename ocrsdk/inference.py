"""Run a trained detector: checkpoint -> images -> polygons with scores. No Lightning."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ocrsdk.data.image import read_image
from ocrsdk.data.transforms import EvalTransform
from ocrsdk.errors import CheckpointError
from ocrsdk.metrics.hmean import HmeanMetric
from ocrsdk.models.checkpoint import LoadedCheckpoint, load_checkpoint
from ocrsdk.models.postprocess import PostProcessor
from ocrsdk.runs.results import EvaluationResult
from ocrsdk.types import Annotation, Detection, PageDetections

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import numpy as np
    from numpy.typing import NDArray


class Detector:
    """Finds text in images.

    Args:
        checkpoint: What ``load_checkpoint`` returned.
        device: Torch device name.
        postprocess: Values that replace those of the checkpoint, by field name of ``PostProcessor``.
        prepare: The same, of ``EvalTransform``.

    Raises:
        CheckpointError: The checkpoint's own values cannot be used.
    """

    def __init__(
        self,
        checkpoint: LoadedCheckpoint,
        device: str = "cpu",
        postprocess: dict[str, Any] | None = None,
        prepare: dict[str, Any] | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.model = checkpoint.model.to(self.device).lay_out(self.device.type).eval()
        try:
            self.transform = EvalTransform(**{**checkpoint.prepare, **(prepare or {})})
            self.postprocessor = PostProcessor(**{**checkpoint.postprocess, **(postprocess or {})})
        except TypeError as error:
            raise CheckpointError(f"{checkpoint.path}: holds preparation or post-processing unknown here ({error})") from error

    @classmethod
    def load(cls, path: Path | str, device: str = "cpu") -> Detector:
        """A detector from a checkpoint file.

        Raises:
            CheckpointError: The file cannot be used.
        """
        return cls(load_checkpoint(Path(path)), device)

    def probability_map(self, image: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """(H, W) float32 probabilities of the prepared page, and the 3x3 matrix from ``image`` to it.

        Args:
            image: (H, W, 3) uint8 RGB, upright.
        """
        page, matrix = self.transform(image)
        batch = torch.from_numpy(page).permute(2, 0, 1)[None].to(self.device)
        with torch.inference_mode():
            probabilities = self.model(batch).prob_logits.float().sigmoid()
        return probabilities[0, 0].cpu().numpy(), matrix

    def detect(self, image: NDArray[np.uint8]) -> list[Detection]:
        """Text in one image, (H, W, 3) uint8 RGB; polygons are in its pixels."""
        prob_map, matrix = self.probability_map(image)
        return self.postprocessor(prob_map, matrix, (image.shape[0], image.shape[1]))

    def detect_file(self, path: Path) -> PageDetections:
        """Text in one image file.

        Raises:
            ImageError: The file cannot be read.
        """
        image = read_image(path)
        return PageDetections(path, (image.shape[0], image.shape[1]), self.detect(image))

    def evaluate(self, annotations: Iterable[Annotation]) -> EvaluationResult:
        """Score against annotated pages, ICDAR protocol at IoU 0.5."""
        metric, pages = HmeanMetric(), []
        for page, annotation in self._detect_all(annotations):
            pages.append(page)
            metric.update(annotation.polygons, annotation.ignore, [d.polygon for d in page.detections])
        return EvaluationResult(metric.compute(), pages)

    def _detect_all(self, annotations: Iterable[Annotation]) -> Iterator[tuple[PageDetections, Annotation]]:
        for annotation in annotations:
            yield self.detect_file(annotation.image), annotation
