"""``ocrsdk train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocrsdk.cli.common import (
    ConfigOption,
    FormatOption,
    JsonOption,
    LogFormatOption,
    QuietOption,
    SetOption,
    VerboseOption,
    file_progress,
    load_libraries,
    load_settings,
    print_json,
    say,
    set_up_output,
    table,
)
from ocrsdk.errors import SettingsError

if TYPE_CHECKING:
    from ocrsdk.runs.results import FitResult, Plan

EXIT_CODES = {"SIGINT": 130, "SIGTERM": 143, "SIGHUP": 129}


def train(
    data: Annotated[
        Path | None, typer.Argument(metavar="[DATA]", help="Folder with train/ and val/, each with images/ and labels/.")
    ] = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training pages.  [default: 100]")] = None,
    max_time: Annotated[str | None, typer.Option(metavar="TIME", help="End in this time: 90s, 10m, 1h30m.")] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="dbnet or dbnet++.  [default: dbnet]")] = None,
    backbone: Annotated[
        str | None, typer.Option(metavar="NAME", help="mobilenet, resnet18 or resnet50.  [default: mobilenet]")
    ] = None,
    backbone_weights: Annotated[
        Path | None, typer.Option(metavar="FILE", help="State dict for the backbone, torchvision or timm naming.")
    ] = None,
    precision: Annotated[str | None, typer.Option(metavar="NAME", help="Precision strategy.  [default: fp32]")] = None,
    cache: Annotated[str | None, typer.Option(metavar="NAME", help="Cache backend, or none.  [default: diskcache]")] = None,
    logger: Annotated[list[str] | None, typer.Option(metavar="NAME", help="Logger; repeatable.  [default: jsonl]")] = None,
    short_side: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Shorter side of evaluated pages.  [default: 832]")
    ] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Crops in a batch.  [default: 8]")] = None,
    workers: Annotated[int | None, typer.Option(metavar="N", help="Loader processes; -1 chooses.  [default: -1]")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="Everything random follows from it.  [default: 0]")] = None,
    on_bad_sample: Annotated[
        str | None, typer.Option(metavar="WHAT", help="stop, or skip: go on without bad samples, and list them.  [default: stop]")
    ] = None,
    on_bad_box: Annotated[
        str | None, typer.Option(metavar="WHAT", help="stop, or drop: go on without regions that have no area.  [default: stop]")
    ] = None,
    format: FormatOption = None,
    name: Annotated[str | None, typer.Option(help="Name of the run.  [default: run]")] = None,
    run_dir: Annotated[Path | None, typer.Option(metavar="DIR", help="Run folder.  [default: runs/<date>-<name>]")] = None,
    resume: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Resume the run in this folder, or the last one, with its settings.")
    ] = None,
    allow_precision_change: Annotated[
        bool, typer.Option("--allow-precision-change", help="Resume although the run was started under another precision.")
    ] = False,
    profile: Annotated[
        bool | None, typer.Option("--profile", help="Time the parts of every batch; say at the end what it waited for.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Build all, make one step, show the plan, write nothing.")] = False,
    json: JsonOption = False,
    verbose: VerboseOption = False,
    quiet: QuietOption = False,
    log_format: LogFormatOption = "console",
) -> None:
    """Train a detector.

    Options are stronger than OCRSDK_* variables, these than --config, this than defaults; see: ocrsdk config show

    Exit codes: 0 finished, 2 bad input, 130/143/129 stopped by SIGINT/SIGTERM/SIGHUP after saving a checkpoint.
    """
    from ocrsdk.runs import folder as run_folder

    set_up_output(verbose, quiet, log_format)
    if resume is not None and str(resume) == "last" and not resume.exists():
        resume = run_folder.find_last()
    if resume is not None and run_dir is not None:
        raise SettingsError(f"--run-dir {run_dir}: a run is resumed in its own folder, {resume}; leave --run-dir out")
    if resume is not None and config is None:
        run_folder.last_checkpoint(resume)
        config = resume / run_folder.SETTINGS_FILE
    settings, layers = load_settings(
        config,
        sets,
        {
            "data.root": data,
            "trainer.epochs": epochs,
            "trainer.max_time": max_time,
            "model.name": model,
            "model.backbone": backbone,
            "model.backbone_weights": backbone_weights,
            "precision.strategy": precision,
            "cache.backend": cache,
            "logging.loggers": tuple(logger) if logger else None,
            "data.short_side": short_side,
            "data.batch_size": batch_size,
            "data.workers": workers,
            "seed": seed,
            "data.on_bad_sample": on_bad_sample,
            "data.on_bad_box": on_bad_box,
            "data.format": format,
            "trainer.profile": profile,
            "name": name,
            "run_dir": run_dir,
        },
    )
    from ocrsdk.pipeline import Pipeline

    pipeline = Pipeline(settings, progress=file_progress("checking"), layers=layers)
    pipeline.check()
    load_libraries()
    if dry_run:
        plan = pipeline.plan()
        print_json(plan.as_dict()) if json else _show_plan(plan)
        return
    result = pipeline.fit(resume=resume, allow_precision_change=allow_precision_change)
    print_json(result.as_dict()) if json else _show_result(result)
    if result.signal:
        raise typer.Exit(EXIT_CODES[result.signal])


def _show_plan(plan: Plan) -> None:
    regions = f" with {plan.train_regions:,} regions" if plan.train_regions is not None else ""
    say(f"model       {plan.model}, {plan.parameters:,} parameters")
    say(f"data        {plan.train_pages} training pages{regions}, {plan.val_pages} validation pages")
    for source in plan.sources:
        drawn = f"{source.drawn:,} samples an epoch (weight {source.weight:g})"
        say(f"            {source.path}: {source.pages:,} pages with {source.regions:,} regions, {drawn}")
    say(f"steps       {plan.steps:,} ({plan.steps_per_epoch} per epoch, batch size {plan.batch_size})")
    say(f"device      {plan.device}, precision {plan.precision}")
    say(f"cache       {plan.cache}, version {plan.cache_version}")
    say(f"loggers     {', '.join(plan.loggers)}")
    say(f"one step    {plan.step_seconds:.2f} s (the first, slower than later ones), loss {plan.loss:.3f}")
    say(f"memory      {plan.peak_memory_bytes / 2**20:,.0f} MiB at its peak")
    if plan.skipped:
        say(f"skipped     {len(plan.skipped)} samples")


def _show_result(result: FitResult) -> None:
    from ocrsdk.loggers.rows import RECORD

    say()
    if result.signal:
        say(f"stopped by {result.signal} after {result.steps} steps. Resume with: ocrsdk train --resume {result.run_dir}")
    else:
        say(f"finished: {result.epochs} epochs, {result.steps} steps, {result.seconds:.0f} s")
    if result.best_hmean is not None:
        say(f"best hmean     {result.best_hmean:.4f}")
        say(f"checkpoint     {result.best_checkpoint}")
    if result.overlays is not None:
        say(f"pictures       {result.overlays}")
    if result.profile is not None:
        rows = []
        for name, phase in result.profile["phases"].items():
            times = [f"{phase[p]:.1f}" if phase[p] else "" for p in ("p50", "p95", "p99")]
            rows.append((name, f"{phase['share']:.1%}", *times))
        say()
        say(table(rows, ("phase", "share", "p50 ms", "p95 ms", "p99 ms")))
        memory = result.profile["memory_tree_bytes"] / 2**20
        say(f"\n{result.profile['images_per_second']:.1f} images/s, {memory:,.0f} MiB with loader workers")
        say(result.profile["verdict"])
        say()
    for name, problem in result.logger_problems.items():
        remedy = f"; send its rows later: ocrsdk logs sync {result.run_dir} --to {name}" if name != RECORD else ""
        say(f"logger         {name}: {problem}{remedy}")
    if result.skipped_steps:
        say(f"skipped        {result.skipped_steps} updates with gradients that were not finite")
    if not result.validated:
        say(f"precision      {result.precision}, not validated here")
    say(f"run folder     {result.run_dir}")
