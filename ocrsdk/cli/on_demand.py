"""Commands whose modules are imported when one of them is called, so that ``ocrsdk --help`` costs little more than typer."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from collections.abc import Iterator


class Home(NamedTuple):
    """Where a command is, and its line in the list of commands."""

    module: str
    name: str
    """A function, or a ``typer.Typer`` with commands of its own."""
    summary: str


def text_of(function: Any) -> str | None:
    """The docstring of a command, which is its help; ``python -OO`` drops it, so it is read from the source."""
    if function.__doc__ is not None or sys.flags.optimize < 2:
        return inspect.getdoc(function)
    try:
        (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    except (OSError, SyntaxError):
        return None
    return ast.get_docstring(definition) if isinstance(definition, ast.FunctionDef) else None


class OnDemand(Mapping[str, Any]):
    """Name -> command, built when it is asked for.

    Args:
        homes: Name -> where it is.
    """

    def __init__(self, homes: Mapping[str, Home]) -> None:
        self.homes = homes

    def __getitem__(self, name: str) -> object:
        home = self.homes[name]
        found = getattr(importlib.import_module(home.module), home.name)
        if isinstance(found, typer.Typer):
            for info in found.registered_commands:
                info.help = info.help or text_of(info.callback)
            command: Any = typer.main.get_group(found)
            command.name = name
            return command
        single = typer.Typer(rich_markup_mode=None, add_completion=False)
        single.command(name, help=text_of(found))(found)
        return typer.main.get_command(single)

    def __iter__(self) -> Iterator[str]:
        return iter(self.homes)

    def __len__(self) -> int:
        return len(self.homes)


class OnDemandGroup(TyperGroup):
    """The root; ``homes`` is set by a subclass."""

    homes: ClassVar[Mapping[str, Home]] = {}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.commands = OnDemand(self.homes)  # type: ignore[assignment]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, or None if there is none of that name; whatever its import raises is raised."""
        return self.commands[cmd_name] if cmd_name in self.homes else None

    def list_commands(self, ctx: object) -> list[str]:
        """In the order of ``homes``."""
        return list(self.homes)

    def format_commands(self, ctx: object, formatter: Any) -> None:
        """List them without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, home.summary) for name, home in self.homes.items()])
