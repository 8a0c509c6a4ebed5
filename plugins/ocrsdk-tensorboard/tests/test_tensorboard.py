"""What was logged is read back from the event files, by TensorBoard's own reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util.tensor_util import make_ndarray

from ocrsdk.errors import LoggerError
from ocrsdk.loggers.base import RunInfo
from ocrsdk.testing.loggers import LoggerSuite
from ocrsdk_tensorboard import TensorBoardLoggerFactory


def events(folder: Path) -> list[Any]:
    return [event for path in sorted((folder / "tensorboard").iterdir()) for event in EventFileLoader(str(path)).Load()]


class TestTensorBoard(LoggerSuite):
    factory = TensorBoardLoggerFactory

    def read(self, folder: Path) -> list[dict[str, Any]]:
        rows: dict[float, dict[str, Any]] = {}
        for event in events(folder):
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    row = rows.setdefault(event.wall_time, {"trainer/step": event.step})
                    row[value.tag] = float(make_ndarray(value.tensor).item())
        return list(rows.values())


def test_settings_and_pictures(tmp_path: Path):
    import numpy as np

    logger = TensorBoardLoggerFactory().build(
        RunInfo(tmp_path, "r", {"data": {"crop": 64}}, environment={"git": {"commit": "c0ffee"}})
    )
    logger.log_image("val/pages", [np.zeros((8, 8, 3), np.uint8)], 3, caption=["a.jpg"])
    logger.finalize("success")
    tags = {value.tag: str(value) for event in events(tmp_path) for value in event.summary.value}
    assert "val/pages/a.jpg" in tags
    assert "data.crop: 64" in tags["settings/text_summary"]
    assert "c0ffee" in tags["settings/text_summary"]


def test_a_folder_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "tensorboard").write_text("a file")
    with pytest.raises(LoggerError, match="tensorboard: cannot be written"):
        TensorBoardLoggerFactory().build(RunInfo(tmp_path, "r"))
