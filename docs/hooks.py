"""Fills the reference pages from the code while the site is built, so that they cannot differ from it."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from typing import TYPE_CHECKING, Any

import typer
from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMANDS = "<!-- every command -->"
SETTINGS = "<!-- every setting -->"
HOOKS = "<!-- every hook -->"
ERRORS = "<!-- every error -->"


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs for each page."""
    for marker, make in ((COMMANDS, commands), (SETTINGS, settings), (HOOKS, hooks), (ERRORS, errors)):
        if marker in markdown:
            markdown = markdown.replace(marker, make())
    return markdown


def commands() -> str:
    """``--help`` of each command."""
    from ocrsdk.cli import app

    def walk(command: Any, path: str) -> Iterator[tuple[str, str]]:
        context = typer.Context(command, info_name=path, terminal_width=100, max_content_width=100)
        yield path, command.get_help(context)
        for name in getattr(command, "commands", {}):
            yield from walk(command.commands[name], f"{path} {name}")

    return "\n\n".join(f"## {path}\n\n```text\n{text}\n```" for path, text in walk(typer.main.get_command(app), "ocrsdk"))


def settings() -> str:
    """A table for each section."""
    from ocrsdk.settings.schema import Settings

    Settings.model_json_schema()  # reads the descriptions

    def table(model: type[BaseModel], prefix: str) -> str:
        rows = ["| setting | variable | default | meaning |", "|---|---|---|---|"]
        for name, info in model.model_fields.items():
            if not (isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)):
                variable = "OCRSDK_" + f"{prefix}{name}".upper().replace(".", "__")
                default = info.get_default(call_default_factory=True)
                rows.append(f"| `{prefix}{name}` | `{variable}` | `{default}` | {info.description} |")
        return "\n".join(rows)

    parts = [table(Settings, "")]
    for name, info in Settings.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            parts.append(f"## {name}\n\n{inspect.getdoc(info.annotation)}\n\n{table(info.annotation, f'{name}.')}")
    return "\n\n".join(parts)


def hooks() -> str:
    """Signature and sentences of each hook; of each contract also the fields and the methods."""
    from ocrsdk.cache.base import CacheBackend, CacheLocation, Finding, Usage, VersionInfo
    from ocrsdk.cache.folder_backend import FolderBackend
    from ocrsdk.formats.base import AnnotationFormat, Fault, Holds, LabelledPage, PageToWrite
    from ocrsdk.formats.files import LabelFile
    from ocrsdk.loggers.base import KeepsState, KnowsImages, KnowsRows, LoggerFactory, LogsImages, RowLogger, RunInfo
    from ocrsdk.plugins import hookspecs
    from ocrsdk.plugins.base import Plugin
    from ocrsdk.precision.base import Certified, PrecisionStrategy, SkipsUpdates
    from ocrsdk.settings.options import Options

    parts = []
    for name, function in inspect.getmembers(hookspecs, inspect.isfunction):
        if name.startswith("ocrsdk_"):
            parts.append(f"## {name}\n\n```python\n{_signature(function)}\n```\n\n{inspect.getdoc(function)}")
    contracts: tuple[type, ...] = (
        Plugin, Options, CacheBackend, FolderBackend, CacheLocation, Usage, VersionInfo, Finding, PrecisionStrategy, SkipsUpdates,
        Certified, LoggerFactory, RowLogger, RunInfo, KeepsState, KnowsRows, LogsImages, KnowsImages,
        AnnotationFormat, Holds, LabelFile, LabelledPage, Fault, PageToWrite,
    )  # fmt: skip
    return "\n\n".join([*parts, *map(_contract, contracts)])


def _contract(cls: type) -> str:
    """A class that plug-ins derive from, implement or are handed."""
    parts = [f"## {cls.__name__}\n\n`{cls.__module__}.{cls.__name__}`\n\n```text\n{inspect.getdoc(cls)}\n```"]
    if fields := _fields(cls):
        parts.append("\n".join(["| field | type | default | meaning |", "|---|---|---|---|", *fields]))
    for name, member in vars(cls).items():
        kind = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        kind = kind.fget if isinstance(kind, property) else kind
        if not inspect.isfunction(kind) or (name.startswith("_") and name not in ("__init__", "__iter__")) or _is_made(cls, name):
            continue
        marks = ["@property"] if isinstance(member, property) else ["@classmethod"] if isinstance(member, classmethod) else []
        if getattr(kind, "__isabstractmethod__", False):
            marks.append("@abstractmethod")
        code = "\n".join([*marks, _signature(kind)])
        text = f"\n\n```text\n{inspect.getdoc(kind)}\n```" if inspect.getdoc(kind) else ""
        parts.append(f"### {cls.__name__}.{name}\n\n```python\n{code}\n```{text}")
    return "\n\n".join(parts)


def _is_made(cls: type, name: str) -> bool:
    """Whether the method is one that ``dataclass`` or ``Protocol`` has made."""
    return name == "__init__" and (dataclasses.is_dataclass(cls) or getattr(cls, "_is_protocol", False))


def _signature(function: Any) -> str:
    """``def name(...) -> ...: ...`` on one line, or with a line for each argument."""
    found = inspect.signature(function)
    text = str(found).replace("'", "")
    if len(text) > 100:
        arguments = [str(p).replace("'", "") for p in found.parameters.values()]
        _, arrow, returned = text.rpartition(" -> ")
        text = "(\n    " + ",\n    ".join(arguments) + ",\n)" + (f"{arrow}{returned}" if arrow else "")
    return f"def {function.__name__}{text}: ..."


def _fields(cls: type) -> list[str]:
    """Rows of the annotated attributes, with the docstrings below them."""
    body = next(node for node in ast.parse(textwrap.dedent(inspect.getsource(cls))).body if isinstance(node, ast.ClassDef)).body
    rows = []
    for node, after in zip(body, [*body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name) or node.target.id.startswith("_"):
            continue
        told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        text = " ".join(inspect.cleandoc(after.value.value).split()) if told else ""  # type: ignore[union-attr]
        default = f"`{ast.unparse(node.value)}`" if node.value is not None else ""
        kind = ast.unparse(node.annotation).replace("|", "\\|")
        rows.append(f"| `{node.target.id}` | `{kind}` | {default} | {text} |")
    return rows


def errors() -> str:
    """The exception tree."""
    from ocrsdk import errors as module

    return f"```text\n{inspect.getdoc(module)}\n```"
