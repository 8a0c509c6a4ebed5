"""``ocrsdk predict``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ocrsdk.cli.common import CheckpointSetOption, VerboseOption, checkpoint_settings, note, say, set_up_output
from ocrsdk.errors import DataError, OcrsdkError
from ocrsdk.logs import json_text


def predict(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="For instance RUN/checkpoints/best.ckpt.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="Image files, or folders of them.")],
    json: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="Write polygons and scores as JSON; - for stdout.")
    ] = None,
    draw: Annotated[Path | None, typer.Option(metavar="DIR", help="Write the images with polygons drawn.")] = None,
    sets: CheckpointSetOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Find text in images. Polygons are in pixels of the upright image."""
    given = checkpoint_settings(sets)
    set_up_output(verbose)
    from ocrsdk.data.annotations import find_images, other_files
    from ocrsdk.data.image import check_image
    from ocrsdk.pipeline import Pipeline

    files: list[Path] = []
    for path in images:
        if path.is_dir():
            inside = find_images(path)
            if not inside:
                raise DataError(f"{path}: no images in it")
            files += inside
            if others := other_files(path):
                note(f"{path}: {len(others)} files are no images, and are not read; the first: {others[0]}")
        elif path.is_file():
            files.append(path)
        else:
            raise DataError(f"{path}: no such file or folder")
    for file in files:
        check_image(file)
    if json is not None and str(json) != "-":
        _check_json(json, [checkpoint, *files])
    if draw is not None:
        _check_names(files)
        if draw.resolve() in {file.resolve().parent for file in files}:
            raise OcrsdkError(f"{draw}: holds images that are read; choose another folder for the drawn ones with --draw")
        try:
            draw.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OcrsdkError(f"{draw}: cannot be created ({error.strerror}); choose another with --draw") from error
    pages: list[dict[str, Any]] = []
    try:
        for page in Pipeline.from_checkpoint(checkpoint, given["postprocess"], given["data"]).iter_predict(files):
            pages.append(page.as_dict())
            line = f"{page.image}: {len(page.detections)} regions"
            note(line) if str(json) == "-" else say(line)
            if draw is not None:
                from ocrsdk.data.drawing import draw_page

                draw_page(page, draw / f"{page.image.stem}.jpg")
    except DataError as error:
        if not pages:
            raise
        _write(json, pages)
        raise DataError(f"{error}. {len(pages)} of {len(files)} images were searched before it") from error
    _write(json, pages)


def _write(path: Path | None, pages: list[dict[str, object]]) -> None:
    if path is None:
        return
    text = json_text(pages, indent=1)
    if str(path) == "-":
        say(text)
        return
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise OcrsdkError(f"{path}: cannot be written ({error.strerror}); choose another with --json") from error


def _check_json(path: Path, files: list[Path]) -> None:
    """Check before any work that it can be a file, and is not one of those that are read."""
    if path.is_dir():
        raise OcrsdkError(f"{path}: is a folder; name a file")
    if not path.absolute().parent.is_dir():
        raise OcrsdkError(f"{path}: {path.parent} is no folder; create it, or choose another with --json")
    if path.resolve() in {file.resolve() for file in files}:
        raise OcrsdkError(f"{path}: is one of the files that are read, and would be lost; choose another with --json")


def _check_names(files: list[Path]) -> None:
    """Two images with one stem would overwrite each other's picture."""
    seen: dict[str, Path] = {}
    for file in files:
        if file.stem in seen:
            raise DataError(f"{file} and {seen[file.stem]}: --draw would give both pictures one name; draw them apart")
        seen[file.stem] = file
