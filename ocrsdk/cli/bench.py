"""``ocrsdk bench``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from ocrsdk.cli.common import JsonOption, note, print_json, say, set_up_output, table
from ocrsdk.errors import SettingsError, nearest

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Measure this machine. (The cache: ocrsdk cache bench)")


@app.callback()
def _group() -> None:
    """Keeps ``precision`` a command of its own name."""


@app.command()
def precision(
    strategy: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Repeatable.  [default: fp32, bf16, fp16-safe]")
    ] = None,
    backbone: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Repeatable.  [default: mobilenet, resnet18]")] = None,
    size: Annotated[list[int] | None, typer.Option(metavar="PIXELS", help="Image side; repeatable.  [default: 320, 640]")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Images in a step.")] = 2,
    steps: Annotated[int, typer.Option(min=1, help="Steps of which the median is taken, after two.")] = 9,
    device: Annotated[str, typer.Option(metavar="KIND", help="auto, cpu or cuda.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.  [default: all]")] = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DATA", help="For the memory of cache policies; generated if not given.")
    ] = None,
    cache: Annotated[bool, typer.Option(help="Also the memory of training with each cache policy.")] = True,
    json: JsonOption = False,
) -> None:
    """Images/s, memory and share of the GEMM rate of training steps, for each strategy, model and image size.

    The share says how much a faster format can still gain: near 100 %, only fewer operations help.
    """
    set_up_output()
    if device not in ("auto", "cpu", "cuda"):
        raise SettingsError(f"--device {device}: expected auto, cpu or cuda")
    from ocrsdk.settings.sections import Backbone

    known = get_args(Backbone)
    for name in backbone or ():
        if name not in known:
            raise SettingsError(f"--backbone {name}: expected one of {', '.join(known)}.{nearest(name, known)}")
    for side in size or ():
        if side < 32 or side % 32:
            raise SettingsError(f"--size {side}: expected a multiple of 32; try {max(32, round(side / 32) * 32)}")
    from ocrsdk.precision.base import EmulatedError
    from ocrsdk.precision.make import make_strategy
    from ocrsdk.precision_tools.bench import Measured, cache_memory, cells, run

    if device == "auto":
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
    options: dict[str, dict[str, Any]] = {}
    refused: dict[str, str] = {}
    for name in strategy or ("fp32", "bf16", "fp16-safe"):
        options[name] = {}
        try:
            make_strategy(name, {}, device)
        except EmulatedError as error:
            refused[name], options[name] = str(error), {"force": True}
    groups = cells(options, backbone or ("mobilenet", "resnet18"), size or (320, 640), batch, device, threads)
    measured: list[Measured] = []
    for number, group in enumerate(groups, 1):
        first, names = group[0], ", ".join(cell.strategy for cell in group)
        note(f"{number} of {len(groups)}: {first.backbone}, {batch} x {first.size} x {first.size}: {names}")
        measured += run(group, steps)
    policies = dict(cache_memory(data)) if cache else {}
    if json:
        print_json({"steps": [m.as_dict() for m in measured], "refused": refused, "cache_policies": policies})
        return
    rows = []
    for m in measured:
        c = m.cell
        name = " ".join((c.strategy, *({"tf32": "+ TF32", "force": "(forced)"}[option] for option in c.options or ())))
        base = next(b for b in measured if (b.cell.backbone, b.cell.size) == (c.backbone, c.size))
        rows.append((
            c.backbone, f"{c.batch} x {c.size}", name, f"{m.images_per_second:.2f}",
            f"{m.ratio_to(base):.2f}", f"{m.peak_memory_bytes / 2**20:,.0f}",
            f"{m.gemm_share:.0%}", f"{m.first_loss:.4f}",
        ))  # fmt: skip
    say(f"device: {measured[0].device}")
    say(table(rows, ("backbone", "images", "strategy", "images/s", "ratio", "peak MiB", "of GEMM", "first loss")))
    for reason in refused.values():
        say(f"\n{reason}")
    if policies:
        say()
        say(table([(p, f"{b / 2**20:,.0f}") for p, b in policies.items()], ("cache.policy", "peak MiB of the training process")))
