"""``ocrsdk precision``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ocrsdk.cli.common import (
    ConfigOption,
    JsonOption,
    SetOption,
    VerboseOption,
    file_progress,
    load_libraries,
    load_settings,
    note,
    print_json,
    say,
    set_up_output,
    table,
)
from ocrsdk.logs import json_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocrsdk.precision.gate import ArmRun, ParityReport
    from ocrsdk.precision_tools.control import PrecisionControl

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="See what half precision does, and prove that it is harmless.")

EXIT_CODES = {"pass": 0, "fail": 1, "inconclusive": 3}
DataArgument = Annotated[
    Path | None, typer.Argument(metavar="[DATA]", help="Folder with train/ and val/, each with images/ and labels/.")
]


def _control(
    config: Path | None, sets: Sequence[str] | None, options: dict[str, object], verbose: bool, load: bool = True
) -> PrecisionControl:
    from ocrsdk.precision_tools.control import PrecisionControl

    settings, _ = load_settings(config, sets, options)
    set_up_output(verbose)
    if load:
        load_libraries()
    return PrecisionControl(settings, file_progress("checking"))


@app.command()
def check(
    data: DataArgument = None,
    candidate: Annotated[str, typer.Option(metavar="NAME", help="The strategy to judge.")] = "fp16-safe",
    baseline: Annotated[str, typer.Option(metavar="NAME", help="What it is compared with.")] = "fp32",
    seeds: Annotated[int, typer.Option(min=1, help="Paired runs; the interval narrows with more of them.")] = 3,
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the training pages, in each run.")] = 3,
    margin: Annotated[float, typer.Option(help="Points of hmean that do not matter to you, at most 10.")] = 1.0,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Report and runs.  [default: runs/<date>-precision-NAME]")] = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Train with both strategies, same seeds and same data order, and test whether they are equivalent.

    Writes report.json and report.png, and for a pass a certificate, which train --precision NAME looks for.
    Use the --config and --set of your training: the certificate is for that model, data, device and these libraries.

    Exit codes: 0 pass, 1 fail, 3 inconclusive, 2 the check could not be made.
    """
    control = _control(config, sets, {"data.root": data}, verbose)

    def tell(run: ArmRun, number: int, total: int) -> None:
        result = f"stopped: {run.stopped}" if run.stopped else f"hmean {run.score:.2f}"
        note(f"run {number} of {total}: {run.strategy}, seed {run.seed}: {result}")

    note(f"training {2 * seeds} times, {epochs} epochs each; the log of each run is beside its folder")
    report = control.check(None, candidate, baseline=baseline, seeds=seeds, epochs=epochs, margin=margin, out=out, on_run=tell)
    print_json(report.as_dict()) if json else _show_report(report)
    raise typer.Exit(EXIT_CODES[report.outcome])


def _show_report(report: ParityReport) -> None:
    rows = []
    for seed in sorted({run.seed for run in report.runs}):
        base, cand = (next(r for r in report.runs if r.seed == seed and r.arm == arm) for arm in ("baseline", "candidate"))
        rows.append(
            (str(seed), f"{base.score:.2f}", f"{cand.score:.2f}", f"{cand.score - base.score:+.2f}", str(cand.skipped_steps))
        )
    say(table(rows, ("seed", f"hmean {report.baseline}", f"hmean {report.candidate}", "difference", "skipped updates")))
    say()
    say(f"{report.outcome.upper()}: {report.reason}")
    speed = f"{report.speedup:.2f} times the images/s" if report.speedup else "runs too short to compare the speed"
    say(f"{speed}, {report.memory_ratio:.2f} times the peak memory")
    if report.ranges:
        worst = report.ranges[0]
        say(f"closest to the limit of fp16: {worst['name']}, with {worst['headroom']} doublings left")
    say(f"report       {report.folder / 'report.json'}, {report.folder / 'report.png'}")
    if report.certificate:
        say(f"certificate  {report.certificate}")
    elif report.outcome == "pass":
        say(f"certificate  none: {report.baseline} is not a format that proves anything; compare with fp32")


@app.command()
def probe(
    data: DataArgument = None,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="CKPT", help="Trained weights; a new model's numbers are much smaller.")
    ] = None,
    precision: Annotated[str | None, typer.Option(metavar="NAME", help="Run under this strategy.  [default: fp32]")] = None,
    batches: Annotated[int, typer.Option(min=1, help="Training batches to look at.")] = 4,
    every: Annotated[bool, typer.Option("--all", help="Show every module, not the 15 closest to the limit.")] = False,
    config: ConfigOption = None,
    sets: SetOption = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Run real batches forward and backward: which module comes how close to 65504, the limit of fp16?

    Modules that overflow can stay in single precision:
    --set 'precision.options.fp32_modules=["neck.smooth.*"]'
    """
    control = _control(config, sets, {"data.root": data, "precision.strategy": precision}, verbose)
    strategy, ranges = control.probe(None, checkpoint, batches)
    if json:
        print_json({"precision": strategy.name, "modules": [r.as_dict() for r in ranges]})
        return
    shown = ranges if every else ranges[:15]
    rows = [
        (
            r.name,
            r.kind,
            f"{r.input:.3g}",
            f"{r.activation:.3g}",
            f"{r.headroom:.1f}",
            f"{r.gradient:.3g}",
            f"{r.weight_gradient:.3g}",
        )
        for r in shown
    ]
    say(table(rows, ("module", "kind", "largest input", "largest output", "doublings left", "largest gradient", "of its weights")))
    if len(shown) < len(ranges):
        say(f"and {len(ranges) - len(shown)} more; --all shows them")
    over = [r.name for r in ranges if r.headroom < 0]
    if over:
        say(f"overflow in {len(over)} modules, first {over[0]}; keep them in fp32 with the option fp32_modules")


@app.command()
def replay(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="nonfinite-step-N.ckpt from the run folder.")],
    precision: Annotated[str | None, typer.Option(metavar="NAME", help="Another strategy.  [default: that of the run]")] = None,
    json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Repeat the update at which NaN or infinity stopped a run, and say where it first appears."""
    from dataclasses import asdict

    result = _control(None, None, {}, verbose).replay(file, precision)
    if json:
        print_json(asdict(result))
        return
    say(f"step       {result.step}: {result.message}")
    for i, names in enumerate(result.names, 1):
        say(f"batch {i}    {', '.join(names)}")
    say(f"{result.strategy:<10} {result.where}")


@app.command()
def certificates(config: ConfigOption = None, sets: SetOption = None, json: JsonOption = False) -> None:
    """The accuracy checks that were passed, and what they hold for."""
    from dataclasses import asdict

    found = _control(config, sets, {}, verbose=False, load=False).certificates()
    if json:
        print_json([asdict(certificate) for certificate in found])
        return
    if not found:
        say("none yet. To earn one: ocrsdk precision check DATA --candidate fp16-safe")
        return
    rows = [
        (c.binding.strategy, _subject(c.binding.subject), c.binding.device, str(c.binding.subject.get("data", "-")),
         f"{c.difference:+.2f} ({c.low:+.2f} to {c.high:+.2f})", f"{c.speedup:.2f}", c.created[:10])
        for c in found
    ]  # fmt: skip
    say(table(rows, ("strategy", "model", "device", "data", "difference", "speed-up", "date")))


def _subject(subject: dict[str, object]) -> str:
    """What was trained, in a few words."""
    model = subject.get("model")
    return f"{model['name']} on {model['backbone']}" if isinstance(model, dict) and "backbone" in model else json_text(subject)[:60]
