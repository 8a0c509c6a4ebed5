"""Annotation formats by name, and which one a label file is of."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from ocrsdk.errors import AnnotationError, OcrsdkError
from ocrsdk.plugins.manager import call, installed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from ocrsdk.formats.base import AnnotationFormat, LabelledPage
    from ocrsdk.formats.files import LabelFile


def make_format(name: str, options: Mapping[str, object] | None = None, where: str = "data.format_options") -> AnnotationFormat:
    """The format called ``name``.

    Raises:
        PluginError: There is none.
        SettingsError: An option is wrong.
    """
    return cast("AnnotationFormat", installed().make("annotation format", name, options or {}, where))


def all_formats() -> list[AnnotationFormat]:
    """Every format with its default options."""
    return [make_format(name) for name in installed().classes("annotation format")]


def recognised(files: Sequence[LabelFile], options: Mapping[str, object] | None = None) -> AnnotationFormat:
    """The one format that ``files``, which lie in one folder, look like.

    Args:
        files: Some that are not empty.
        options: Of the format, whichever it is.

    Raises:
        AnnotationError: No format recognises them, or two do.
    """
    found = [kind for kind in all_formats() if _has_ending(kind, files[0]) and all(recognises(kind, file) for file in files)]
    best = max((kind.specific for kind in found), default=0)
    found = [kind for kind in found if kind.specific == best]
    if len(found) == 1:
        return make_format(found[0].name, options) if options else found[0]
    if not found:
        raise _unknown(files)
    names = " or ".join(kind.name for kind in found)
    raise AnnotationError(f"{files[0].path}: looks like {names}; say which with --format")


def _unknown(files: Sequence[LabelFile]) -> AnnotationError:
    for file in files:
        suffix = file.path.suffix.lower()
        try:
            _ = file.json if suffix == ".json" else file.xml if suffix == ".xml" else file.text
        except AnnotationError as error:  # it cannot be read as anything
            return error
    looks = {kind.name for kind in all_formats() for file in files if _has_ending(kind, file) and recognises(kind, file)}
    mixed = f" (some look like {', '.join(sorted(looks))})" * bool(looks)
    known = ", ".join(sorted(kind.name for kind in all_formats()))
    return AnnotationError(f"{files[0].path}: not recognised as labels{mixed}. Name its format with --format: {known}")


def _has_ending(kind: AnnotationFormat, file: LabelFile) -> bool:
    return file.path.name.lower().endswith(kind.endings)


def recognises(kind: AnnotationFormat, file: LabelFile) -> bool:
    """Whether a format recognises a file; what it cannot read, it does not recognise."""
    try:
        return bool(call(kind.recognises, file))
    except OcrsdkError:
        return False


def read_pages(kind: AnnotationFormat, file: LabelFile) -> Iterator[LabelledPage]:
    """The pages of a label file, their shapes checked.

    Raises:
        AnnotationError: The file cannot be understood as a whole. If it looks like one of another format, that is named.
        PluginError: The format failed.
    """
    pages = iter(call(kind.read, file))
    while True:
        try:
            page = call(kind.next_page, pages)
        except AnnotationError as error:
            raise hinted(error, kind, file) from error
        if page is None:
            return
        page.check_shapes()
        yield page


def hinted(error: AnnotationError, kind: AnnotationFormat, file: LabelFile) -> AnnotationError:
    """The error, with the format that the file looks like, if that is another one."""
    return AnnotationError(f"{error}{hint(kind, file)}")


def hint(kind: AnnotationFormat, file: LabelFile) -> str:
    """A sentence for the end of an error: which format a file looks like, if it is not ``kind``; else empty."""
    if file.is_blank or recognises(kind, file):
        return ""
    others = [other for other in all_formats() if other.name != kind.name and _has_ending(other, file) and recognises(other, file)]
    best = max((other.specific for other in others), default=0)
    names = [other.name for other in others if other.specific == best]
    return f". This looks like {names[0]}: add --format {names[0]}" if names else ""
