"""The logger ``mlflow``: an MLflow tracking server, or a local store."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException

import ocrsdk
from ocrsdk import hookimpl
from ocrsdk.errors import LoggerError
from ocrsdk.loggers.base import LoggerFactory, RowLogger, RunInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    from numpy.typing import NDArray

_MOST_PARAMS = 100
"""Parameters that MLflow takes in one call."""


class MlflowLogger(RowLogger):
    """One MLflow run; each row under a time of its own, so that rows can be told apart.

    Args:
        client: Of the tracking server.
        run_id: MLflow's id of the run.
        name: The run's name.
        pictures: Where pictures lie until they are sent.
    """

    def __init__(self, client: MlflowClient, run_id: str, name: str, pictures: Path) -> None:
        super().__init__(name, run_id)
        self.client, self.run_id, self._pictures = client, run_id, pictures
        self._time = 0
        history = client.get_metric_history(run_id, "row")
        self._present = {int(metric.value) for metric in history}

    @property
    def experiment(self) -> MlflowClient:
        """The client, for whatever this class does not do."""
        return self.client

    def has_row(self, row: int) -> bool:
        """Whether the server had the row when the run was resumed."""
        return row in self._present

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """One request with all metrics of the row."""
        self._time = max(int(time.time() * 1000), self._time + 1)
        values = [Metric(key, float(value), self._time, step or 0) for key, value in metrics.items()]
        self.client.log_batch(self.run_id, metrics=values)

    def log_image(self, key: str, images: Sequence[NDArray[np.uint8]], step: int | None = None, **kwargs: Any) -> None:
        """Pictures, as artifacts ``<key>/<caption>-<step>.png``."""
        import cv2

        captions = kwargs.get("caption") or [str(i) for i in range(len(images))]
        self._pictures.mkdir(parents=True, exist_ok=True)
        for caption, image in zip(captions, images, strict=True):
            path = self._pictures / f"{Path(caption).stem}-{step}.png"
            cv2.imwrite(str(path), image[:, :, ::-1])
            self.client.log_artifact(self.run_id, str(path), key)
            path.unlink()

    def state(self) -> dict[str, Any]:
        """MLflow's id of the run, so that a resumed run goes on in it."""
        return {"run_id": self.run_id}

    def finalize(self, status: str) -> None:
        """Close the run."""
        self.client.set_terminated(self.run_id, "FINISHED" if status == "success" else "FAILED")


class MlflowLoggerFactory(LoggerFactory):
    """MLflow; a local store in the run folder where no server is named."""

    name = "mlflow"
    summary = "an MLflow tracking server, or a local store"

    class Options(ocrsdk.Options):
        """Options of ``mlflow``."""

        tracking_uri: str | None = None
        """Address of the server; by default ``MLFLOW_TRACKING_URI``, else a folder ``mlruns`` beside the run folder."""
        experiment: str = "ocrsdk"
        """Name of the experiment."""

    def build(self, run: RunInfo) -> RowLogger:
        """Make or resume the MLflow run.

        Raises:
            LoggerError: The server does not answer, or refuses.
        """
        import os

        uri = (
            self.options.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI") or (run.folder.resolve().parent / "mlruns").as_uri()
        )
        if uri.startswith("file:"):
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        try:
            client = MlflowClient(tracking_uri=uri)
            known = run.state.get("run_id")
            if known is None:
                experiment = client.get_experiment_by_name(self.options.experiment)
                number = experiment.experiment_id if experiment else client.create_experiment(self.options.experiment)
                tags = {"ocrsdk.run_id": run.run_id} | {f"ocrsdk.{key}": str(value) for key, value in run.environment.items()}
                earlier = (
                    client.search_runs([number], f"tags.`ocrsdk.run_id` = '{run.run_id}'", max_results=1) if run.resumed else []
                )
                known = earlier[0].info.run_id if earlier else None
            if known is None:
                known = client.create_run(number, tags=tags, run_name=run.name).info.run_id
                params = [Param(key, str(value)[:6000]) for key, value in run.flat().items()]
                for start in range(0, len(params), _MOST_PARAMS):
                    client.log_batch(known, params=params[start : start + _MOST_PARAMS])
            else:
                client.update_run(known, "RUNNING")
                client.log_batch(known, tags=[RunTag("ocrsdk.resumed", "true")])
            return MlflowLogger(client, known, run.name, run.folder / "mlflow-pictures")
        except (MlflowException, OSError) as error:
            text = str(error).strip().splitlines()
            raise LoggerError(f"MLflow at {uri}: {text[0] if text else type(error).__name__}") from error


@hookimpl
def ocrsdk_register_loggers() -> list[type[LoggerFactory]]:
    """MLflow."""
    return [MlflowLoggerFactory]
