"""``ocrsdk runs`` and ``ocrsdk logs``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocrsdk.cli.common import JsonOption, SetOption, note, print_json, say, set_up_output, table
from ocrsdk.errors import RunFolderError, SettingsError
from ocrsdk.settings.sources import variable_of

if TYPE_CHECKING:
    from ocrsdk.runs.history import Run

runs_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Look at runs and compare them.")
logs_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Send what a run has logged somewhere else.")

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="Run folder; last is the newest below runs/.")]


def _load(folder: Path) -> Run:
    from ocrsdk.runs.folder import find_last
    from ocrsdk.runs.history import load_run

    return load_run(find_last() if str(folder) == "last" and not folder.exists() else folder)


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _score(hmean: float | None) -> str:
    return f"{hmean:.4f}" if hmean is not None else "-"


@runs_app.command("list")
def list_command(
    root: Annotated[Path, typer.Argument(metavar="[DIR]", help="Folder of run folders.")] = Path("runs"), json: JsonOption = False
) -> None:
    """All runs, the newest first: state, steps, best score, precision.

    States: running; finished; stopped by a signal, with a checkpoint; interrupted by an error or a kill. The last two can be
    resumed: ocrsdk train --resume RUN
    """
    from ocrsdk.runs.history import list_runs

    found, broken = list_runs(root)
    for message in broken:
        note(f"warning: {message}")
    if json:
        print_json([run.as_dict() for run in found])
        return
    rows = [
        (r.folder.name, r.state, f"{r.steps:,}", _score(r.best_hmean), r.settings["precision"]["strategy"],
         _time(r.seconds), r.started.replace("T", " ")[:16])
        for r in found
    ]  # fmt: skip
    say(table(rows, ("run", "state", "steps", "best hmean", "precision", "time", "started (UTC)")) if rows else f"{root}: no runs")


@runs_app.command()
def show(run: RunArgument, json: JsonOption = False) -> None:
    """One run: state, scores, curves, what differs from the defaults, what it ran on."""
    found = _load(run)
    if json:
        print_json(
            {**found.as_dict(), "validations": [dict(zip(("step", "hmean"), p, strict=True)) for p in found.curve("val/hmean")]}
        )
        return
    from ocrsdk.runs.history import sparkline

    say(f"run        {found.folder} ({found.run_id})")
    say(f"state      {found.state}, {found.steps:,} steps, {_time(found.seconds)}")
    for session in found.sessions:
        on = session["environment"]
        git = on.get("git") or {}
        commit = f", commit {git['commit'][:10]}{' + changes' if git['changed'] else ''}" if git else ""
        say(f"session    {session['started']}, {on.get('device', '?')}, torch {on.get('packages', {}).get('torch', '?')}{commit}")
    for metric in ("train/loss", "train/lr", "val/hmean"):
        values = [value for _, value in found.curve(metric)]
        if values:
            say(f"{metric:<10} {sparkline(values)}  {values[0]:.4g} -> {values[-1]:.4g}")
    say(f"best       {_score(found.best_hmean)}")
    for name, problem in found.result.get("logger_problems", {}).items():
        say(f"logger     {name}: {problem}")
    changed = found.changed()
    say("settings   " + ("all defaults" if not changed else f"{len(changed)} differ from the defaults:"))
    for line in changed:
        say(f"           {line}")


@runs_app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Two or more run folders.")],
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the curves as a picture (.png, .svg, .pdf).")] = None,
    metric: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="For --plot; repeatable.  [default: train/loss, val/hmean]")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Scores side by side, and the settings in which the runs differ."""
    from ocrsdk.runs.history import compare_settings, plot_curves

    if len(runs) < 2:
        raise SettingsError("give at least two runs. See: ocrsdk runs list")
    found = [_load(run) for run in runs]
    differing = compare_settings(found)
    if plot is not None:
        plot_curves(found, metric or ("train/loss", "val/hmean"), plot)
    if json:
        print_json({"runs": [r.as_dict() for r in found], "settings": [{"name": n, "values": v} for n, v in differing]})
        return
    rows = [(r.folder.name, r.state, f"{r.steps:,}", _score(r.best_hmean), _time(r.seconds)) for r in found]
    say(table(rows, ("run", "state", "steps", "best hmean", "time")))
    say()
    if differing:
        say(table([(name, *map(str, values)) for name, values in differing], ("setting", *(r.folder.name for r in found))))
    else:
        say("the settings are the same")
    if plot is not None:
        say(f"\ncurves: {plot}")


@logs_app.command()
def sync(
    run: RunArgument,
    to: Annotated[str, typer.Option("--to", metavar="NAME", help="A logger; see: ocrsdk plugins list")],
    sets: SetOption = None,
    json: JsonOption = False,
) -> None:
    """Send the rows of metrics.jsonl to a logger: after a run without it, or one in which it failed.

    Rows that it has already are not sent again, where the logger can tell. Options, e.g.: --set logging.options.wandb.mode=online
    """
    set_up_output()
    from ocrsdk.runs.history import sync as send

    found = _load(run)
    if found.state == "running":
        raise RunFolderError(f"{found.folder}: is still running; wait for its end")
    sent, present = send(found, to, _options(to, sets or []))
    if json:
        print_json({"run": str(found.folder), "logger": to, "sent": sent, "present": present})
    else:
        say(f"{found.folder}: {sent} rows sent to {to}" + (f", {present} were there already" if present else ""))


def _options(logger: str, sets: list[str]) -> dict[str, object]:
    prefix = f"logging.options.{logger}."
    variables = variable_of(prefix)
    options: dict[str, object] = {
        name.removeprefix(variables).lower(): value for name, value in os.environ.items() if name.startswith(variables)
    }
    for item in sets:
        key, sign, value = item.partition("=")
        if not sign or not key.startswith(prefix):
            raise SettingsError(f"--set {item}: expected {prefix}OPTION=VALUE")
        options[key.removeprefix(prefix)] = value
    return options
