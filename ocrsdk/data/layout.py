"""Which files of a data set belong together: label files, and the images that they are about.

A set is a folder, or one label file. In a folder, images lie in ``images/`` or the like, in the folder itself, or below it, and
label files in ``labels/`` or the like, in the folder itself, or beside the images. Where a format has a file for each image, names
tell what belongs together; where it has one for all, the paths in it do: relative to the folder, to the file, or to ``images/``.
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from ocrsdk.errors import AnnotationError, DataError
from ocrsdk.formats.files import LabelFile
from ocrsdk.formats.make import all_formats, hint, hinted, make_format, read_pages, recognised, recognises

if TYPE_CHECKING:
    from ocrsdk.formats.base import AnnotationFormat, LabelledPage

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpg", "jpegs", "photos", "scans")
LABEL_FOLDERS = (
    "labels", "label", "annotations", "annotation", "anns", "gt", "gts", "ground_truth", "groundtruth", "box", "boxes", "json",
    "page", "xml", "alto", "ufo", "txt",
)  # fmt: skip
_SAMPLE = 12
"""Label files that tell the format of a folder."""
_NO_LABELS = frozenset({"readme.txt", "license.txt", "requirements.txt", "filestate.txt", "rec_gt.txt", "classes.txt"})


class Entry(NamedTuple):
    """A page of a data set: an image, and what its label is read from."""

    image: Path
    label: Path
    kind: AnnotationFormat
    page: LabelledPage | None
    """Read already, where one file holds the labels of all images."""

    def read(self) -> LabelledPage:
        """The labels.

        Raises:
            AnnotationError: The file cannot be understood.
        """
        if self.page is not None:
            return self.page
        file = LabelFile(self.label)
        pages = list(read_pages(self.kind, file))
        if len(pages) != 1:
            raise file.error(f"{len(pages)} pages in it; the format {self.kind.name} has one file for each image")
        if (faults := pages[0].faults) and len(faults) > len(pages[0].instances):  # most of it is wrong: of another format?
            faults[0] = faults[0]._replace(message=faults[0].message + hint(self.kind, file))
        return pages[0]


class Layout(NamedTuple):
    """The pages of a data set."""

    entries: list[Entry]
    problems: list[DataError]
    """Images without a label, labels without an image, and the like."""
    unread: list[str]
    """Names in the folder of images that are no images by their ending; sub-folders end in ``/``."""
    unlisted: int = 0
    """Images beside those that the labels name, where one file holds all labels."""


def find_pages(
    root: Path, format: str | None = None, options: Mapping[str, object] | None = None, images: Path | None = None
) -> Layout:
    """The pages of a data set.

    Args:
        root: A folder, or a label file.
        format: Of the labels; recognised by their content and names if None.
        options: Of the format.
        images: Where the images lie, if it cannot be guessed.

    Raises:
        DataError: There is nothing of the kind, or labels are of no known format.
    """
    kind = make_format(format, options) if format is not None else None
    if not root.exists():
        raise DataError(f"{root}: no such file or folder" if root.suffix else f"{root}: no such folder")
    if images is not None and not images.is_dir():
        raise DataError(f"{images}: no such folder of images")
    if root.is_file():
        return _of_files([root], kind, options, root.parent, images)
    if not root.is_dir():
        raise DataError(f"{root}: is neither a folder nor a file")
    image_folders = [images] if images is not None else _image_folders(root)
    label_folders = _named(root, LABEL_FOLDERS)
    if not label_folders:
        places = [root, *(image_folders if root not in image_folders else []), *_sub_folders(root)]
        label_folders = [folder for folder in dict.fromkeys(places) if any(_labels_in(folder, kind))][:1]
    files = [path for folder in label_folders for path in _labels_in(folder, kind)]
    if not files:  # of a set as a whole, beside labels/ that is empty
        files = list(_labels_in(root, kind))
    if kind is not None and not kind.per_image:
        return _of_set(_one_of(files, kind, root), kind, root, image_folders)
    found = [path for folder in image_folders for path in find_images(folder)]
    if found and label_folders:
        layout = _pair(found, files, kind, options, label_folders[0])
        if (
            kind is not None
            and not layout.entries
            and files
            and not any(recognises(kind, LabelFile(path)) for path in files[:_SAMPLE])
        ):
            raise _other(files, kind)
        if len(layout.entries) > 0 or kind is not None:
            return layout._replace(unread=other_files(image_folders[0]) if image_folders != [root] else [])
    if kind is None and (whole := _set_files(files, root, options)) is not None:
        return _of_set(*whole, root, image_folders)
    if found and label_folders:
        return layout
    if not files:
        what = f"no label files in it (looked for {', '.join(_endings(kind))} here, in labels/ and the like)"
        raise DataError(f"{root}: {what}" + (f"; {len(found)} images" if found else "; expected images/ and labels/ in it"))
    return _of_files(files, kind, options, root, images)


def _image_folders(root: Path) -> list[Path]:
    """Folders that directly hold images: those of a usual name, else the folder itself, else its sub-folders."""
    for places in (_named(root, IMAGE_FOLDERS), [root], _sub_folders(root)):
        if found := [folder for folder in places if any(_images_in(folder))]:
            return found
    if named := _named(root, IMAGE_FOLDERS):
        raise DataError(f"{named[0]}: no images in it (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")
    return []


def _named(root: Path, names: Iterable[str]) -> list[Path]:
    there = {folder.name.lower(): folder for folder in _sub_folders(root)}
    return [there[name] for name in names if name in there]


def _sub_folders(root: Path) -> list[Path]:
    try:
        with os.scandir(root) as entries:
            return sorted(Path(entry.path) for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    except OSError as error:
        raise DataError(f"{root}: cannot be read ({error.strerror})") from error


def _endings(kind: AnnotationFormat | None) -> list[str]:
    return list(kind.endings) if kind is not None else sorted({ending for other in all_formats() for ending in other.endings})


def _labels_in(folder: Path, kind: AnnotationFormat | None) -> Iterator[Path]:
    endings = tuple(_endings(kind))
    for path in sorted(_visible(folder)):
        if path.name.lower().endswith(endings) and path.name.lower() not in _NO_LABELS:
            yield path


def find_images(folder: Path) -> list[Path]:
    """Image files directly in ``folder``, sorted by name."""
    return sorted(_images_in(folder))


def _images_in(folder: Path) -> Iterator[Path]:
    return (path for path in _visible(folder) if path.suffix.lower() in IMAGE_SUFFIXES)


def _visible(folder: Path) -> Iterator[Path]:
    """Files that are not hidden, and links that lead nowhere: a pipe or a socket would be waited for."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith(".") and (_is_file(entry) or (entry.is_symlink() and not Path(entry.path).exists())):
                    yield Path(entry.path)
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror})") from error


def _is_file(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_file()
    except OSError:  # a loop of links
        return False


def other_files(folder: Path) -> list[str]:
    """What else lies in a folder of images, sorted, with ``/`` behind sub-folders; hidden names and systems' own do not count."""
    images = {path.name for path in find_images(folder)}
    with os.scandir(folder) as entries:
        names = {entry.name + ("/" if entry.is_dir() else "") for entry in entries if not entry.name.startswith(".")}
    return sorted(names - images - {"Thumbs.db", "desktop.ini"})


def plain_name(name: str) -> str:
    """The name, the same on every system: composed characters, endings in lower case."""
    stem, suffix = os.path.splitext(unicodedata.normalize("NFC", name))  # noqa: PTH122 - of a name, not of a path
    if suffix.lower() == ".txt" and Path(stem).suffix.lower() in IMAGE_SUFFIXES:
        stem = plain_name(stem)
    known = {".txt", ".csv", ".json", ".xml", *IMAGE_SUFFIXES}
    return stem + (suffix.lower() if suffix.lower() in known else suffix)


# ------------------------------------------------------------------------------------------------- a label file an image


def _names(image: str, kinds: Sequence[AnnotationFormat], forced: bool) -> dict[str, list[AnnotationFormat]]:
    """Names that the label of an image may have, and the formats that give them; best first."""
    found: dict[str, list[AnnotationFormat]] = {}
    stem = image.rpartition(".")[0] or image
    for kind in kinds:
        names = kind.label_names(image)
        if forced:
            names += tuple(f"{before}{ending}" for ending in kind.endings for before in (f"gt_{stem}", stem, image))
        for name in dict.fromkeys(plain_name(name) for name in names):
            found.setdefault(name, []).append(kind)
    return found


def _pair(
    images: Sequence[Path], files: Sequence[Path], kind: AnnotationFormat | None, options: Mapping[str, object] | None, folder: Path
) -> Layout:
    """Match images with label files by name."""
    kinds = [kind] if kind is not None else [other for other in all_formats() if other.per_image]
    problems, labels = list[DataError](), dict[str, Path]()
    for path in files:
        if (twin := labels.setdefault(plain_name(path.name), path)) != path:
            problems.append(DataError(f"{path}: would be the label of the same image as {twin.name}; remove one"))
    used: dict[str, Path] = {}
    matched: list[tuple[Path, Path, tuple[str, ...]]] = []
    for image in images:
        possible = _names(plain_name(image.name), kinds, kind is not None)
        names = [name for name in possible if name in labels]
        if not names:
            expected = folder / next(iter(possible))
            problems.append(DataError(f"{image}: no label file; expected {expected} (empty for a page without text)"))
        elif len(names) > 1:
            problems.append(DataError(f"{image}: two label files, {names[0]} and {names[1]}; remove one"))
        elif names[0] in used:
            problems.append(
                DataError(f"{image}: shares {labels[names[0]]} with {used[names[0]].name}; rename one image and its label")
            )
        else:
            matched.append((image, labels[names[0]], tuple(other.name for other in possible[names[0]])))
        used.update(dict.fromkeys(names, image))
    strays = [path for name, path in labels.items() if name not in used]
    problems += [DataError(f"{path}: a label without an image in {images[0].parent}") for path in strays]
    by_names: dict[tuple[str, ...], AnnotationFormat] = {}
    for group in dict.fromkeys(names for _, _, names in matched):
        by_names[group] = kind or _kind_of_group([path for _, path, names in matched if names == group], group, options)
    return Layout([Entry(image, path, by_names[names], None) for image, path, names in matched], problems, [])


def _kind_of_group(paths: Sequence[Path], names: tuple[str, ...], options: Mapping[str, object] | None) -> AnnotationFormat:
    """The format of label files whose names are those of some formats, the first of which is meant where nothing tells.

    Raises:
        AnnotationError: Two fit equally.
    """
    kinds = [make_format(name) for name in names]
    step = max(1, len(paths) // (2 * _SAMPLE))
    sample = [file for file in map(LabelFile, paths[::step][: 4 * _SAMPLE]) if not file.is_blank][:_SAMPLE]
    scores = {kind.name: (sum(recognises(kind, file) for file in sample), kind.specific) for kind in kinds}
    best = max(scores.values())
    winners = [kind for kind in kinds if scores[kind.name] == best]
    if best[0] and len(winners) > 1:
        raise AnnotationError(f"{sample[0].path}: looks like {' or '.join(k.name for k in winners)}; say which with --format")
    return make_format(winners[0].name if best[0] else names[0], options)


# --------------------------------------------------------------------------------------------------- one file for a set


def _set_files(files: Sequence[Path], root: Path, options: Mapping[str, object] | None) -> tuple[Path, AnnotationFormat] | None:
    """The one file that holds the labels of all images, and its format."""
    kinds = [kind for kind in all_formats() if not kind.per_image]
    found = []
    for path in files[: 2 * _SAMPLE]:
        file = LabelFile(path)
        found += [(path, kind) for kind in kinds if path.name.lower().endswith(kind.endings) and recognises(kind, file)]
    if len({path for path, _ in found}) > 1:
        names = ", ".join(sorted({path.name for path, _ in found}))
        raise DataError(f"{root}: several files hold labels of a whole set: {names}; name one of them instead of the folder")
    if len(found) > 1:
        raise AnnotationError(f"{found[0][0]}: looks like {' or '.join(k.name for _, k in found)}; say which with --format")
    return (found[0][0], make_format(found[0][1].name, options)) if found else None


def _one_of(files: Sequence[Path], kind: AnnotationFormat, root: Path) -> Path:
    fitting = [path for path in files if recognises(kind, LabelFile(path))] if len(files) > 1 else list(files)
    if len(fitting) == 1:
        return fitting[0]
    if not files:
        raise DataError(f"{root}: no label file in it (looked for {', '.join(kind.endings)}); name the file itself")
    if not fitting:
        raise _other(files, kind)
    raise DataError(f"{root}: {len(fitting)} files of the format {kind.name}; name one of them instead of the folder")


def _other(files: Sequence[Path], kind: AnnotationFormat) -> AnnotationError:
    """The error for label files that are not of the format that was asked for."""
    file = next((file for file in map(LabelFile, files[:_SAMPLE]) if not file.is_blank), LabelFile(files[0]))
    return hinted(AnnotationError(f"{file.path}: not of the format {kind.name}"), kind, file)


def _of_files(
    files: Sequence[Path], kind: AnnotationFormat | None, options: Mapping[str, object] | None, root: Path, images: Path | None
) -> Layout:
    """Label files without images beside them: what they say, or their names, must lead to images elsewhere."""
    if kind is None:
        sample = [file for file in map(LabelFile, files[:_SAMPLE]) if not file.is_blank] or [LabelFile(files[0])]
        kind = recognised(sample, options)
    bases = _Places(files[0].parent, root, [images] if images is not None else [])
    if not kind.per_image:
        if len(files) > 1:
            raise DataError(f"{root}: {len(files)} files of the format {kind.name}; name one of them instead of the folder")
        return _of_set(files[0], kind, root, [images] if images is not None else [])
    entries, problems, seen = list[Entry](), list[DataError](), dict[Path, Path]()
    for path in files:
        image = bases.labelled_by(path.name, kind)
        if image is None and (named := _named_in(path, kind)):
            image = bases.find(named)
        if image is None:
            problems.append(DataError(f"{path}: a label without an image; where do images lie? --image-folder, or data.images"))
        elif image in seen:
            problems.append(DataError(f"{path}: would be the label of the same image as {seen[image].name}; remove one"))
        else:
            seen[image] = path
            entries.append(Entry(image, path, kind, None))
    if not entries and not any(recognises(kind, LabelFile(path)) for path in files[:_SAMPLE]):
        raise _other(files, kind)
    return Layout(entries, problems, [])


def _named_in(path: Path, kind: AnnotationFormat) -> str:
    try:
        return next((page.image for page in read_pages(kind, LabelFile(path))), "")
    except AnnotationError:
        return ""  # told when the page is read


def _of_set(file: Path, kind: AnnotationFormat, root: Path, image_folders: Sequence[Path]) -> Layout:
    bases = _Places(file.parent, root, image_folders)
    entries, problems, seen = list[Entry](), list[DataError](), dict[Path, str]()
    for page in read_pages(kind, LabelFile(file)):
        image = bases.find(page.image)
        where = f"{file}:{page.file.line(page.where)}"
        if image is None:
            problems.append(
                DataError(f"{where}: no image {page.image!r} found (looked below {', '.join(map(str, bases.places[:3]))}, ...)")
            )
        elif image in seen:
            problems.append(AnnotationError(f"{where}: {page.image!r} is the image of {seen[image]!r}, too; keep one"))
        else:
            seen[image] = page.image
            entries.append(Entry(image, file, kind, page))
    there = sum(sum(1 for _ in _images_in(folder)) for folder in image_folders)
    return Layout(entries, problems, [], max(0, there - len(seen)))


class _Places:
    """Finds images by what labels say of them.

    Args:
        labels: The folder of the label files.
        root: The folder of the set.
        first: Folders of images that are known.
    """

    def __init__(self, labels: Path, root: Path, first: Sequence[Path]) -> None:
        around = dict.fromkeys([root, labels, labels.parent, root.parent])
        named = [folder / name for folder in around for name in IMAGE_FOLDERS]
        self.places = [*first, *around, *(folder for folder in named if folder.is_dir())]
        self._listed: dict[Path, dict[str, Path]] = {}
        self._by_label: dict[str, Path] = {}

    def find(self, named: str) -> Path | None:
        """The image file of a name or path; the path counts first, then the name alone."""
        if not named or "\0" in named:
            return None
        for way in dict.fromkeys((named, named.replace("\\", "/"))):
            path = PurePosixPath(way)
            for parent in (*(place / path.parent for place in self.places), *self.places):
                if (found := self._list(parent).get(plain_name(path.name))) is not None:
                    return found
        return None

    def labelled_by(self, label: str, kind: AnnotationFormat) -> Path | None:
        """The image whose label has this name."""
        if not self._by_label:
            for place in reversed(self.places):
                for image in self._list(place).values():
                    self._by_label.update(dict.fromkeys(_names(plain_name(image.name), [kind], True), image))
        name = plain_name(label)
        return self._by_label.get(name) or self._by_label.get(name[name.find("gt_") :])  # ICDAR writes more before gt_

    def _list(self, folder: Path) -> dict[str, Path]:
        if folder not in self._listed:
            try:
                found = {plain_name(path.name): path for path in _images_in(folder)}
            except (DataError, ValueError):  # no such folder, or no name for one
                found = {}
            self._listed[folder] = found
        return self._listed[folder]


Progress = Callable[[Iterable[Path], int], Iterable[Path]]
"""Wraps files that are being worked through, given how many there are, for a progress bar."""
