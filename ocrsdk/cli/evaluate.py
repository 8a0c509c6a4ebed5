"""``ocrsdk evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

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
from ocrsdk.errors import DataError, SettingsError, nearest

if TYPE_CHECKING:
    from ocrsdk.inference import EvaluationResult

_IOU = {"matched": "matched", "found": "det_cared", "annotated": "gt_cared"}
PROTOCOLS: dict[str, dict[str, str]] = {
    "icdar-iou": _IOU,
    "cleval": {
        "characters found": "num_char_tp", "claimed": "num_char_det", "annotated": "num_char_gt",
        "merges": "num_merged", "splits": "num_splitted",
    },
    "deteval": {"found": "det_cared", "annotated": "gt_cared", "merges": "merges", "splits": "splits"},
    "totaltext": _IOU,
}  # fmt: skip
"""Name -> the counts that are shown beside its ratios, by heading."""


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
    protocol: Annotated[
        str,
        typer.Option(metavar="NAME", help="icdar-iou: IoU above 0.5; cleval: by characters; deteval: ICDAR 2013; totaltext."),
    ] = "icdar-iou",
    per_image: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a CSV table: scores and mistakes of each page."),
    ] = None,
    sets: CheckpointSetOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Score a checkpoint: precision, recall and hmean by the protocol of ICDAR 2015 (IoU 0.5), or another.

    Pages are prepared and judged as in the run that trained it, and OCRSDK_POSTPROCESS__* and OCRSDK_DATA__* variables count.
    """
    if protocol not in PROTOCOLS:
        raise SettingsError(
            f"no protocol {protocol!r}. There are: {', '.join(PROTOCOLS)}.{nearest(protocol, PROTOCOLS)}", parameter="protocol"
        )
    given = checkpoint_settings(sets, {"data.on_bad_sample": on_bad_sample, "data.on_bad_box": on_bad_box, "data.format": format})
    set_up_output(verbose)
    from ocrsdk.pipeline import Pipeline

    pipeline = Pipeline.from_checkpoint(checkpoint, given["postprocess"], given["data"], progress=file_progress("evaluating"))
    result = pipeline.evaluate(data)
    if per_image is not None:
        _write_table(result, per_image)
    print_json(result.as_dict() | {"protocol": protocol}) if json else _show(result, protocol)


def _write_table(result: EvaluationResult, path: Path) -> None:
    import csv

    rows = cast("list[dict[str, object]]", result.as_dict()["per_page"])
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]) if rows else ["image"])
            writer.writeheader()
            writer.writerows(rows)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error


def _show(result: EvaluationResult, protocol: str) -> None:
    s = result.score
    values, hmeans = result.by(protocol)
    ratios = [f"{values[name]:.4f}" for name in ("hmean", "precision", "recall")]
    counts = [str(values[key]) for key in PROTOCOLS[protocol].values()]
    say(table([(*ratios, *counts, str(s.images))], ("hmean", "precision", "recall", *PROTOCOLS[protocol], "pages")))
    worst = sorted(zip(hmeans, result.pages, strict=True), key=lambda pair: pair[0])[:3]
    say()
    t = result.thresholds
    origin = f"tuned on {result.tuned['pages']} pages of {result.tuned['on']}" if result.tuned else "not tuned"
    say(f"thresholds: {t['threshold']:g}, box {t['box_threshold']:g}, unclip {t['unclip_ratio']:g} ({origin})")
    kinds = [(sum(len(getattr(m, kind)) for m in result.mistakes), kind) for kind in ("misses", "false_alarms", "merges", "splits")]
    say(", ".join(f"{count} {kind.replace('_', ' ')}" for count, kind in kinds) + " (at IoU 0.5)")
    say("lowest: " + ", ".join(f"{page.image.name} {hmean:.3f}" for hmean, page in worst))
    if s.invalid_gt or s.invalid_det:
        say(f"not judged, since they cross themselves or are flat: {s.invalid_gt} annotated, {s.invalid_det} found")
