"""``ocrsdk tune``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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


def tune(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="For instance RUN/checkpoints/best.ckpt.")],
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Data folder, or a label file; its val/ is taken if there is one.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a new checkpoint.  [default: CHECKPOINT itself]")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Draw the curves: .png, .svg or .pdf.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the best thresholds, and write no checkpoint.")] = False,
    format: FormatOption = None,
    sets: CheckpointSetOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Choose box threshold and unclip ratio on annotated pages, and keep them in the checkpoint.

    Take pages that were not trained on, and give the final score on others: on these it would be too good. ``ocrsdk evaluate``
    says what the thresholds of a checkpoint were chosen on.
    """
    given = checkpoint_settings(sets, {"data.format": format})
    set_up_output(verbose)
    from ocrsdk.pipeline import Pipeline

    pipeline = Pipeline.from_checkpoint(checkpoint, given["postprocess"], given["data"], progress=file_progress("tuning"))
    tuning = pipeline.tune(data, out=None if dry_run else out or checkpoint)
    if plot is not None:
        from ocrsdk.runs.tune import plot_tuning

        plot_tuning(tuning, plot)
    if json:
        print_json(tuning.as_dict())
        return
    rows = [
        (name, f"{at['box_threshold']:g}", f"{at['unclip_ratio']:g}", f"{at['hmean']:.4f}")
        for name, at in (("before", tuning.before), ("best", tuning.best))
    ]
    say(table(rows, ("", "box_threshold", "unclip_ratio", "hmean")))
    say(f"\nchosen on {tuning.pages} pages of {tuning.name}")
    say("no checkpoint is written" if dry_run else f"checkpoint  {out or checkpoint}")
