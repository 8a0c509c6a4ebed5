"""Fills the reference pages from the code while the site is built, so that they cannot differ from it."""

from __future__ import annotations

import inspect
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
    """Signature and sentence of each hook, and the contracts."""
    from ocrsdk.plugins import hookspecs
    from ocrsdk.cache.base import CacheBackend, CacheLocation, Finding, Usage, VersionInfo
    from ocrsdk.loggers.base import KeepsState, KnowsImages, KnowsRows, LoggerFactory, LogsImages, RowLogger, RunInfo
    from ocrsdk.plugins.base import Plugin
    from ocrsdk.precision.base import Certified, PrecisionStrategy, SkipsUpdates

    parts = []
    for name, function in inspect.getmembers(hookspecs, inspect.isfunction):
        if name.startswith("ocrsdk_"):
            parts.append(f"## {name}\n\n```python\ndef {name}{inspect.signature(function)}: ...\n```\n\n{inspect.getdoc(function)}")
    contracts: tuple[type, ...] = (
        Plugin, CacheBackend, CacheLocation, Usage, VersionInfo, Finding, PrecisionStrategy, SkipsUpdates, Certified,
        LoggerFactory, RowLogger, RunInfo, KeepsState, KnowsRows, LogsImages, KnowsImages,
    )  # fmt: skip
    for cls in contracts:
        parts.append(f"## {cls.__name__}\n\n```text\n{inspect.getdoc(cls)}\n```")
        for name, member in vars(cls).items():
            if not name.startswith("_") and (inspect.isfunction(member) or isinstance(member, property | classmethod)):
                parts.append(f"### {cls.__name__}.{name}\n\n```text\n{inspect.getdoc(getattr(cls, name)) or ''}\n```")
    return "\n\n".join(parts)


def errors() -> str:
    """The exception tree."""
    from ocrsdk import errors as module

    return f"```text\n{inspect.getdoc(module)}\n```"
