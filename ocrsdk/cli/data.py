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
    from collections.abc import Sequence

    from ocrsdk.data.inspection import Inspection
    from ocrsdk.data.layout import PageSource
    from ocrsdk.settings.schema import Settings
    from ocrsdk.types import Annotation as Page

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
    settings, splits = _splits(path, {"data.format": format, "data.images": image_folder}, config, sets)
    from ocrsdk.data.inspection import Rules, inspect_data
    from ocrsdk.data.preparation import Preparation

    given = settings.data
    rules = Rules(Preparation(given.short_side, given.max_side), settings.augment.scale_max, settings.targets.min_text_size)
    found = inspect_data(splits, rules, images, file_progress("checking"))
    print_json(found.as_dict()) if json else _show(found, None if all else _SHOWN)
    if found.errors:
        raise typer.Exit(1)


def _show(found: Inspection, most: int | None) -> None:
    from ocrsdk.data.inspection import KINDS

    for kind, findings in found.by_kind().items():
        level, title, remedy = KINDS[kind]
        say(f"{level}: {title}: {len(findings):,}  ({remedy})")
        for finding in findings[:most]:
            say("  " + "".join(c if c.isprintable() else repr(c)[1:-1] for c in finding.message))
        if most is not None and len(findings) > most:
            say(f"  ... and {len(findings) - most:,} more; see them with --all, or --json")
        say()
    if found.unlisted:
        say(f"{found.unlisted:,} images are not named by the labels, and are not part of the set")
    formats = " and ".join(found.formats) or "no format"
    warnings = len(found.findings) - found.errors
    for source in found.sources if len(found.sources) > 1 else ():
        of = " and ".join(source.formats) or "no format"
        say(f"{source.path}: {source.pages:,} pages with {source.regions:,} regions ({source.ignored:,} don't-care), {of}")
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
    pairs = [(split, target / split.name) for split in splits] if all(map(Path.exists, splits)) else [(source, target)]
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
def stats(
    path: PathArgument,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Write histograms: .png, .svg or .pdf.")] = None,
    format: FormatOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Pages, regions, text height at the size of evaluation, aspect, share of don't-care; a table, and a plot if asked."""
    settings, splits = _splits(path, {"data.format": format}, config, sets)
    from ocrsdk.data.overview import measure
    from ocrsdk.data.overview import plot as draw
    from ocrsdk.data.preparation import Preparation

    given = settings.data
    pages = [annotation for sources in splits for annotation in _read(sources, settings)]
    smallest = settings.targets.min_text_size / settings.augment.scale_max
    statistics, found = measure(pages, Preparation(given.short_side, given.max_side), smallest, file_progress("measuring"))
    if plot is not None:
        draw(found, smallest, plot)
    if json:
        print_json(statistics.as_dict())
        return
    share = statistics.ignored / statistics.regions if statistics.regions else 0
    say(f"{statistics.pages:,} pages, {statistics.regions:,} regions, {share:.1%} of them don't-care")
    say(f"{statistics.polygons:,} regions with other than four corners, {statistics.characters:,} characters")
    say(f"{statistics.too_small:,} regions too small to count in training (less than {smallest:.1f} pixels tall at evaluation)\n")
    names = {"width": "page width", "height": "page height", "regions": "regions a page", "text_height": "text height"}
    rows = [
        (names.get(name, name), *(f"{value:.4g}" for value in vars(spread).values())) for name, spread in statistics.spreads.items()
    ]
    say(table(rows, ("", "least", "5 %", "25 %", "median", "75 %", "95 %", "most")))
    if plot is not None:
        say(f"\n{plot}")


@app.command()
def show(
    path: PathArgument,
    count: Annotated[int, typer.Option("-n", min=1, max=400, help="Pages, chosen at random.")] = 16,
    targets: Annotated[bool, typer.Option("--targets", help="The four maps that a detector learns, beside each page.")] = False,
    augment: Annotated[bool, typer.Option("--augment", help="Random crops, as the network will see them.")] = False,
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="Picture to write: .png or .jpg.")] = Path("pages.png"),
    seed: Annotated[int, typer.Option(min=0, help="Of the choice, and of the crops.")] = 0,
    format: FormatOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
) -> None:
    """A contact sheet: pages with their regions (red; grey: don't-care), their target maps, or what augmentation makes of them."""
    settings, splits = _splits(path, {"data.format": format}, config, sets)
    import numpy as np

    from ocrsdk.data.image import write_image
    from ocrsdk.data.overview import View, contact_sheet, whole_page
    from ocrsdk.data.targets import draw_targets
    from ocrsdk.data.transforms import EvalTransform, TrainTransform
    from ocrsdk.geometry import apply_matrix_to_all

    pages = [annotation for sources in splits for annotation in _read(sources, settings)]
    rng = np.random.default_rng(seed)
    chosen = [pages[i] for i in sorted(rng.permutation(len(pages))[:count])]
    page = EvalTransform(settings.data.short_side, settings.data.max_side)
    transform = TrainTransform(settings.data.crop, settings.augment, page)

    def view(annotation: Page) -> View:
        image, polygons, ignore, _ = whole_page(annotation)
        if augment:
            image, matrix = transform(image, polygons, rng)
            polygons = apply_matrix_to_all(polygons, matrix)
        elif targets:
            image, matrix = page(image)
            polygons = apply_matrix_to_all(polygons, matrix)
        maps = draw_targets(polygons, ignore, image.shape[0], image.shape[1], settings.targets) if targets else None
        return image, polygons, ignore, maps

    write_image(out, contact_sheet(chosen, view))
    say(f"{out}: {len(chosen)} of {len(pages):,} pages")


@app.command()
def split(
    source: Annotated[Path, typer.Argument(metavar="SRC", help="A folder of pages and labels, or a label file.")],
    target: Annotated[Path, typer.Argument(metavar="DST", help="New folder; gets train/ and val/.")],
    val: Annotated[float, typer.Option(min=0.001, max=0.999, help="Share of the pages for validation.")] = 0.2,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same division.")] = 0,
    near: Annotated[int, typer.Option(min=0, max=256, help="Pages that differ in so many of 256 bits go together.")] = 12,
    copy: Annotated[bool, typer.Option("--copy", help="Copy the images; else there are links to them.")] = False,
    format: FormatOption = None,
    image_folder: ImageFolderOption = None,
    json: JsonOption = False,
) -> None:
    """Divide pages into train/ and val/ at random, near-duplicates together, so that the score is not too good.

    Labels are written in the format they have. Pages that look alike (a difference hash tells) stay on one side.
    """
    from ocrsdk.data.convert import split_set

    done = split_set(
        source, target, val, seed, near, format=format, images=image_folder, pictures="copy" if copy else "link",
        progress=file_progress("comparing"),
    )  # fmt: skip
    if json:
        print_json(done)
    else:
        say(f"{target}: {done['train']:,} training and {done['val']:,} validation pages")
        say(f"{done['near_duplicates']:,} pages are near-duplicates of others, and on the side of these")


def _splits(
    path: Path, options: dict[str, object], config: Path | None, sets: list[str] | None
) -> tuple[Settings, list[list[PageSource]]]:
    """Settings, and the folders or label files that PATH stands for: those of training and of validation, or PATH itself."""
    from ocrsdk.runs.check import sources_or_root

    settings, _ = load_settings(config, sets, options)
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    given = settings.data
    train, val = (sources_or_root(path, sources, given) for sources in (given.train, given.val))
    itself = path / "."
    if train == val or itself in (train[0].path, val[0].path):
        return settings, [sources_or_root(path, (), given)]
    return settings, [train, val]


def _read(sources: list[PageSource], settings: Settings) -> Sequence[Page]:
    """The pages of some sources, bad ones told and left out."""
    from ocrsdk.runs.check import read_split, report_problems

    lenient = settings.data.model_copy(update={"on_bad_sample": "skip", "on_bad_box": "drop"})
    split = read_split(sources, settings.model_copy(update={"data": lenient}), "header")
    for report in split.reports:
        report_problems(report)
    return split.annotations


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
