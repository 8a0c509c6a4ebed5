"""``ocrsdk plugins``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ocrsdk.cli.common import JsonOption, print_json, say, table

if TYPE_CHECKING:
    from ocrsdk.plugins.doctor import PluginInfo

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="See, check and make plug-ins.")


@app.command("list")
def list_plugins(
    json: JsonOption = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a plug-in failed.")] = False,
) -> None:
    """Every plug-in: what it provides, its package, its state and, for a broken one, the reason.

    To leave some out: OCRSDK_DISABLED_PLUGINS=a,b; to load the built-ins only: OCRSDK_PLUGINS=off
    """
    from dataclasses import asdict

    from ocrsdk.plugins.doctor import everything

    plugins = everything()
    if json:
        print_json([asdict(record) for record in plugins.records])
    else:
        rows: list[tuple[str, ...]] = []
        for r in plugins.records:
            package = f"{r.distribution} {r.version}"
            for kind, name, summary in r.provides:
                rows.append((kind, name, package, r.state, summary))
            if not r.provides or r.state != "ok":
                rows.append(("-", r.name, package, r.state, r.reason or "provides nothing"))
        say(table(rows, ("kind", "name", "package", "state", "")))
    if strict and any(r.state == "failed" for r in plugins.records):
        raise typer.Exit(1)


@app.command()
def info(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A plug-in, its entry point, or its package.")],
    json: JsonOption = False,
) -> None:
    """One plug-in: its package, state, load time and options; for a broken one the reason and the remedy."""
    from ocrsdk.plugins.doctor import info as find

    found = find(name)
    if json:
        print_json([entry.as_dict() for entry in found])
        return
    for i, entry in enumerate(found):
        if i:
            say()
        _show(entry)


def _show(entry: PluginInfo) -> None:
    say(f"{entry.name}: {entry.kind}" + (f", {entry.summary}" if entry.summary else ""))
    say(f"package    {entry.package}")
    say(f"state      {entry.state}" + (f": {entry.reason}" if entry.reason else ""))
    if entry.remedy:
        say(f"remedy     {entry.remedy}")
    say(f"loaded in  {entry.load_ms:.0f} ms (all of the package)")
    if entry.changes:
        say(f"warning    replaces {', '.join(entry.changes)} for everybody")
    if entry.state != "ok":
        return
    if entry.options is None:
        say("options    none")
        return
    place = {
        "cache backend": "cache.options", "precision strategy": "precision.options", "logger": f"logging.options.{entry.name}",
        "annotation format": "data.format_options",
    }  # fmt: skip
    say(f"options    of {place[entry.kind]}:")
    rows = [
        (option, _type(schema), str(schema.get("default", "(required)")), schema.get("description", "").replace("\n", " "))
        for option, schema in entry.options.get("properties", {}).items()
    ]
    say(table(rows, ("option", "type", "default", "")))


def _type(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "anyOf" in schema:
        return " | ".join(_type(part) for part in schema["anyOf"])
    return str(schema.get("const", schema.get("type", "any")))


@app.command()
def doctor(json: JsonOption = False) -> None:
    """Look for what breaks installations: two packages of OpenCV, unmet requirements, broken, slow or meddling plug-ins.

    Exit codes: 0 nothing found, or warnings only; 1 an error was found.
    """
    from ocrsdk.plugins.doctor import doctor as examine

    checks = examine()
    if json:
        print_json([check.as_dict() for check in checks])
    else:
        for check in checks:
            say(f"{check.level:<8} {check.what}")
            if check.remedy:
                say(f"         {check.remedy}")
    if any(check.level == "error" for check in checks):
        raise typer.Exit(1)


@app.command()
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What users will type, as in my-cache.")],
    kind: Annotated[str, typer.Option(metavar="KIND", help="cache-backend, precision-strategy, logger or annotation-format.")],
    folder: Annotated[Path, typer.Option("--in", metavar="DIR", help="Where ocrsdk-NAME/ goes.")] = Path(),
) -> None:
    """Start a plug-in package: it works, and passes its conformance suite, before a line is changed."""
    from ocrsdk.plugins.scaffold import scaffold

    files = scaffold(name, kind, folder)
    for path in files:
        say(str(path))
    root = files[0].parent
    say(f"\nNext: cd {root} && pip install -e '.[test]' && pytest, then: ocrsdk plugins info {name}")
