"""``ocrsdk evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocrsdk.cli.common import (
    CheckpointSetOption,
    FormatOption,
    JsonOption,
    VerboseOption,
    checkpoint_settings,
    file_progress,
    print_json,
    say,
    set_up_output,
    table,
)

if TYPE_CHECKING:
    from ocrsdk.inference import EvaluationResult


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="For instance RUN/checkpoints/best.ckpt.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Data folder, or a label file; its val/ is taken if there is one.")],
    on_bad_sample: Annotated[
        str | None,
        typer.Option(metavar="WHAT", help="stop, or skip: go on without bad samples, and list them.  [default: as in training]"),
    ] = None,
    on_bad_box: Annotated[
        str | None,
        typer.Option(metavar="WHAT", help="stop, or drop: go on without regions that have no area.  [default: as in training]"),
    ] = None,
    format: FormatOption = None,
    sets: CheckpointSetOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Score a checkpoint: precision, recall and hmean at IoU 0.5 (ICDAR 2015 protocol).

    Pages are prepared and judged as in the run that trained it, and OCRSDK_POSTPROCESS__* and OCRSDK_DATA__* variables count.
    """
    given = checkpoint_settings(sets, {"data.on_bad_sample": on_bad_sample, "data.on_bad_box": on_bad_box, "data.format": format})
    set_up_output(verbose)
    from ocrsdk.pipeline import Pipeline

    pipeline = Pipeline.from_checkpoint(checkpoint, given["postprocess"], given["data"], progress=file_progress("evaluating"))
    result = pipeline.evaluate(data)
    print_json(result.as_dict()) if json else _show(result)


def _show(result: EvaluationResult) -> None:
    s = result.score
    row = (f"{s.hmean:.4f}", f"{s.precision:.4f}", f"{s.recall:.4f}", str(s.matched), str(s.det_cared), str(s.gt_cared))
    header = ("hmean", "precision", "recall", "matched", "found", "annotated")
    say(table([(*row, str(s.images))], (*header, "pages")))
    worst = sorted(zip(s.per_image, result.pages, strict=True), key=lambda pair: pair[0].hmean)[:3]
    say()
    say("lowest: " + ", ".join(f"{page.image.name} {score.hmean:.3f}" for score, page in worst))
    if s.invalid_gt or s.invalid_det:
        say(f"not judged, since they cross themselves or are flat: {s.invalid_gt} annotated, {s.invalid_det} found")
