"""Several loggers through one writer, in somebody else's Lightning project."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning import Callback
from pytorch_lightning.callbacks import ModelCheckpoint

from ocrsdk import CheckpointError, LogState, OcrsdkError, RunFolderError, open_run_logger
from ocrsdk.loggers.rows import read_rows
from ocrsdk.loggers.wandb_file import read_history
from tests.foreign import Segmenter, bright_pixels, quiet_trainer

WANDB = {"wandb": {"mode": "offline"}}


class Kill(Callback):
    """Ends the run as a kill would, before a batch."""

    def __init__(self, at: int) -> None:
        self.left = at

    def on_train_batch_start(self, *_args: Any) -> None:
        if self.left == 0:
            raise ZeroDivisionError
        self.left -= 1


def train(folder: Path, loggers: tuple[str, ...], kill: int | None = None, resume: Path | None = None) -> None:
    """Three epochs of 12 batches, two in an update, validated every four batches, with a checkpoint for each update."""
    options = {name: WANDB[name] for name in loggers if name in WANDB}
    logger = open_run_logger(folder, loggers, options=options, resume_from=resume)
    callbacks = [LogState(logger), ModelCheckpoint(folder / "ckpt", filename="{step}", every_n_train_steps=1, save_top_k=-1)]
    trainer = quiet_trainer(
        max_epochs=3, accumulate_grad_batches=2, val_check_interval=4, logger=logger, enable_checkpointing=True,
        callbacks=[*callbacks, *([Kill(kill)] if kill is not None else [])],
    )  # fmt: skip
    data = bright_pixels()
    try:
        trainer.fit(Segmenter(), data, data, ckpt_path=resume)
        trainer.validate(trainer.lightning_module, data, verbose=False)
    except ZeroDivisionError:
        assert kill is not None


def shape(folder: Path) -> list[tuple[int, float, tuple[str, ...]]]:
    """(step, epoch, metrics) of each row: values differ after a resume within an epoch, as Lightning begins its data anew."""
    return [(r["step"], r["epoch"], tuple(sorted(k for k in r if "/" in k))) for r in read_rows(folder / "metrics.jsonl")]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[int, float, tuple[str, ...]]]:
    folder = tmp_path_factory.mktemp("whole")
    train(folder, ("jsonl",))
    rows = shape(folder)
    assert len(rows) == 18 + 9 + 3 + 1  # updates, validations, epochs, validate()
    return rows


@pytest.mark.parametrize("back", [1, 2])
@pytest.mark.parametrize("kill", [3, 5, 9, 12, 20, 35])
def test_no_row_is_lost_or_repeated_wherever_a_run_is_killed(whole: list[Any], tmp_path: Path, kill: int, back: int):
    train(tmp_path, ("jsonl", "csv"), kill)
    checkpoints = sorted((tmp_path / "ckpt").iterdir(), key=lambda path: int(path.stem.partition("=")[2]))
    if len(checkpoints) < back:
        pytest.skip("no checkpoint so early")
    train(tmp_path, ("jsonl", "csv"), resume=checkpoints[-back])
    assert shape(tmp_path) == whole
    numbers = [row["row"] for row in read_rows(tmp_path / "metrics.jsonl")]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.slow
def test_wandb_gets_every_row_once_and_its_step_never_goes_back(whole: list[Any], tmp_path: Path):
    train(tmp_path, ("wandb",), 9)
    last = max((tmp_path / "ckpt").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    train(tmp_path, ("wandb",), resume=last)
    assert shape(tmp_path) == whole
    paths = {path.resolve() for path in tmp_path.glob("wandb/*/*.wandb")}  # the client links the latest
    files = sorted((read_history(path) for path in paths), key=lambda rows: rows[0]["_step"])
    history = [row for rows in files for row in rows]
    steps = [row["_step"] for row in history]
    assert steps == sorted(set(steps))
    sent = {int(row["row"]): row for row in history}
    for row in read_rows(tmp_path / "metrics.jsonl"):
        got = sent[row["row"]]
        assert int(got["trainer/step"]) == row["step"]
        assert all(got[key] == pytest.approx(value) for key, value in row.items() if "/" in key)


def test_a_folder_of_another_run_is_refused(tmp_path: Path):
    open_run_logger(tmp_path).log_metrics({"a": 1.0}, 0)
    with pytest.raises(RunFolderError, match="holds the rows of a run already; resume it with resume_from"):
        open_run_logger(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"loggers": ("wnadb",)}, "Did you mean 'wandb'"),
        ({"options": {"csv": {}}}, "'csv' is not among logging.loggers"),
        ({"loggers": ("none",)}, "there would be nothing to write"),
        ({"loggers": ("none", "csv")}, "none cannot be combined"),
        ({"resume_from": "no.ckpt"}, "no.ckpt: no such file"),
    ],
)
def test_refusals(tmp_path: Path, arguments: dict[str, Any], told: str):
    with pytest.raises(OcrsdkError, match=told):
        open_run_logger(tmp_path / "run", **arguments)


def test_a_checkpoint_without_the_callback_is_refused(tmp_path: Path):
    trainer = quiet_trainer(max_steps=1)
    trainer.fit(Segmenter(), bright_pixels())
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    with pytest.raises(CheckpointError, match="written without the callback LogState"):
        open_run_logger(tmp_path / "run", resume_from=tmp_path / "a.ckpt")


def test_copies_of_a_folder_go_on_apart(tmp_path: Path):
    train(tmp_path / "a", ("jsonl",), 9)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    last = max((tmp_path / "b" / "ckpt").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    train(tmp_path / "b", ("jsonl",), resume=last)
    assert len(shape(tmp_path / "b")) > len(shape(tmp_path / "a"))
