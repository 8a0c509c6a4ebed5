"""What the tests of whole commands share."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from tests.conftest import CLI


def refused(cli: CLI, folder: Path, *args: str | Path, env: dict[str, str] | None = None) -> str:
    """Run, check that it is refused as it should be, and return the message."""
    before = sorted(folder.rglob("*"))
    result: subprocess.CompletedProcess[str] = cli(*args, env=env)
    assert result.returncode == 2, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, result.stderr
    assert result.stderr.splitlines()[-1] == errors[0]
    assert sorted(folder.rglob("*")) == before
    return errors[0]


def untrained() -> dict[str, object]:
    from ocrsdk.models.checkpoint import make_metadata
    from ocrsdk.models.dbnet import DBNet

    state = {f"model.{k}": v for k, v in DBNet().state_dict().items()}
    return {"state_dict": state, "ocrsdk": make_metadata(DBNet(), {}, {}, {}, "fp32")}


def document(cli: CLI, *args: str | Path, env: dict[str, str], rc: int = 0):
    result = cli("cache", *args, "--json", env=env)
    assert result.returncode == rc, result.stderr + result.stdout
    return json.loads(result.stdout)


SMALL = ("--set", "data.short_side=96")

HEAVY = (
    "torch",
    "pytorch_lightning",
    "wandb",
    "cv2",
    "numpy",
    "structlog",
    "pydantic",
    "numba",
    "PIL",
    "diskcache",
    "pluggy",
    "yaml",
)
