"""A W&B run without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ocrsdk.loggers.base import RunInfo
from ocrsdk.loggers.factories import WandbLoggerFactory
from ocrsdk.loggers.wandb import WandbLogger


def offline(folder: Path, **kwargs: Any) -> WandbLogger:
    made = WandbLoggerFactory(WandbLoggerFactory.Options(mode="offline")).build(RunInfo(folder, "r", run_id="abcd1234", **kwargs))
    assert isinstance(made, WandbLogger)
    return made
