"""``ocrsdk data``."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated

import typer

from ocrsdk.cli.common import file_progress, say
from ocrsdk.errors import DataError

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Generate data.")


@app.callback()
def _group() -> None:
    """Keeps ``synth`` a command of its own name."""


@app.command()
def synth(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="New folder; gets train/ and val/.")],
    pages: Annotated[int, typer.Option(min=1, help="Training pages.")] = 160,
    val_pages: Annotated[int, typer.Option(min=1, help="Validation pages.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same pages.")] = 0,
    scenes: Annotated[
        float, typer.Option(min=0, max=1, help="Share of pages with rotated and bent words; the others are receipts.")
    ] = 0.25,
    exist_ok: Annotated[bool, typer.Option("--exist-ok", help="Do nothing if the folder holds these very pages already.")] = False,
) -> None:
    """Generate pages with exact polygons: receipts, rotated and bent words."""
    from ocrsdk.data.synth import write_pages

    recipe = f"ocrsdk data synth --pages {pages} --val-pages {val_pages} --seed {seed} --scenes {scenes:g}\n"
    marker = out / "SYNTH"
    if exist_ok and marker.is_file() and marker.read_text(encoding="utf-8") == recipe:
        say(f"{out}: is there already")
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise DataError(f"{out}: exists and is not empty; choose another folder, or remove it")
    partial = out.absolute().with_name(f".{out.absolute().name}.{os.getpid()}")  # so that OUT is whole, or is not there
    try:
        for split, count, split_seed in (("train", pages, 2 * seed), ("val", val_pages, 2 * seed + 1)):
            for _ in file_progress(f"drawing {split}")(write_pages(partial / split, count, split_seed, scenes), count):
                pass
        (partial / marker.name).write_text(recipe, encoding="utf-8")
        partial.rename(out)
    except OSError as error:
        raise DataError(f"{out}: cannot be written ({error.strerror}); choose another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    say(f"{out}: {pages} training and {val_pages} validation pages. Next: ocrsdk train {out} --max-time 4m")
