"""Packages that are really built and installed: those under plugins/, and that of the tutorial."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
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
@pytest.mark.parametrize(
    ("page", "name"),
    [("write-a-cache-backend", "shelf"), ("write-a-logger", "ledger"), ("write-a-precision-strategy", "fp64")],
)
def test_the_tutorials_are_executed(environment: Environment, tmp_path: Path, page: str, name: str):
    text = (ROOT / f"docs/plugins/{page}.md").read_text()
    folder = tmp_path
    commands, out = 0, ""
    for block in re.finditer(r'^```(bash|python title="(.+?)")\n(.*?)^```', text, re.MULTILINE | re.DOTALL):
        if block[2]:  # a file that the page shows
            assert (folder / block[2]).is_file(), block[2]
            (folder / block[2]).write_text(block[3])
            continue
        commands += block[3].count("\n")
        out += environment.run("bash", "-euc", block[3], cwd=folder)
        folder = tmp_path / f"ocrsdk-{name}"
    assert commands >= 8
    assert name in out
    assert (tmp_path / f"ocrsdk-{name}/runs/{name}/checkpoints/best.ckpt").is_file()


LINES = """
import numpy as np, sys
from ocrsdk import CachedDataset, content_identity
class Squares:
    made = 0
    def __len__(self): return 6
    def __getitem__(self, i):
        Squares.made += 1
        return {"square": np.full((40, 40), i * i)}
def cached(power):
    return CachedDataset(Squares(), name="squares", manifest={"power": power}, identity=str, folder="caches",
                         backend=sys.argv[1], options=eval(sys.argv[2]))
for power, made in ((2, 6), (2, 6), (3, 12)):
    with cached(power) as items:
        for _ in range(2):
            assert [int(item["square"][0, 0]) for item in items] == [i * i for i in range(6)]
        assert Squares.made == made, (power, Squares.made)
        assert items.explain(1).hit and items.validate().different == []
        Squares.made = made
print("kept")
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["lmdb", "valkey"])
def test_items_of_any_dataset_are_kept_by_backends_of_other_packages(environment: Environment, tmp_path: Path, backend: str):
    environment.run("pip", "install", shutil.copytree(ROOT / f"plugins/ocrsdk-{backend}", tmp_path / "package"), cwd=tmp_path)
    options, server = {}, None
    if backend == "valkey":
        program = shutil.which("valkey-server") or shutil.which("redis-server")
        if program is None:
            pytest.skip("neither valkey-server nor redis-server is installed")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", ""]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        options = {"url": f"valkey://127.0.0.1:{port}/0"}
        end = time.monotonic() + 20
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert time.monotonic() < end
            time.sleep(0.05)
    try:
        assert environment.run("python", "-c", LINES, backend, repr(options), cwd=tmp_path) == "kept\n"
        sets = [f"cache.options.{name}={value}" for name, value in options.items()]
        more = [word for text in (f"cache.backend={backend}", *sets) for word in ("--set", text)]
        more += ["--set", "cache.dir=caches"]
        status = json.loads(environment.run("ocrsdk", "cache", "status", "--json", *more, cwd=tmp_path))
        assert [(version["owner"], version["usage"]["entries"]) for version in status["versions"]] == [
            ("squares", 12)
        ] * 2  # each with its note
    finally:
        if server is not None:
            server.kill()
            server.wait()
