"""The training runs of ``ocrsdk precision check``: pairs, in processes of their own, so that memory and crashes stay apart."""

from __future__ import annotations

import json
from contextlib import suppress
from math import isfinite
from subprocess import PIPE
from typing import TYPE_CHECKING

from ocrsdk.errors import NonFiniteError, TrainingError
from ocrsdk.loggers.rows import FILE_NAME, read_rows
from ocrsdk.models.checkpoint import read_checkpoint
from ocrsdk.precision.gate import ArmRun
from ocrsdk.processes import python_module
from ocrsdk.runs.folder import last_checkpoint
from ocrsdk.settings.sources import child_environment, variable_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from ocrsdk.precision.gate import Arm
    from ocrsdk.settings.schema import Settings


def paired_runs(
    settings: Settings, arms: Mapping[Arm, tuple[str, dict[str, object]]], seeds: int, folder: Path, secrets: Mapping[str, object]
) -> Iterator[ArmRun]:
    """Train both arms with each seed.

    Args:
        settings: Of every run, but for precision and seed; without secrets.
        arms: Strategy and options of each.
        seeds: How many; they count up from ``settings.seed``.
        folder: Where the runs go.
        secrets: Dotted name -> value; they travel in the environment.
    """
    environment = child_environment() | {variable_of(name): str(value) for name, value in secrets.items()}
    for seed in range(settings.seed, settings.seed + seeds):
        for arm, (strategy, options) in arms.items():
            name = f"{arm}-{strategy}-seed{seed}"
            precision = settings.precision.model_copy(update={"strategy": strategy, "options": options})
            of_run = settings.model_copy(update={"seed": seed, "run_dir": folder / name, "precision": precision, "name": name})
            yield _train(of_run, arm, folder / name, folder / f"{name}.yaml", environment)


def _train(settings: Settings, arm: Arm, folder: Path, config: Path, environment: dict[str, str]) -> ArmRun:
    config.write_text(json.dumps(settings.model_dump(mode="json"), indent=1), encoding="utf-8")  # JSON is YAML, too
    command = ["train", "--config", str(config), "--json", "--log-format", "json"]
    log = config.with_suffix(".log")
    with (
        log.open("w", encoding="utf-8") as errors,
        python_module("ocrsdk", command, environment, stdout=PIPE, stderr=errors) as child,
    ):
        answer, _ = child.communicate()
    strategy = settings.precision.strategy
    if child.returncode == 0:
        result = json.loads(answer)
        return ArmRun(
            arm, strategy, settings.seed, 100 * result["score"]["hmean"], str(folder), result["images_per_second"],
            result["peak_memory_bytes"], result["skipped_steps"], _losses(folder), "", _data(folder),
        )  # fmt: skip
    last = (log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["without a word"])[-1]
    with suppress(ValueError):  # else it is no error that was raised on purpose
        told = json.loads(last)
        last = told["event"]
        if told.get("kind") == NonFiniteError.__name__:
            losses, data = _losses(folder), _data(folder)
            return ArmRun(arm, strategy, settings.seed, 0.0, str(folder), losses=losses, stopped=last, data=data)
    raise TrainingError(f"the run {folder.name} ended with exit code {child.returncode}: {last} (all of it: {log})")


def _losses(folder: Path) -> list[float | None]:
    values = [row["train/loss"] for row in read_rows(folder / FILE_NAME) if "train/loss" in row]
    return [value if isfinite(value) else None for value in values]


def _data(folder: Path) -> str:
    return str(read_checkpoint(last_checkpoint(folder))["ocrsdk"]["data"])
