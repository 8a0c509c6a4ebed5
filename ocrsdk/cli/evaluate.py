"""``ocrsdk evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocrsdk.cli.common import JsonOption, VerboseOption, file_progress, print_json, say, set_up_output, table

if TYPE_CHECKING:
    from ocrsdk.results import EvaluationResult


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="For instance RUN/checkpoints/best.ckpt.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Data folder; its val/ is taken if there is one.")],
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Score a checkpoint: precision, recall and hmean at IoU 0.5 (ICDAR 2015 protocol)."""
    set_up_output(verbose)
    from ocrsdk.pipeline import Pipeline

    pipeline = Pipeline.from_checkpoint(checkpoint, progress=file_progress("evaluating"))
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
