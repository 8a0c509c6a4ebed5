"""``ocrsdk data``."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocrsdk.cli.common import (
    ConfigOption,
    FormatOption,
    JsonOption,
    SetOption,
    file_progress,
    load_settings,
    print_json,
    say,
    table,
)
from ocrsdk.errors import DataError, SettingsError

if TYPE_CHECKING:
    from ocrsdk.data.inspection import Inspection

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Check data, convert labels, generate pages.")

PathArgument = Annotated[Path, typer.Argument(metavar="PATH", help="A folder, one that holds train/ and val/, or a label file.")]
ImageFolderOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="Where images lie.  [default: looked for in and beside PATH]")
]


@app.command()
def formats(json: JsonOption = False) -> None:
    """Every annotation format: what it is, and what it can hold."""
    from dataclasses import asdict

    from ocrsdk.formats.make import all_formats

    kinds = all_formats()
    if json:
        print_json([{"name": k.name, "summary": k.summary, "per_image": k.per_image, **asdict(k.holds)} for k in kinds])
        return
    rows = [(k.name, k.holds.corners, "yes" if k.holds.text else "no", "yes" if k.holds.ignore else "no", k.summary) for k in kinds]
    say(table(rows, ("format", "corners", "text", "don't-care", "")))


_SHOWN = 10


@app.command()
def check(
    path: PathArgument,
    images: Annotated[bool, typer.Option("--images", help="Decode every image, too; else headers and end marks are read.")] = False,
    format: FormatOption = None,
    image_folder: ImageFolderOption = None,
    all: Annotated[bool, typer.Option("--all", help=f"Every finding, not the first {_SHOWN} of each kind.")] = False,
    config: ConfigOption = None,
    sets: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Everything that is wrong or odd in labels and images, by kind, with file and line.

    Errors would stop a training; warnings are likely mistakes, with the likely cause. Sizes and scales are those of the settings.

    Exit codes: 0 no error; 1 an error was found.
    """
    settings, _ = load_settings(config, sets, {"data.format": format, "data.images": image_folder})
    from ocrsdk.data.inspection import Rules, inspect_data
    from ocrsdk.data.preparation import Preparation

    given = settings.data
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    splits = [path / given.train, path / given.val]
    if not all_there(splits):
        splits = [path]
    rules = Rules(Preparation(given.short_side, given.max_side), settings.augment.scale_max, settings.targets.min_text_size)
    found = inspect_data(
        splits, rules, given.format, given.format_options, given.images, images, file_progress("checking"),
    )  # fmt: skip
    print_json(found.as_dict()) if json else _show(found, None if all else _SHOWN)
    if found.errors:
        raise typer.Exit(1)


def all_there(splits: list[Path]) -> bool:
    """Whether there is a set for each split, and they are two."""
    return all(split.exists() for split in splits) and splits[0] != splits[1]


def _show(found: Inspection, most: int | None) -> None:
    from ocrsdk.data.inspection import KINDS

    for kind, findings in found.by_kind().items():
        level, title, remedy = KINDS[kind]
        say(f"{level}: {title}: {len(findings):,}  ({remedy})")
        for finding in findings[:most]:
            say(f"  {finding.message}")
        if most is not None and len(findings) > most:
            say(f"  ... and {len(findings) - most:,} more; see them with --all, or --json")
        say()
    if found.unlisted:
        say(f"{found.unlisted:,} images are not named by the labels, and are not part of the set")
    formats = " and ".join(found.formats) or "no format"
    warnings = len(found.findings) - found.errors
    say(f"{found.pages:,} pages with {found.regions:,} regions ({found.ignored:,} don't-care), {formats}")
    say(f"{found.errors:,} errors, {warnings:,} warnings")


@app.command()
def convert(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A folder, one that holds train/ and val/, or a label file.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="New folder.")],
    to: Annotated[str, typer.Option(metavar="FORMAT", help="The format to write; see: ocrsdk data formats.")],
    format: FormatOption = None,
    image_folder: ImageFolderOption = None,
    pictures: Annotated[str, typer.Option("--images", metavar="HOW", help="link, copy, or none: labels only.")] = "link",
    on_bad_sample: Annotated[
        str, typer.Option(metavar="WHAT", help="stop, or skip: leave bad samples out, and list them.")
    ] = "stop",
    on_bad_box: Annotated[str, typer.Option(metavar="WHAT", help="stop, or drop: leave regions without area out.")] = "stop",
    json: JsonOption = False,
) -> None:
    """Write the labels of SRC in another format, with links to its images beside them.

    What the target can hold is kept exactly; what it cannot is counted and told.
    """
    for name, value, known in (
        ("images", pictures, ("link", "copy", "none")), ("on-bad-sample", on_bad_sample, ("stop", "skip")),
        ("on-bad-box", on_bad_box, ("stop", "drop")),
    ):  # fmt: skip
        if value not in known:
            raise SettingsError(f"{value!r} is none of {', '.join(known)}", parameter=name)
    from ocrsdk.data.convert import Conversion
    from ocrsdk.data.convert import convert as write

    splits = [source / "train", source / "val"]
    pairs = [(split, target / split.name) for split in splits] if all_there(splits) else [(source, target)]
    done: list[Conversion] = []
    for place, folder in pairs:
        done.append(
            write(
                place, folder, to, format=format, images=image_folder, pictures=pictures,  # type: ignore[arg-type]
                on_bad_sample=on_bad_sample, on_bad_box=on_bad_box, progress=file_progress("converting"),  # type: ignore[arg-type]
            )
        )  # fmt: skip
    if json:
        print_json([conversion.as_dict() for conversion in done])
        return
    for conversion in done:
        read = " and ".join(conversion.source) or "nothing"
        counts = f"{conversion.pages:,} pages with {conversion.regions:,} regions"
        say(f"{conversion.folder}: {counts}, from {read} to {conversion.target}")
        for what, count in conversion.lost.items():
            say(f"  {count:,} {what}")
        for message in (*conversion.skipped, *conversion.dropped):
            say(f"  left out: {message}")


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
