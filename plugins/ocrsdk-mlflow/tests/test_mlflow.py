"""What was logged is read back through MLflow's own client, from a real store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient

from ocrsdk.errors import LoggerError
from ocrsdk.loggers.base import RunInfo
from ocrsdk.testing.loggers import LoggerSuite
from ocrsdk_mlflow import MlflowLoggerFactory


def client_of(folder: Path) -> MlflowClient:
    return MlflowClient(tracking_uri=(folder.resolve().parent / "mlruns").as_uri())


def runs(folder: Path) -> list[Any]:
    client = client_of(folder)
    experiment = client.get_experiment_by_name("ocrsdk")
    return list(client.search_runs([experiment.experiment_id]))


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


class TestMlflow(LoggerSuite):
    factory = MlflowLoggerFactory

    def build(self, folder: Path, resumed: bool = False, state: dict[str, Any] | None = None) -> Any:
        (folder / "run").mkdir(exist_ok=True)
        return super().build(folder / "run", resumed, state)

    def read(self, folder: Path) -> list[dict[str, Any]]:
        (run,) = runs(folder / "run")
        rows: dict[int, dict[str, Any]] = {}
        for key in run.data.metrics:
            for metric in client_of(folder / "run").get_metric_history(run.info.run_id, key):
                rows.setdefault(metric.timestamp, {"trainer/step": metric.step})[key] = metric.value
        return list(rows.values())


def test_settings_environment_pictures_and_end(tmp_path: Path):
    (tmp_path / "run").mkdir()
    info = RunInfo(tmp_path / "run", "r", {"data": {"crop": 64}}, run_id="abcd", environment={"git": {"commit": "c0ffee"}})
    logger = MlflowLoggerFactory().build(info)
    logger.log_image("val/pages", [np.zeros((8, 8, 3), np.uint8)], 3, caption=["a.jpg"])
    logger.finalize("success")
    (run,) = runs(tmp_path / "run")
    assert run.data.params["data.crop"] == "64"
    assert "c0ffee" in run.data.tags["ocrsdk.git"]
    assert run.info.status == "FINISHED"
    assert [a.path for a in client_of(tmp_path / "run").list_artifacts(run.info.run_id, "val/pages")] == ["val/pages/a-3.png"]


def test_a_store_that_cannot_be_written(tmp_path: Path):
    (tmp_path / "run").mkdir()
    (tmp_path / "mlruns").write_text("a file")
    with pytest.raises(LoggerError, match="MLflow at file:"):
        MlflowLoggerFactory().build(RunInfo(tmp_path / "run", "r"))
