"""Which files of a data set belong together: label files, and the images that they are about.

A set is a folder, or one label file. In a folder, images lie in ``images/`` or the like, in the folder itself, or below it, and
label files in ``labels/`` or the like, in the folder itself, or beside the images. Where a format has a file for each image, names
tell what belongs together; where it has one for all, the paths in it do: relative to the folder, to the file, or to ``images/``.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from ocrsdk.data.listing import IMAGE_SUFFIXES, Folders, other_files, plain_name, suffix_of
from ocrsdk.errors import AnnotationError, DataError
from ocrsdk.formats.files import LabelFile
from ocrsdk.formats.make import all_formats, hint, hinted, make_format, read_pages, recognised, recognises
from ocrsdk.plugins.manager import call

if TYPE_CHECKING:
    from ocrsdk.data.listing import Listing
    from ocrsdk.formats.base import AnnotationFormat, LabelledPage

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "jpg", "jpegs", "photos", "scans")
LABEL_FOLDERS = (
    "labels", "label", "annotations", "annotation", "anns", "gt", "gts", "ground_truth", "groundtruth", "box", "boxes", "json",
    "page", "xml", "alto", "ufo", "txt",
)  # fmt: skip
_SAMPLE = 12
"""Label files that tell the format of a folder."""
_NO_LABELS = frozenset({"readme.txt", "license.txt", "requirements.txt", "filestate.txt", "rec_gt.txt", "classes.txt"})


class PageSource(NamedTuple):
    """Where a set of pages lies, and how its labels are read."""

    path: Path
    """A folder, or a label file."""
    format: str | None = None
    """Of the labels; recognised if None."""
    options: Mapping[str, object] = MappingProxyType({})
    """Of the format."""
    images: Path | None = None
    """Where the images lie, if it cannot be guessed."""
    weight: float = 1.0
    """How often each page is drawn in an epoch."""


class Entry:
    """A page of a data set: an image, and what its label is read from.

    Args:
        folder: Of the image.
        name: Of the image in it.
        state: ``file_state`` of the image when its folder was looked at.
        source: Its label file, the part of one that is about it, or what was read from one already.
        kind: The format.
    """

    __slots__ = ("_source", "folder", "kind", "name", "state")

    def __init__(
        self, folder: Path, name: str, state: int, source: Path | LabelFile | LabelledPage, kind: AnnotationFormat
    ) -> None:
        self.folder, self.name, self.state, self._source, self.kind = folder, name, state, source, kind

    @property
    def image(self) -> Path:
        """The image file."""
        return self.folder / self.name

    @property
    def label(self) -> Path:
        """The label file."""
        source = self._source
        return source if isinstance(source, Path) else source.path if isinstance(source, LabelFile) else source.file.path

    @property
    def is_one_of_many(self) -> bool:
        """Whether the label file is about other pages, too."""
        return not isinstance(self._source, Path)

    def read(self) -> LabelledPage:
        """The labels.

        Raises:
            AnnotationError: The file cannot be understood.
        """
        source = self._source
        if not isinstance(source, Path | LabelFile):
            return source
        file = LabelFile(source) if isinstance(source, Path) else source
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
    root: Path,
    format: str | None = None,
    options: Mapping[str, object] | None = None,
    images: Path | None = None,
    folders: Folders | None = None,
) -> Layout:
    """The pages of a data set.

    Args:
        root: A folder, or a label file.
        format: Of the labels; recognised by their content and names if None.
        options: Of the format.
        images: Where the images lie, if it cannot be guessed.
        folders: Keeps what is looked at.

    Raises:
        DataError: There is nothing of the kind, or labels are of no known format.
    """
    folders = folders if folders is not None else Folders()
    kind = make_format(format, options) if format is not None else None
    if not root.exists():
        raise DataError(f"{root}: no such file or folder" if root.suffix else f"{root}: no such folder")
    if images is not None and not images.is_dir():
        raise DataError(f"{images}: no such folder of images")
    if root.is_file():
        folders.note(root)
        return _of_files([root], kind, options, root.parent, images, folders)
    if not root.is_dir():
        raise DataError(f"{root}: is neither a folder nor a file")
    image_folders = [images] if images is not None else _image_folders(root, folders)
    label_folders = _named(root, LABEL_FOLDERS, folders)
    if not label_folders:
        places = [root, *(image_folders if root not in image_folders else []), *_sub_folders(root, folders)]
        label_folders = [folder for folder in dict.fromkeys(places) if any(_labels_in(folder, kind, folders))][:1]
    files = [path for folder in label_folders for path in _labels_in(folder, kind, folders)]
    if not files:  # of a set as a whole, beside labels/ that is empty
        files = list(_labels_in(root, kind, folders))
    if kind is not None and not kind.per_image:
        return _of_set(_one_of(files, kind, root), kind, root, image_folders, folders)
    found = [folders.list(folder) for folder in image_folders if folders.list(folder).images]
    endings = tuple(_endings(kind))
    strange = [folder / name for folder in label_folders for name in folders.list(folder).folders if name.lower().endswith(endings)]
    if found and label_folders and (kind is not None or _may_pair(found, files)):
        pairs = _pair(found, files, kind, options, label_folders[0], strange)
        if kind is not None and not pairs.entries and _none_is(kind, files):
            raise _other(files, kind)
        if pairs.entries or kind is not None:
            return pairs._replace(unread=other_files(image_folders[0]) if image_folders != [root] else [])
    if kind is None and (whole := _set_files(files, root, options)) is not None:
        return _of_set(*whole, root, image_folders, folders)
    if found and label_folders:
        return _pair(found, files, kind, options, label_folders[0], strange)
    if not files:
        what = f"no label files in it (looked for {', '.join(_endings(kind))} here, in labels/ and the like)"
        count = sum(len(listing.images) for listing in found)
        raise DataError(f"{root}: {what}" + (f"; {count} images" if found else "; expected images/ and labels/ in it"))
    return _of_files(files, kind, options, root, images, folders)


def _image_folders(root: Path, folders: Folders) -> list[Path]:
    """Folders that directly hold images: those of a usual name, else the folder itself, else its sub-folders."""
    named = _named(root, IMAGE_FOLDERS, folders)
    for places in (named, [root], _sub_folders(root, folders)):
        if found := [folder for folder in places if folders.list(folder).images]:
            return found
    if named:
        raise DataError(f"{named[0]}: no images in it (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")
    return []


def _named(root: Path, names: Iterable[str], folders: Folders) -> list[Path]:
    there = {folder.name.lower(): folder for folder in _sub_folders(root, folders)}
    return [there[name] for name in names if name in there]


def _sub_folders(root: Path, folders: Folders) -> list[Path]:
    return [root / name for name in folders.list(root).folders]


def _endings(kind: AnnotationFormat | None) -> list[str]:
    return list(kind.endings) if kind is not None else sorted({ending for other in all_formats() for ending in other.endings})


def _labels_in(folder: Path, kind: AnnotationFormat | None, folders: Folders) -> Iterator[Path]:
    endings = tuple(_endings(kind))
    for name in folders.list(folder).files:
        if name.lower().endswith(endings) and name.lower() not in _NO_LABELS:
            yield folder / name


# ------------------------------------------------------------------------------------------------- a label file an image


def _names(image: str, kinds: Sequence[AnnotationFormat], forced: bool) -> dict[str, list[AnnotationFormat]]:
    """Names that the label of an image may have, and the formats that give them; best first."""
    found: dict[str, list[AnnotationFormat]] = {}
    stem = image.rpartition(".")[0] or image
    for kind in kinds:
        names = kind.label_names(image)
        if forced:
            names += tuple(f"{before}{ending}" for ending in kind.endings for before in (f"gt_{stem}", stem, image))
        for name in dict.fromkeys(map(plain_name, names)):
            found.setdefault(name, []).append(kind)
    return found


def _may_pair(images: Sequence[Listing], files: Sequence[Path]) -> bool:
    """Whether the name of any label file ends like that of an image; where there are many of them, they do."""
    if len(files) * 10 > sum(len(listing.images) for listing in images):
        return True
    for path in files:
        label = plain_name(path.name)
        while label:
            ends = [label[start:] for start in range(len(label))]
            names = [end + suffix for end in ends for suffix in ("", *IMAGE_SUFFIXES)]
            if any(listing.image(name) is not None for listing in images for name in names):
                return True
            label = label.rpartition(".")[0]
    return False


def _pair(
    images: Sequence[Listing],
    files: Sequence[Path],
    kind: AnnotationFormat | None,
    options: Mapping[str, object] | None,
    folder: Path,
    strange: Sequence[Path],
) -> Layout:
    """Match images with label files by name; ``strange`` are folders where label files were expected."""
    kinds = [kind] if kind is not None else [other for other in all_formats() if other.per_image]
    problems = [DataError(f"{path}: is a folder, where a label file was expected") for path in strange]
    labels: dict[str, Path] = {}
    for path in files:
        if (twin := labels.setdefault(plain_name(path.name), path)) != path:
            problems.append(DataError(f"{path}: would be the label of the same image as {twin.name}; remove one"))
    used: dict[str, str] = {}
    groups: dict[tuple[str, ...], list[Path]] = {}
    matched: list[tuple[Listing, int, Path, tuple[str, ...]]] = []
    for listing in images:
        for at, file in enumerate(listing.files):
            if suffix_of(file) not in IMAGE_SUFFIXES:
                continue
            possible = _names(plain_name(file), kinds, kind is not None)
            names = [name for name in possible if name in labels]
            if not names:
                expected = folder / next(iter(possible))
                problems.append(
                    DataError(f"{listing.path / file}: no label file; expected {expected} (empty for a page without text)")
                )
            elif len(names) > 1:
                problems.append(DataError(f"{listing.path / file}: two label files, {names[0]} and {names[1]}; remove one"))
            elif names[0] in used:
                problems.append(
                    DataError(
                        f"{listing.path / file}: shares {labels[names[0]]} with {used[names[0]]}; rename one image and its label"
                    )
                )
            else:
                group = tuple([other.name for other in possible[names[0]]])
                of_group = groups.setdefault(group, [])
                of_group.append(labels[names[0]])
                matched.append((listing, at, labels[names[0]], group))
            for name in names:
                used[name] = file
    strays = [path for name, path in labels.items() if name not in used]
    problems += [DataError(f"{path}: a label without an image in {images[0].path}") for path in strays]
    by_names = {group: kind or _kind_of_group(paths, group, options) for group, paths in groups.items()}
    entries = [
        Entry(listing.path, listing.files[at], listing.states[at], path, by_names[group]) for listing, at, path, group in matched
    ]
    return Layout(entries, problems, [])


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


def _none_is(kind: AnnotationFormat, files: Sequence[Path]) -> bool:
    """Whether there are files, and the first of them are of another format."""
    return bool(files) and not any(recognises(kind, LabelFile(path)) for path in files[:_SAMPLE])


def _other(files: Sequence[Path], kind: AnnotationFormat) -> AnnotationError:
    """The error for label files that are not of the format that was asked for."""
    file = next((file for file in map(LabelFile, files[:_SAMPLE]) if not file.is_blank), LabelFile(files[0]))
    return hinted(AnnotationError(f"{file.path}: not of the format {kind.name}"), kind, file)


def _of_files(
    files: Sequence[Path],
    kind: AnnotationFormat | None,
    options: Mapping[str, object] | None,
    root: Path,
    images: Path | None,
    folders: Folders,
) -> Layout:
    """Label files without images beside them: what they say, or their names, must lead to images elsewhere."""
    if kind is None:
        sample = [file for file in map(LabelFile, files[:_SAMPLE]) if not file.is_blank] or [LabelFile(files[0])]
        kind = recognised(sample, options)
    first = [images] if images is not None else []
    if not kind.per_image:
        if len(files) > 1:
            raise DataError(f"{root}: {len(files)} files of the format {kind.name}; name one of them instead of the folder")
        return _of_set(files[0], kind, root, first, folders)
    places = _Places(files[0].parent, root, first, folders)
    entries, problems, seen = list[Entry](), list[DataError](), dict[Path, Path]()
    for path in files:
        found = places.labelled_by(path.name, kind)
        if found is None and (named := _named_in(path, kind)):
            found = places.find(named)
        if found is None:
            problems.append(DataError(f"{path}: a label without an image; where do images lie? --image-folder, or data.images"))
            continue
        entry = Entry(found[0].path, found[0].files[found[1]], found[0].states[found[1]], path, kind)
        if (other := seen.setdefault(entry.image, path)) != path:
            problems.append(DataError(f"{path}: would be the label of the same image as {other.name}; remove one"))
        else:
            entries.append(entry)
    if not entries and _none_is(kind, files):
        raise _other(files, kind)
    return Layout(entries, problems, [])


def _named_in(path: Path, kind: AnnotationFormat) -> str:
    try:
        return next((page.image for page in read_pages(kind, LabelFile(path))), "")
    except AnnotationError:
        return ""  # told when the page is read


def _of_set(file: Path, kind: AnnotationFormat, root: Path, image_folders: Sequence[Path], folders: Folders) -> Layout:
    places = _Places(file.parent, root, image_folders, folders)
    entries, problems = list[Entry](), list[DataError]()
    taken: dict[int, array[int]] = {}
    """Listing -> the number of the entry of each of its files, from 1 on."""
    for image, source in _pages_of(kind, LabelFile(file)):
        found = places.find(image)
        if found is None:
            looked = ", ".join(map(str, places.places[:3]))
            problems.append(DataError(f"{_place(source)}: no image {image!r} found (looked below {looked}, ...)"))
            continue
        listing, at = found
        numbers = taken.get(id(listing)) or taken.setdefault(id(listing), array("q", bytes(8 * len(listing.files))))
        if numbers[at]:
            first = entries[numbers[at] - 1].name
            problems.append(AnnotationError(f"{_place(source)}: {image!r} is the image of {first!r}, too; keep one"))
            continue
        entries.append(Entry(listing.path, listing.files[at], listing.states[at], source, kind))
        numbers[at] = len(entries)
    there = sum(len(folders.list(folder).images) for folder in image_folders)
    return Layout(entries, problems, [], max(0, there - len(entries)))


def _pages_of(kind: AnnotationFormat, file: LabelFile) -> Iterator[tuple[str, LabelFile | LabelledPage]]:
    """The image of each page, and the part of the file that is about it, or what was read, where it cannot be read in parts."""
    parts = call(kind.parts, file)
    return iter(parts) if parts is not None else ((page.image, page) for page in read_pages(kind, file))


def _place(source: LabelFile | LabelledPage) -> str:
    line = source.first_line if isinstance(source, LabelFile) else source.file.line(source.where)
    return f"{source.path if isinstance(source, LabelFile) else source.file.path}:{line}"


class _Places:
    """Finds images by what labels say of them.

    Args:
        labels: The folder of the label files.
        root: The folder of the set.
        first: Folders of images that are known.
        folders: Keeps what is looked at.
    """

    def __init__(self, labels: Path, root: Path, first: Sequence[Path], folders: Folders) -> None:
        around = dict.fromkeys([root, labels, labels.parent, root.parent])
        named = [folder / name for folder in around for name in IMAGE_FOLDERS]
        self.places = [*first, *around, *(folder for folder in named if folder.is_dir())]
        self._folders = folders
        self._ways: dict[str, tuple[list[Listing], list[Path]]] = {}
        """Folder that a label names -> what lies in those that may be meant, and those not looked at yet, the next one last."""
        self._listed: dict[Path, Listing | None] = {}
        self._by_label: dict[str, tuple[Listing, int]] = {}

    def find(self, named: str) -> tuple[Listing, int] | None:
        """The image file of a name or path, and where it stands among the files there; the path counts first, then the name."""
        if not named or "\0" in named:
            return None
        for way in (named, named.replace("\\", "/")) if "\\" in named else (named,):
            parent, _, name = way.rstrip("/").rpartition("/")
            if not parent and way.startswith("/"):
                parent = "/"
            if parent not in self._ways:
                self._ways[parent] = [], [*dict.fromkeys([*(place / parent for place in self.places), *self.places])][::-1]
            looked, left = self._ways[parent]
            for listing in looked:
                if (at := listing.image(name)) is not None:
                    return listing, at
            while left:  # a folder is looked at when those before it do not have the image
                further = self._list(left.pop())
                if further is not None:
                    looked.append(further)
                    if (at := further.image(name)) is not None:
                        return further, at
        return None

    def labelled_by(self, label: str, kind: AnnotationFormat) -> tuple[Listing, int] | None:
        """The image whose label has this name."""
        if not self._by_label:
            for place in reversed(self.places):
                listing = self._list(place)
                for at, file in enumerate(listing.files if listing is not None else ()):
                    if listing is not None and suffix_of(file) in IMAGE_SUFFIXES:
                        self._by_label.update(dict.fromkeys(_names(plain_name(file), [kind], True), (listing, at)))
        name = plain_name(label)
        return self._by_label.get(name) or self._by_label.get(name[name.find("gt_") :])  # ICDAR writes more before gt_

    def _list(self, folder: Path) -> Listing | None:
        if folder not in self._listed:
            try:
                self._listed[folder] = self._folders.list(folder)
            except (DataError, ValueError):  # no such folder, or no name for one
                self._listed[folder] = None
        return self._listed[folder]


Progress = Callable[[Iterable[Path], int], Iterable[Path]]
"""Wraps files that are being worked through, given how many there are, for a progress bar."""
