"""Packages that are really built and installed: those under plugins/, and that of the tutorial."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.packages import ROOT, Environment

PACKAGES = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))


@pytest.mark.slow
def test_all_packages_together_appear_everywhere_with_no_edit(environment: Environment, tmp_path: Path, synth_pages: Path):
    assert len(PACKAGES) == 5
    copies = [shutil.copytree(package, tmp_path / package.name) for package in PACKAGES]  # a build leaves files behind
    environment.run("pip", "install", *copies, cwd=tmp_path)
    listed = json.loads(environment.run("ocrsdk", "plugins", "list", "--json", cwd=tmp_path))
    assert {record["state"] for record in listed} == {"ok"}
    provided = {(kind, name) for record in listed for kind, name, _ in record["provides"]}
    assert provided >= {
        ("cache backend", "lmdb"), ("cache backend", "valkey"), ("logger", "tensorboard"), ("logger", "mlflow"),
        ("precision strategy", "bf16-stochastic"),
    }  # fmt: skip
    schema = environment.run("ocrsdk", "config", "schema", cwd=tmp_path)
    for option in ("flush_seconds", "tracking_uri", "durability", "prefix", "growth_interval"):
        assert f'"{option}"' in schema
    done = environment.run(
        "ocrsdk", "train", synth_pages, "--epochs", "2", "--cache", "lmdb", "--logger", "tensorboard", "--logger", "mlflow",
        "--precision", "bf16-stochastic", "--set", "data.crop=64", "--set", "data.short_side=96", "--run-dir", "runs/all", "--json",
        "--set", 'logging.options={"tensorboard": {"flush_seconds": 5}}', cwd=tmp_path,
    )  # fmt: skip
    result = json.loads(done)
    assert (result["precision"], result["logger_problems"]) == ("bf16-stochastic", {})
    assert list((tmp_path / "runs/all/tensorboard").iterdir())
    assert list((tmp_path / "runs/mlruns").iterdir())
    size = ("--set", "data.crop=64", "--set", "data.short_side=96")
    status = environment.run("ocrsdk", "cache", "status", "--json", "--set", "cache.backend=lmdb", *size, cwd=tmp_path)
    assert json.loads(status)["versions"][0]["sessions"]["all"]["hits"] > 0
    best = tmp_path / "runs/all/checkpoints/best.ckpt"
    assert json.loads(environment.run("ocrsdk", "evaluate", best, synth_pages, "--json", cwd=tmp_path))["images"] == 2
    code = (
        "from ocrsdk.plugins.manager import installed as i\n"
        "print(i().look_up('cache backend', 'lmdb').name, i().look_up('logger', 'mlflow').name)"
    )
    assert environment.run("python", "-c", code, cwd=tmp_path) == "lmdb mlflow\n"
    assert json.loads(environment.run("ocrsdk", "plugins", "doctor", "--json", cwd=tmp_path))


@pytest.mark.slow
def test_the_tutorial_is_executed(environment: Environment, tmp_path: Path):
    text = (ROOT / "docs/plugins/write-a-cache-backend.md").read_text()
    script = "\n".join(re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    assert script.count("\n") >= 8
    out = environment.run("bash", "-euc", script, cwd=tmp_path)
    assert "shelf" in out
    assert (tmp_path / "ocrsdk-shelf/runs/shelf/checkpoints/best.ckpt").is_file()
