"""From names of loggers to the one writer of a run."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ocrsdk.errors import CheckpointError, RunFolderError, SettingsError
from ocrsdk.loggers.base import LoggerFactory, RunInfo
from ocrsdk.loggers.rows import FILE_NAME, RECORD, read_rows
from ocrsdk.plugins.manager import call, installed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ocrsdk.loggers.run_logger import RunLogger


def make_factories(names: Sequence[str], options: Mapping[str, Mapping[str, object]]) -> list[LoggerFactory]:
    """The loggers called ``names``, with their options checked; the record of truth comes first.

    Raises:
        PluginError: There is no such logger.
        SettingsError: An option is wrong.
    """
    for name in options.keys() - set(names):
        raise SettingsError(f"logging.options.{name}: {name!r} is not among logging.loggers ({', '.join(names)})")
    if "none" in names and len(set(names)) > 1:
        raise SettingsError(f"logging.loggers: none cannot be combined with other loggers; found {', '.join(names)}")
    wanted = names if tuple(names) == ("none",) else dict.fromkeys((RECORD, *names))
    return [make_factory(name, options.get(name, {})) for name in wanted]


def make_factory(name: str, options: Mapping[str, object]) -> LoggerFactory:
    """The factory of the logger called ``name``.

    Raises:
        PluginError: There is no such logger.
        SettingsError: An option is wrong.
    """
    return cast("LoggerFactory", installed().make("logger", name, options, f"logging.options.{name}"))


def build_run_logger(
    factories: Sequence[LoggerFactory],
    run: RunInfo,
    states: Mapping[str, object],
    *,
    columns: Callable[[], dict[str, float]] | None = None,
    patience: float = 10.0,
    more: Mapping[str, object] | None = None,
) -> RunLogger | None:
    """The one writer of a run, over all its loggers; None if nothing is logged.

    Args:
        factories: From ``make_factories``.
        run: The run.
        states: Logger -> what it remembered in the checkpoint.
        columns: Further columns of every row.
        patience: Seconds that a call of a logger may take.
        more: Further loggers by name, built already.

    Raises:
        OcrsdkError: A logger cannot work as asked.
    """
    from ocrsdk.loggers.run_logger import RunLogger

    def build(of: RunInfo, states: Mapping[str, Any]) -> dict[str, Any]:
        made = {factory.name: call(factory.build, replace(of, state=states.get(factory.name, {}))) for factory in factories}
        return {name: logger for name, logger in made.items() if logger is not None}

    built = build(run, states)
    record = built.get(RECORD)
    if record is None:
        return None
    made = RunLogger(
        run.name,
        {**built, **(more or {})},
        record.last_row,
        record.superseded,
        columns or dict,
        patience=patience,
        run_id=run.run_id,
        reopen=lambda states: build(replace(run, resumed=True), states),
    )
    if run.resumed:
        made.send_missing(read_rows(run.folder / FILE_NAME))
    return made


def open_run_logger(
    folder: Path | str,
    loggers: Sequence[str] = (RECORD,),
    *,
    options: Mapping[str, Mapping[str, object]] | None = None,
    name: str | None = None,
    settings: Mapping[str, object] | None = None,
    resume_from: Path | str | None = None,
    patience: float = 10.0,
) -> RunLogger:
    """A logger for any trainer: several loggers through one writer, in a folder of one's own.

    Give it to ``Trainer(logger=...)`` together with the callback ``LogState(logger)``, which keeps in every checkpoint how far the
    loggers are. To resume, pass the checkpoint here and to ``trainer.fit(ckpt_path=...)``.

    Args:
        folder: Where ``metrics.jsonl`` and the files of other loggers go; created if it is missing.
        loggers: Registered loggers; ``jsonl``, the record of truth, is always the first.
        options: Options by logger.
        name: The run's name; that of the folder by default.
        settings: What loggers show as the run's configuration; JSON-ready, secrets are struck out.
        resume_from: The checkpoint from which training goes on.
        patience: Seconds that a call of a logger may take before it is switched off.

    Raises:
        PluginError: There is no such logger.
        SettingsError: An option is wrong.
        RunFolderError: The folder cannot be written, or holds rows of a run and ``resume_from`` is not given.
        CheckpointError: The checkpoint cannot be read, or was written without ``LogState``.
        LoggerError: A logger cannot work as asked.
    """
    from ocrsdk.loggers.callback import read_state

    if isinstance(loggers, str):
        raise SettingsError(f"loggers={loggers!r}: give a list of names: [{loggers!r}]", parameter="loggers")
    where = Path(folder)
    factories = make_factories(loggers, options or {})
    if [factory.name for factory in factories] == ["none"]:
        raise SettingsError("loggers=('none',): there would be nothing to write; leave the logger out: Trainer(logger=False)")
    try:
        where.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(f"{where}: cannot be created ({error.strerror}); choose another folder", parameter="folder") from error
    state: dict[str, Any] = {}
    if resume_from is not None:
        state = read_state(Path(resume_from))
    elif (where / FILE_NAME).exists() and (where / FILE_NAME).stat().st_size:
        raise RunFolderError(f"{where}: holds the rows of a run already; resume it with resume_from, or choose another folder")
    run = RunInfo(
        where, name or where.resolve().name, dict(settings or {}), resume_from is not None,
        str(state.get("run_id") or uuid.uuid4().hex[:8]), resumed_step=int(state.get("step", 0)),
    )  # fmt: skip
    started = time.monotonic()
    made = build_run_logger(
        factories,
        run,
        state.get("loggers", {}),
        columns=lambda: {"wall_time": round(time.monotonic() - started, 3)},
        patience=patience,
    )
    if made is None:
        raise CheckpointError("no logger keeps anything")
    return made
