"""``ocrsdk plugins``."""

from __future__ import annotations

from typing import Annotated

import typer

from ocrsdk.cli.common import JsonOption, print_json, say, table

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Show what is plugged in.")


@app.command("list")
def list_plugins(
    json: JsonOption = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 if a plug-in failed.")] = False,
) -> None:
    """Every plug-in: what it provides, its package, its state and, for a broken one, the reason.

    To leave some out: OCRSDK_DISABLED_PLUGINS=a,b; to load the built-ins only: OCRSDK_PLUGINS=off
    """
    from dataclasses import asdict

    from ocrsdk.plugins import HOOKS, installed

    plugins = installed()
    for kind in HOOKS:
        plugins.classes(kind)
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
