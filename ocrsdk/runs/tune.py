"""Thresholds chosen on annotated pages, and kept in the checkpoint together with what they were chosen on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ocrsdk.data.folder import data_fingerprint
from ocrsdk.data.image import read_image
from ocrsdk.errors import DataError
from ocrsdk.metrics.hmean import HmeanMetric
from ocrsdk.models.checkpoint import read_checkpoint
from ocrsdk.models.postprocess import PostProcessor
from ocrsdk.training.checkpoint import AtomicCheckpointIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from ocrsdk.inference import Detector
    from ocrsdk.types import Annotation

BOX_THRESHOLDS = tuple(round(0.3 + 0.05 * i, 2) for i in range(11))
UNCLIP_RATIOS = tuple(round(1.0 + 0.1 * i, 2) for i in range(13))


@dataclass(frozen=True)
class Tuning:
    """Scores over a grid of two thresholds."""

    box_thresholds: tuple[float, ...]
    unclip_ratios: tuple[float, ...]
    hmean: NDArray[np.float64]
    """(unclip ratios, box thresholds), ICDAR protocol at IoU 0.5."""
    before: dict[str, float]
    """``box_threshold``, ``unclip_ratio`` and ``hmean`` as the checkpoint had them."""
    best: dict[str, float]
    """The same, chosen; as before where nothing is better."""
    pages: int
    data: str
    """Fingerprint of the pages."""
    name: str
    """What the pages were called."""

    def record(self) -> dict[str, Any]:
        """What stands in a tuned checkpoint."""
        return {"on": self.name, "data": self.data, "pages": self.pages, "before": self.before, "best": self.best}

    def as_dict(self) -> dict[str, object]:
        """JSON-ready."""
        return {
            **self.record(), "box_thresholds": list(self.box_thresholds), "unclip_ratios": list(self.unclip_ratios),
            "hmean": [[round(float(value), 6) for value in row] for row in self.hmean],
        }  # fmt: skip


def tune(
    detector: Detector,
    annotations: Sequence[Annotation],
    name: str,
    box_thresholds: Sequence[float] = BOX_THRESHOLDS,
    unclip_ratios: Sequence[float] = UNCLIP_RATIOS,
    pages: Iterable[Annotation] | None = None,
) -> Tuning:
    """Score every pair of thresholds; the network sees each page once.

    Args:
        detector: Of the checkpoint, with its own thresholds.
        annotations: Pages that were not trained on, and on which no final score will be given.
        name: What to call them.
        box_thresholds: Values to try; the checkpoint's own is added.
        unclip_ratios: The same.
        pages: ``annotations`` again, wrapped for a progress bar.

    Raises:
        DataError: There is no text to find.
    """
    own = detector.postprocessor.settings
    boxes, ratios = sorted({*box_thresholds, own.box_threshold}), sorted({*unclip_ratios, own.unclip_ratio})
    metrics = [[HmeanMetric() for _ in boxes] for _ in ratios]
    finders = [PostProcessor(own.model_copy(update={"box_threshold": boxes[0], "unclip_ratio": ratio})) for ratio in ratios]
    if all(annotation.ignore.all() for annotation in annotations):
        raise DataError(f"{name}: no text that counts on its {len(annotations)} pages; thresholds cannot be chosen on it")
    for annotation in annotations if pages is None else pages:
        image = read_image(annotation.image)
        prob_map, matrix = detector.probability_map(image)
        for row, find in zip(metrics, finders, strict=True):
            found = find(prob_map, matrix, (image.shape[0], image.shape[1]))
            for metric, least in zip(row, boxes, strict=True):
                kept = [detection.polygon for detection in found if detection.score >= least]
                metric.update(annotation.polygons, annotation.ignore, kept)
    hmean = np.array([[metric.compute().hmean for metric in row] for row in metrics])
    before = (ratios.index(own.unclip_ratio), boxes.index(own.box_threshold))
    far = np.abs(np.arange(len(ratios))[:, None] - before[0]) + np.abs(np.arange(len(boxes))[None] - before[1])
    best = np.unravel_index(np.lexsort((far.ravel(), -hmean.ravel()))[0], hmean.shape)  # of equals, the nearest to what there was

    def told(at: tuple[Any, ...]) -> dict[str, float]:
        return {"box_threshold": boxes[at[1]], "unclip_ratio": ratios[at[0]], "hmean": float(hmean[at[0], at[1]])}

    return Tuning(
        tuple(boxes), tuple(ratios), hmean, told(before), told(best), len(annotations), data_fingerprint(annotations), name
    )


def save_tuned(checkpoint: Path, tuning: Tuning, out: Path) -> None:
    """Write the checkpoint with the chosen thresholds, and what they were chosen on; ``out`` may be the file itself.

    Raises:
        CheckpointError: It cannot be read, or written.
    """
    content = read_checkpoint(checkpoint)
    chosen = {name: tuning.best[name] for name in ("box_threshold", "unclip_ratio")}
    metadata = content["ocrsdk"]
    content["ocrsdk"] = {**metadata, "postprocess": {**metadata["postprocess"], **chosen}, "tuned": tuning.record()}
    AtomicCheckpointIO().save_checkpoint(content, out)


def plot_tuning(tuning: Tuning, target: Path) -> None:
    """Draw hmean over the box threshold, a curve for each unclip ratio: .png, .svg or .pdf.

    Raises:
        DataError: It cannot be written.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for index, (ratio, row) in enumerate(zip(tuning.unclip_ratios, tuning.hmean, strict=True)):
        colour = colormaps["viridis"](index / max(len(tuning.unclip_ratios) - 1, 1))
        axes.plot(tuning.box_thresholds, row, color=colour, label=f"{ratio:g}", marker=".", markersize=4)
    for name, at, marker in (("before", tuning.before, "o"), ("best", tuning.best, "*")):
        axes.plot(at["box_threshold"], at["hmean"], marker, color="#c03a2b", markersize=11, fillstyle="none", label=name)
    axes.set_xlabel("box_threshold")
    axes.set_ylabel("hmean at IoU 0.5")
    axes.set_title(f"{tuning.pages} pages of {tuning.name}", fontsize=10)
    axes.legend(title="unclip_ratio", fontsize=8, ncols=2)
    axes.grid(alpha=0.3)
    try:
        figure.savefig(target, dpi=120)
    except (OSError, ValueError) as error:
        raise DataError(f"{target}: cannot be written ({error}); its ending may be .png, .svg or .pdf") from error
