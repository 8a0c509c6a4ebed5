"""Conformance of loggers.

::

    from ocrsdk.testing.loggers import LoggerSuite

    class TestMyLogger(LoggerSuite):
        factory = MyLoggerFactory

        def read(self, folder):  # if what was logged can be read back
            return [{"row": 1, "train/loss": 0.5}, ...]
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
from pytorch_lightning import LightningModule, Trainer
from torch import nn

from ocrsdk.errors import SettingsError
from ocrsdk.loggers.base import KeepsState, KnowsImages, KnowsRows, LoggerFactory, LogsImages, RunInfo
from ocrsdk.loggers.run_logger import RunLogger

if TYPE_CHECKING:
    from pathlib import Path

    from pytorch_lightning.loggers import Logger

    from ocrsdk.loggers.base import RowLogger

ROWS: list[tuple[int, dict[str, float]]] = [
    (0, {"train/loss": 3.0, "epoch": 0}),
    (9, {"train/loss": 2.0, "epoch": 0}),
    (9, {"val/hmean": 0.5, "epoch": 0}),
    (9, {"val/hmean": 0.25, "epoch": 0}),  # a second validation at the same step
    (4, {"profile/forward": 0.5}),  # a late row
    (2**40, {"train/loss": 1.0, "epoch": 1}),
    (10, {"train/loss": 1.5, "epoch": 1, "train/grad_norm": 7.0}),
]
"""(step, metrics): back, equal, and far ahead."""


class LoggerSuite:
    """What every logger must do."""

    factory: ClassVar[type[LoggerFactory]]
    options: ClassVar[dict[str, Any]] = {}

    def read(self, folder: Path) -> list[dict[str, Any]] | None:
        """Everything that is found in the run folder after the end, by ``row``; None if it can not be read back here."""
        return None

    def build(self, folder: Path, resumed: bool = False, state: dict[str, object] | None = None) -> RowLogger | Logger | None:
        """The logger of a run in ``folder``."""
        made = self.factory(self.factory.check_options(self.options, "logging.options"))
        settings = {"seed": 0, "data": {"root": None, "crop": 64}, "logging": {"loggers": ["x"]}}
        environment = {"python": "3", "git": None, "packages": {"torch": "2"}}
        return made.build(RunInfo(folder, "suite", settings, resumed, "abcd1234", environment, state or {}))

    def write(self, folder: Path, rows: list[tuple[int, dict[str, float]]], first: int = 1, **kwargs: Any) -> dict[str, object]:
        """Log rows as a run would; returns the logger's state."""
        logger = self.build(folder, **kwargs)
        if logger is None:
            return {}
        run = RunLogger("suite", {"record": logger}, last_row=first - 1)
        for step, metrics in rows:
            run.log_metrics(dict(metrics), step)
            run.save()
        state = run.state()
        run.finalize("success")
        assert run.problems == {}
        return dict(state.get("record", {}))

    def check(self, folder: Path, rows: list[tuple[int, dict[str, float]]]) -> None:
        """Compare what is found with what was logged."""
        found = self.read(folder)
        if found is None:
            return
        by_row = {int(row["row"]): row for row in found}
        assert len(by_row) == len(found), "a row was repeated"
        assert sorted(by_row) == list(range(1, len(rows) + 1))
        for number, (step, metrics) in enumerate(rows, 1):
            row = by_row[number]
            for key, value in metrics.items():
                assert math.isclose(float(row[key]), value, rel_tol=1e-6), (number, key)
            if "trainer/step" in row:
                assert int(row["trainer/step"]) == step

    def test_describes_itself(self) -> None:
        """Name and summary."""
        assert re.fullmatch(r"[a-z0-9][a-z0-9-]*", self.factory.name)
        assert self.factory.summary

    def test_refuses_unknown_options(self) -> None:
        """With the names of those that there are."""
        with pytest.raises(SettingsError, match="no_such_option"):
            self.factory.check_options({"no_such_option": 1}, "logging.options")

    def test_keeps_every_row_in_whatever_order(self, tmp_path: Path) -> None:
        """Steps that go back, repeat and jump."""
        self.write(tmp_path, ROWS)
        self.check(tmp_path, ROWS)

    def test_takes_nan_and_infinity(self, tmp_path: Path) -> None:
        """A diverging run is when logs matter most."""
        self.write(tmp_path, [(0, {"a": math.nan}), (1, {"a": math.inf, "b": -math.inf}), (2, {"a": 1.0})])

    def test_a_resumed_run_goes_on(self, tmp_path: Path) -> None:
        """Nothing is overwritten, nothing repeated."""
        state = self.write(tmp_path, ROWS[:4])
        self.write(tmp_path, ROWS[4:], first=5, resumed=True, state=state)
        self.check(tmp_path, ROWS)

    def test_state_is_plain_data(self, tmp_path: Path) -> None:
        """It is stored in checkpoints, which hold no objects."""
        import json

        logger = self.build(tmp_path)
        if isinstance(logger, KeepsState):
            assert json.loads(json.dumps(logger.state())) == logger.state()
        if isinstance(logger, KnowsRows):
            assert logger.has_row(1) is False
        if isinstance(logger, KnowsImages):
            assert logger.has_images("val/pages", 0) is False
        if logger is not None:
            logger.finalize("success")

    def test_pictures(self, tmp_path: Path) -> None:
        """If it takes any."""
        logger = self.build(tmp_path)
        if isinstance(logger, LogsImages):
            pictures = [np.full((8, 12, 3), value, np.uint8) for value in (0, 200)]
            logger.log_image("val/pages", pictures, 3, caption=["a.jpg", "b.jpg"])
        if logger is not None:
            logger.finalize("success")

    def test_under_lightning(self, tmp_path: Path) -> None:
        """What a trainer logs arrives."""

        class Module(LightningModule):
            def __init__(self) -> None:
                super().__init__()
                self.layer = nn.Linear(1, 1)

            def training_step(self, batch: object, batch_idx: int) -> Any:
                loss = self.layer(batch).sum()
                self.log("train/loss", loss)
                return loss

            def configure_optimizers(self) -> Any:
                import torch

                return torch.optim.SGD(self.parameters(), lr=0.1)

        import torch

        logger = self.build(tmp_path)
        run = RunLogger("suite", {"record": logger}) if logger is not None else None
        trainer = Trainer(
            max_epochs=2, accelerator="cpu", devices=1, logger=run or False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False, log_every_n_steps=1, default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(Module(), torch.utils.data.DataLoader(torch.ones(3, 1)))  # type: ignore[arg-type]
        if run is not None:
            assert run.last_row == 6
            assert run.problems == {}
        found = self.read(tmp_path)
        assert found is None or len(found) == 6
