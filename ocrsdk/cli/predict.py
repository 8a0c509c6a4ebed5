"""``ocrsdk predict``."""

from __future__ import annotations

import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocrsdk.cli.common import CheckpointSetOption, VerboseOption, checkpoint_settings, note, say, set_up_output
from ocrsdk.errors import DataError, ImageError, OcrsdkError, SettingsError, nearest
from ocrsdk.logs import json_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ocrsdk.inference import Detector
    from ocrsdk.types import PageDetections

STDIN = Path("-")
POLICIES = ("skip", "stop")


def predict(
    checkpoint: Annotated[Path, typer.Argument(metavar="CHECKPOINT", help="For instance RUN/checkpoints/best.ckpt.")],
    images: Annotated[list[Path], typer.Argument(metavar="IMAGES...", help="Image files, folders of them, pipes; - for stdin.")],
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Also the folders within folders.")] = False,
    json: Annotated[
        Path | None, typer.Option("--json", metavar="OUT", help="Write polygons and scores as JSON; - for stdout.")
    ] = None,
    draw: Annotated[Path | None, typer.Option(metavar="DIR", help="Write the images with polygons drawn.")] = None,
    on_bad_image: Annotated[
        str, typer.Option(metavar="WHAT", help="skip: do the rest, and list bad images at the end; or stop at the first.")
    ] = "skip",
    sets: CheckpointSetOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Find text in images. Polygons are in pixels of the upright image.

    Exit codes: 0 all images searched, 1 all but those that are listed as bad, 2 bad input.
    """
    given = checkpoint_settings(sets)
    set_up_output(verbose)
    if on_bad_image not in POLICIES:
        raise SettingsError(f"--on-bad-image {on_bad_image}: expected skip or stop.{nearest(on_bad_image, POLICIES)}")
    from ocrsdk.pipeline import Pipeline

    pages = list(_pages(images, recursive))
    if on_bad_image == "stop":
        from ocrsdk.data.image import check_image

        for page in pages:
            if not page.is_stream:
                check_image(page.path)  # before the first is searched
    if json is not None and json != STDIN:
        _check_json(json, [checkpoint, *(page.path for page in pages)])
    if draw is not None:
        _check_pictures(draw, pages)
    detector = Pipeline.from_checkpoint(checkpoint, given["postprocess"], given["data"]).detector
    done: list[dict[str, object]] = []
    bad: list[str] = []
    for page in pages:
        try:
            found = page.search(detector, draw)
        except ImageError as error:
            if on_bad_image == "stop":
                _write(json, done)
                raise ImageError(f"{error}. {len(done)} of {len(pages)} images were searched before it") from error
            bad.append(str(error))
            done.append({"image": str(page.path), "error": str(error)})
            continue
        done.append(found.as_dict())
        line = f"{found.image}: {len(found.detections)} regions"
        note(line) if json == STDIN else say(line)
    _write(json, done)
    if bad:
        note(f"{len(bad)} of {len(pages)} images could not be searched:")
        for message in bad:
            note(f"  {message}")
        raise typer.Exit(1)


@dataclass(frozen=True)
class _Page:
    """One image, and what its picture is called."""

    path: Path
    name: Path
    """Below the folder of pictures, without its ending."""
    is_stream: bool = False
    """Read once, when its turn comes: stdin, or a pipe."""

    def search(self, detector: Detector, pictures: Path | None) -> PageDetections:
        """Find its text, and draw it."""
        from ocrsdk.data.drawing import page_picture
        from ocrsdk.data.image import decode_image, read_image, write_image
        from ocrsdk.types import PageDetections

        if self.is_stream:
            pixels = decode_image(sys.stdin.buffer.read() if self.path == STDIN else self.path.read_bytes(), str(self.path))
        else:
            pixels = read_image(self.path)
        found = PageDetections(self.path, (pixels.shape[0], pixels.shape[1]), detector.detect(pixels))
        if pictures is not None:
            write_image(pictures / self.name.with_name(f"{self.name.name}.jpg"), page_picture(found, image=pixels))
        return found


def _pages(images: list[Path], recursive: bool) -> Iterator[_Page]:
    for path in images:
        if path == STDIN:
            yield _Page(STDIN, Path("stdin"), is_stream=True)
        elif path.is_dir():
            yield from _in_folder(path, recursive)
        elif path.exists():
            mode = path.stat().st_mode
            yield _Page(path, Path(path.stem), is_stream=stat.S_ISFIFO(mode) or stat.S_ISCHR(mode))
        else:
            raise DataError(f"{path}: no such file or folder")


def _in_folder(folder: Path, recursive: bool) -> Iterator[_Page]:
    from ocrsdk.data.listing import find_images, other_files

    folders = [folder, *sorted(path for path in folder.rglob("*") if path.is_dir())] if recursive else [folder]
    found = 0
    for inner in folders:
        for path in find_images(inner):
            found += 1
            yield _Page(path, path.relative_to(folder).with_suffix("") if recursive else Path(path.stem))
        others = other_files(inner)
        if files := [name for name in others if not name.endswith("/")]:
            note(f"{inner}: {len(files)} files are no images, and are not read; the first: {files[0]}")
        if not recursive and (inside := [name for name in others if name.endswith("/")]):
            note(f"{inner}: {len(inside)} folders in it are not searched; to search them: --recursive")
    if not found:
        raise DataError(f"{folder}: no images in it" + ("" if recursive else "; folders in it are searched with --recursive"))


def _write(path: Path | None, pages: list[dict[str, object]]) -> None:
    if path is None:
        return
    text = json_text(pages, indent=1)
    if path == STDIN:
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


def _check_pictures(folder: Path, pages: list[_Page]) -> None:
    """Two images of one name would overwrite each other's picture, and no picture may overwrite an image."""
    seen: dict[Path, Path] = {}
    for page in pages:
        if page.name in seen:
            raise DataError(f"{page.path} and {seen[page.name]}: --draw would give both pictures one name; draw them apart")
        seen[page.name] = page.path
    if folder.resolve() in {page.path.resolve().parent for page in pages if not page.is_stream}:
        raise OcrsdkError(f"{folder}: holds images that are read; choose another folder for the drawn ones with --draw")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OcrsdkError(f"{folder}: cannot be created ({error.strerror}); choose another with --draw") from error
