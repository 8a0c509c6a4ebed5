"""No point is lost, overwritten or repeated in W&B: against its measured semantics, and against the library itself, offline."""

from __future__ import annotations

import math
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ocrsdk.errors import LoggerError
from ocrsdk.loggers.base import RunInfo
from ocrsdk.loggers.factories import JsonlLoggerFactory, WandbLoggerFactory
from ocrsdk.loggers.rows import read_rows
from ocrsdk.loggers.run_logger import RunLogger
from ocrsdk.loggers.wandb import WandbLogger
from ocrsdk.loggers.wandb_file import read_history
from ocrsdk.testing.loggers import LoggerSuite
from tests.loggers.offline import offline


class TestWandb(LoggerSuite):
    factory = WandbLoggerFactory
    options: ClassVar = {"mode": "offline"}

    def read(self, folder: Path) -> list[dict[str, Any]]:
        return [row for path in sorted(folder.glob("wandb/offline-run-*/*.wandb")) for row in read_history(path)]


METRICS = {
    "train": ["train/loss", "train/lr"],
    "val": ["val/hmean"],
    "profile": ["profile/forward"],
    "end": ["best/hmean"],
}


class FakeRun:
    """What the client does with steps, as measured: lower ones are dropped, equal ones merged with the last value winning."""

    id, name = "fake", "fake"

    def __init__(self, start: int = 0) -> None:
        self.step = start
        self.history: dict[int, dict[str, Any]] = {}
        self.dropped = 0

    def define_metric(self, *_args: Any, **_kwargs: Any) -> None:
        pass

    def log(self, data: dict[str, Any], step: int) -> None:
        if type(step) is not int:
            raise TypeError(step)
        if step < self.step:
            self.dropped += 1
            return
        self.step = step
        self.history.setdefault(step, {}).update(data)


EVENT = st.tuples(st.sampled_from(sorted(METRICS)), st.one_of(st.integers(0, 50), st.just(2**40)), st.booleans())


@settings(max_examples=1000, deadline=None)
@given(st.lists(EVENT, max_size=25))
def test_f35_nothing_is_lost_or_overwritten(events: list[tuple[str, int, bool]]):
    runs = [FakeRun()]
    logger = RunLogger("r", {"wandb": WandbLogger(runs[0])})
    logged = []
    for number, (kind, step, resume) in enumerate(events):
        if resume:  # another process goes on; the server knows the last step
            runs.append(FakeRun(runs[-1].step + 1 if runs[-1].history else 0))
            logger = RunLogger("r", {"wandb": WandbLogger(runs[-1])}, last_row=logger.last_row)
        row = {name: float(number) + i / 10 for i, name in enumerate(METRICS[kind])}
        logger.log_metrics(row, step)
        logged.append({**row, "trainer/step": step, "row": number + 1})
    assert sum(run.dropped for run in runs) == 0
    kept = [row for run in runs for row in run.history.values()]
    assert kept == logged
    steps = [step for run in runs for step in run.history]
    assert steps == sorted(set(steps))


@pytest.mark.slow
def test_a_thousand_interleavings_with_the_library_itself(tmp_path: Path):
    """In six processes' worth of runs of one id, resumed one after another."""
    rng = random.Random(0)
    state: dict[str, Any] = {}
    logged: dict[int, dict[str, Any]] = {}
    rows = 0
    for part in range(6):
        made = WandbLoggerFactory(WandbLoggerFactory.Options(mode="offline"))
        wandb_logger = made.build(RunInfo(tmp_path, "r", resumed=part > 0, run_id="abcd1234", state=state))
        logger = RunLogger("r", {"wandb": wandb_logger}, last_row=rows)
        for _ in range(1000 // 6 + 1):
            for kind in rng.choices(sorted(METRICS), k=rng.randint(1, 6)):
                step = rng.choice([rng.randint(0, 500), 2**40])
                row = {name: rng.random() for name in METRICS[kind]}
                logger.log_metrics(dict(row), step)
                logged[logger.last_row] = {**row, "trainer/step": step}
        rows, state = logger.last_row, logger.state()["wandb"]
        logger.finalize("success")
        assert logger.problems == {}
    found = [row for path in sorted(tmp_path.glob("wandb/offline-run-*/*.wandb")) for row in read_history(path)]
    assert len(found) == len(logged) == rows
    for row in found:
        want = logged.pop(int(row["row"]))
        assert {key: row[key] for key in want} == want
    assert not logged
    steps = [row["_step"] for row in found]
    assert steps == sorted(set(steps))


def test_settings_and_environment_are_in_the_file(tmp_path: Path):
    from wandb.proto import wandb_internal_pb2

    from ocrsdk.loggers.wandb_file import _records

    logger = offline(tmp_path, settings={"seed": 77}, environment={"git": {"commit": "c0ffee"}, "cache": {"version": "v1"}})
    logger.log_metrics({"a": 1.0}, 0)
    logger.finalize("success")
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    text = "".join(str(wandb_internal_pb2.Record.FromString(data)) for data in _records(path))
    for wanted in ("c0ffee", "seed", "77", "v1"):
        assert wanted in text


@pytest.mark.slow
def test_f36_the_service_is_killed_and_the_run_goes_on(tmp_path: Path):
    """In a process of its own: the client keeps one service for each process."""
    code = """
import psutil
from pathlib import Path
from ocrsdk.loggers.base import RunInfo
from ocrsdk.loggers.factories import JsonlLoggerFactory, WandbLoggerFactory
from ocrsdk.loggers.run_logger import RunLogger
info = RunInfo(Path("."), "r")
record, sink = JsonlLoggerFactory().build(info), WandbLoggerFactory(WandbLoggerFactory.Options(mode="offline")).build(info)
logger = RunLogger("r", {"jsonl": record, "wandb": sink})
logger.log_metrics({"a": 0.0}, 0)
services = [p for p in psutil.Process().children(recursive=True) if "wandb" in p.name()]
assert services
for process in services:
    process.kill()
    process.wait(10)
for step in range(1, 30):
    logger.log_metrics({"a": float(step)}, step)
logger.finalize("success")
assert "wandb" in logger.problems
"""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(read_rows(tmp_path / "metrics.jsonl")) == 30
    told = done.stdout + done.stderr
    assert told.count("a logger failed and is switched off; the run goes on") == 1
    assert told.count("a logger missed rows") == 1
    assert "ocrsdk logs sync RUN --to wandb" in told


@pytest.mark.skipif(os.geteuid() != 0 or sys.platform != "linux", reason="mounts a small disk")
@pytest.mark.slow
def test_f37_a_full_disk_is_noticed_when_rows_are_counted(tmp_path: Path):
    record = JsonlLoggerFactory().build(RunInfo(tmp_path, "r"))
    (tmp_path / "wandb").mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "none", tmp_path / "wandb"], check=False, capture_output=True
    )
    if mounted.returncode:
        pytest.skip(f"no disk can be mounted: {mounted.stderr.decode().strip()}")
    try:
        logger = RunLogger("r", {"jsonl": record, "wandb": offline(tmp_path)})
        for step in range(6000):
            logger.log_metrics({"train/loss": float(step), "train/other": 1.0}, step)
        logger.finalize("success")
        assert logger.problems["wandb"].startswith("W&B accepted 6000 rows and wrote ") or "wandb" in logger.missed
        assert len(read_rows(tmp_path / "metrics.jsonl")) == 6000
    finally:
        subprocess.run(["umount", "-l", tmp_path / "wandb"], check=True)


def test_f38_a_forked_process_may_not_log(tmp_path: Path):
    record = JsonlLoggerFactory().build(RunInfo(tmp_path, "r"))
    wandb_logger = offline(tmp_path)
    logger = RunLogger("r", {"jsonl": record, "wandb": wandb_logger})
    for step in range(5):
        logger.log_metrics({"a": 1.0}, step)
    for _ in range(4):
        pid = os.fork()
        if pid == 0:
            refused = 0
            for _ in range(10):
                try:
                    logger.log_metrics({"a": 2.0}, 9)
                except LoggerError:
                    refused += 1
            logger.finalize("success")
            os._exit(0 if refused == 10 else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    logger.log_metrics({"a": 1.0}, 5)
    logger.finalize("success")
    assert logger.problems == {}
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert [row["a"] for row in read_history(path)] == [1.0] * 6
    assert len(read_rows(tmp_path / "metrics.jsonl")) == 6


def test_f39_online_without_key_or_server_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in list(os.environ):
        if name.startswith("WANDB_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    online = WandbLoggerFactory(WandbLoggerFactory.Options(mode="online"))
    with pytest.raises(LoggerError, match=r"mode is online, but there is no API key; log in with: wandb login, or go on without"):
        online.build(RunInfo(tmp_path, "r"))
    code = (
        "from pathlib import Path\nfrom ocrsdk.loggers.base import RunInfo\n"
        "from ocrsdk.loggers.factories import WandbLoggerFactory as F\n"
        "from ocrsdk.errors import LoggerError\n"
        "try:\n    F(F.Options(mode='online')).build(RunInfo(Path('.'), 'r'))\nexcept LoggerError as error:\n    print(error)\n"
        "F().build(RunInfo(Path('.'), 'r')).finalize('success')\n"
    )
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("WANDB_")},
        "WANDB_API_KEY": "0123456789" * 4,
        "WANDB_BASE_URL": "http://127.0.0.1:9",
    }
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "mode is online, but 127.0.0.1 does not answer" in done.stdout
    assert len(list(tmp_path.glob("wandb/offline-run-*"))) == 1
    assert "0123456789" not in done.stdout + done.stderr


def test_f40_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path):
    (tmp_path / "wandb").write_text("a file")
    with pytest.raises(LoggerError, match=r"wandb: cannot be written \(File exists\); W&B needs it"):
        offline(tmp_path)


def test_nan_and_infinity_arrive(tmp_path: Path):
    logger = offline(tmp_path)
    logger.log_metrics({"a": math.nan, "b": math.inf}, 0)
    logger.finalize("success")
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    (row,) = read_history(path)
    assert math.isnan(float(row["a"]))
    assert float(row["b"]) == math.inf
