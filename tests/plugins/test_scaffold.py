"""A scaffold passes its suite before a line is changed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.packages import Environment


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cache-backend", "precision-strategy", "logger", "annotation-format"])
def test_a_scaffold_passes_its_suite_before_a_line_is_changed(environment: Environment, tmp_path: Path, kind: str):
    environment.run("ocrsdk", "plugins", "new", "my-thing", "--kind", kind, cwd=tmp_path)
    package = tmp_path / "ocrsdk-my-thing"
    environment.run("pip", "install", package, cwd=tmp_path)
    shutil.rmtree(package / "build", ignore_errors=True)
    out = environment.run("pytest", "-q", "-p", "no:cacheprovider", "tests", cwd=package)
    assert " passed" in out
    assert "failed" not in out
    (found,) = json.loads(environment.run("ocrsdk", "plugins", "info", "my-thing", "--json", cwd=tmp_path))
    assert (found["kind"].replace(" ", "-"), found["state"], found["package"]) == (kind, "ok", "ocrsdk-my-thing 0.1.0")
    assert found["options"]["properties"]
    lint = [sys.executable, "-m", "ruff", "check", "--select", "E,F,W,I,B,UP", "--ignore", "E501", "."]
    subprocess.run(lint, cwd=package, check=True, capture_output=True)
    environment.run("ocrsdk", "plugins", "new", "my-thing", "--kind", kind, "--in", tmp_path / "other", cwd=tmp_path, code=2)
