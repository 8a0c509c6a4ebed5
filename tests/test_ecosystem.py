"""Packages that are really built and installed: the ones under plugins/, scaffolded ones, and bad ones."""

from __future__ import annotations

import json
import os
import re
import shutil
import site
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
import torch

from tests.conftest import CLI
from tests.test_plugins import BROKEN, GOOD, install

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))


class Environment:
    """A fresh venv that sees the packages of this one; installs are real, without an index."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False)
        self.bin = folder / "bin"
        inside = next((folder / "lib").glob("python*/site-packages"))
        (inside / "outer.pth").write_text("\n".join([sysconfig.get_path("purelib"), str(ROOT), *site.getsitepackages()]) + "\n")
        for name in ("ocrsdk", "pytest", "pip"):
            script = self.bin / name
            script.write_text(f'#!/bin/sh\nexec "{self.bin}/python" -m {name} "$@"\n')
            script.chmod(0o755)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("OCRSDK_", "WANDB_", "MLFLOW_"))}
        self.env = {
            **clean, "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}", "PIP_NO_BUILD_ISOLATION": "0", "PIP_NO_DEPS": "1",
            "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "XDG_CACHE_HOME": str(folder / "cache"),
            "HOME": str(folder), "PIP_QUIET": "1",
        }  # fmt: skip

    def run(self, *command: str | Path, cwd: Path, code: int = 0) -> str:
        done = subprocess.run([*map(str, command)], cwd=cwd, env=self.env, capture_output=True, text=True, check=False, timeout=600)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "venv")


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
    code = "from ocrsdk.plugins.manager import installed as i; print(i().look_up('cache backend', 'lmdb').name, i().look_up('logger', 'mlflow').name)"
    assert environment.run("python", "-c", code, cwd=tmp_path) == "lmdb mlflow\n"
    assert json.loads(environment.run("ocrsdk", "plugins", "doctor", "--json", cwd=tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cache-backend", "precision-strategy", "logger"])
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


@pytest.mark.slow
def test_the_tutorial_is_executed(environment: Environment, tmp_path: Path):
    text = (ROOT / "docs/plugins/write-a-cache-backend.md").read_text()
    script = "\n".join(re.findall(r"^```bash\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    assert script.count("\n") >= 8
    out = environment.run("bash", "-euc", script, cwd=tmp_path)
    assert "shelf" in out
    assert (tmp_path / "ocrsdk-shelf/runs/shelf/checkpoints/best.ckpt").is_file()


def package(folder: Path, name: str, modules: dict[str, str], entries: dict[str, str]) -> Path:
    """The source of a distribution, for pip."""
    folder.mkdir()
    for module, code in modules.items():
        (folder / f"{module}.py").write_text(code)
    table = "\n".join(f'{entry} = "{target}"' for entry, target in entries.items())
    included = json.dumps([f"{module}.py" for module in modules])
    (folder / "pyproject.toml").write_text(
        f'[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
        f'[project]\nname = "{name}"\nversion = "1.0"\n[project.entry-points.ocrsdk]\n{table}\n'
        f"[tool.hatch.build.targets.wheel]\nonly-include = {included}\n"
    )
    return folder


@pytest.mark.slow
def test_f48_to_f59_broken_packages_that_pip_installed_take_nothing_down(environment: Environment, tmp_path: Path):
    codes = {name: code for name, (code, _) in BROKEN.items()}
    codes |= {"noisy": GOOD, "slow": SLOW, "bare": "", "meddler": MEDDLING}
    entries = {name: f"bad_{name}" + ":nothing" * (name == "bare") for name in codes}
    modules = {f"bad_{name}": code for name, code in codes.items()}
    bad = package(tmp_path / "bad", "ocrsdk-bad", modules, entries)
    twin = package(tmp_path / "twin", "ocrsdk-twin", {"a_twin": GOOD}, {"noisy": "a_twin"})
    environment.run("pip", "install", bad, twin, cwd=tmp_path)
    assert "Usage:" in environment.run("ocrsdk", "--help", cwd=tmp_path)
    assert environment.run("ocrsdk", "--version", cwd=tmp_path).startswith("ocrsdk ")
    records = json.loads(environment.run("ocrsdk", "plugins", "list", "--json", cwd=tmp_path))
    by_name = {record["name"]: record for record in records if record["distribution"] == "ocrsdk-bad"}
    assert by_name.keys() == codes.keys()
    for name, (_, reason) in BROKEN.items():
        assert by_name[name]["state"] == "failed", name
        assert reason in by_name[name]["reason"], name
    assert "has no attribute 'nothing'" in by_name["bare"]["reason"]
    assert by_name["slow"]["load_ms"] >= 2000
    assert by_name["meddler"]["changes"]
    twins = sorted(record["state"] for record in records if record["name"] == "noisy")
    assert twins == ["failed", "ok"]
    assert next(record["state"] for record in records if record["name"] == "builtin") == "ok"
    environment.run("ocrsdk", "plugins", "list", "--strict", cwd=tmp_path, code=1)
    assert json.loads(environment.run("ocrsdk", "config", "show", "--json", cwd=tmp_path))


def test_bad_scaffolds(cli: CLI, tmp_path: Path):
    for args, message in (
        (("My Cache", "--kind", "cache-backend"), "'My Cache' is no name for a plug-in"),
        (
            ("x", "--kind", "cache-backends"),
            "no kind 'cache-backends'. There are: cache-backend, precision-strategy, logger. Did you",
        ),
        (("diskcache", "--kind", "cache-backend"), "the cache backend name 'diskcache' is taken"),
    ):
        result = cli("plugins", "new", *args)
        assert result.returncode == 2
        assert message in result.stderr
    assert not list(tmp_path.iterdir())


MEDDLING = """
import ocrsdk.plugins.manager
ocrsdk.plugins.manager.installed.__wrapped__
import ocrsdk.errors
def nearest(name, known): return " hijacked"
ocrsdk.errors.nearest = nearest
"""
NEWER = "ocrsdk_api_version = 99"
SLOW = "import time; time.sleep(2.0)"
CACHE = """
from ocrsdk import hookimpl
from ocrsdk.cache.base import CacheBackend, Usage
class Bad(CacheBackend):
    name = "bad"
    summary = "raises in a worker"
    def get(self, key): raise ZeroDivisionError("only in a worker")
    def set(self, key, value): raise ZeroDivisionError("only in a worker")
    def delete(self, key): return False
    def __iter__(self): return iter(())
    def usage(self): return Usage(0, 0)
    def versions(self): return []
    def remove_version(self, version): pass
    def health(self, fix=False): return []
    def close(self): pass
@hookimpl
def ocrsdk_register_cache_backends():
    return [Bad]
"""
STRATEGY = """
from ocrsdk import hookimpl
from ocrsdk.precision.base import PrecisionStrategy
class Bad(PrecisionStrategy):
    name = "bad"
    summary = "raises"
    def check(self, device): raise KeyError("device")
    def trainer_kwargs(self, device): return {}
@hookimpl
def ocrsdk_register_precision_strategies():
    return [Bad]
"""
LOGGER = """
from ocrsdk import hookimpl
from ocrsdk.loggers.base import LoggerFactory
class Bad(LoggerFactory):
    name = "bad"
    summary = "raises"
    def build(self, run): raise OSError("no server")
@hookimpl
def ocrsdk_register_loggers():
    return [Bad]
"""
SMALL = ("--epochs", "1", "--set", "data.crop=64", "--set", "data.short_side=96")


@pytest.fixture
def bad_site(tmp_path: Path) -> dict[str, str]:
    folder = tmp_path / "site"
    folder.mkdir()
    for name, code in (
        ("meddling", MEDDLING), ("newer", NEWER), ("slow", SLOW), ("cache", CACHE), ("strategy", STRATEGY), ("logger", LOGGER),
        ("missing", "import no_such_module"),
    ):  # fmt: skip
        install(folder, name, code)
    info = folder / "opencv_python-4.10.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: opencv-python\nVersion: 4.10.0\n")
    wants = folder / "ocrsdk_slow-1.0.dist-info/METADATA"
    wants.write_text(wants.read_text() + "Requires-Dist: numpy<1.0\n")
    return {"PYTHONPATH": str(folder)}


@pytest.mark.slow
def test_doctor_finds_each_of_them(cli: CLI, bad_site: dict[str, str]):
    result = cli("plugins", "doctor", "--json", env=bad_site)
    assert result.returncode == 1, result.stderr
    checks = json.loads(result.stdout)
    lines = [f"{check['level']} {check['what']} | {check['remedy']}" for check in checks]

    def has(*parts: str) -> bool:
        return any(all(part in line for part in parts) for line in lines)

    assert has("error opencv-python and opencv-python-headless are both installed", "--force-reinstall opencv-python-headless")
    assert has("warning ocrsdk-meddling 1.0 replaces ocrsdk.errors.nearest for everybody", "OCRSDK_DISABLED_PLUGINS=meddling")
    assert has("error ocrsdk-newer 1.0", "needs API version 99 of ocrsdk, this is 1", "pip install --upgrade ocrsdk ocrsdk-newer")
    assert has("warning ocrsdk-slow 1.0 takes 2.", "OCRSDK_DISABLED_PLUGINS=slow")
    assert has("error ocrsdk-slow needs numpy<1.0, found", "pip install 'numpy<1.0'")
    assert has("error ocrsdk-missing 1.0", "pip install no-such-module")
    (broken,) = json.loads(cli("plugins", "info", "missing", "--json", env=bad_site).stdout)
    assert broken["state"] == "failed"
    assert broken["remedy"].startswith("pip install no-such-module")


@pytest.mark.slow
def test_a_plugin_that_fails_in_use_is_named(cli: CLI, bad_site: dict[str, str], synth_pages: Path):
    result = cli("train", synth_pages, *SMALL, "--cache", "bad", "--workers", "1", "--run-dir", "a", env=bad_site)
    assert result.returncode == 0, result.stderr
    assert "the cache backend 'bad' failed in get: ZeroDivisionError: only in a worker" in result.stderr
    assert "this process goes on without its cache" in result.stderr
    result = cli("train", synth_pages, *SMALL, "--precision", "bad", env=bad_site)
    assert result.returncode == 2
    assert "the precision strategy 'bad' of ocrsdk-strategy 1.0 failed: KeyError: 'device'" in result.stderr
    result = cli("train", synth_pages, *SMALL, "--logger", "bad", env=bad_site)
    assert result.returncode == 2
    assert "the logger 'bad' of ocrsdk-logger 1.0 failed: OSError: no server" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_twenty_broken_or_slow_plugins_cost_help_nothing(cli: CLI, tmp_path: Path):
    folder = tmp_path / "site"
    folder.mkdir()
    codes = [
        "import no_such_module",
        "raise ValueError('x')",
        "def broken(:",
        "import sys; sys.exit(3)",
        "import time; time.sleep(60)",
    ]
    for i in range(20):
        install(folder, f"n{i}", codes[i % 5])
    env = {"PYTHONPATH": str(folder)}
    for args in (("--help",), ("--version",), ("train", "--help"), ("plugins", "--help")):
        result = cli(*args, env=env, timeout=50)
        assert result.returncode == 0, result.stderr
    code = "import sys; sys.argv = ['ocrsdk', '--help']\nimport ocrsdk.cli\n"
    code += "try:\n    ocrsdk.cli.main()\nexcept SystemExit:\n    pass\n"
    code += "print(sorted(m for m in sys.modules if m.startswith('plug_')), file=sys.stderr)"
    clean = {k: v for k, v in os.environ.items() if not k.startswith("OCRSDK_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**clean, **env}, capture_output=True, text=True, check=True, timeout=50
    )
    assert done.stderr == "[]\n"

    from ocrsdk.models.checkpoint import make_metadata
    from ocrsdk.models.dbnet import DBNet

    state = {f"model.{name}": value for name, value in DBNet().state_dict().items()}
    metadata = make_metadata(DBNet(), {"short_side": 96, "max_side": 2560}, {}, {}, "fp32")
    torch.save({"state_dict": state, "ocrsdk": metadata}, tmp_path / "a.ckpt")
    code = "import sys; from ocrsdk import Pipeline; Pipeline.from_checkpoint('a.ckpt')\n"
    code += "print(sorted(m for m in sys.modules if m.startswith('plug_')))"
    done = subprocess.run(
        [sys.executable, "-c", code], env={**clean, **env}, capture_output=True, text=True, check=True, timeout=50, cwd=tmp_path
    )
    assert done.stdout == "[]\n"


def test_an_argument_that_a_hook_gets_later_does_not_break_an_older_plugin():
    import pluggy

    from ocrsdk.plugins.manager import run_hook

    spec, impl = pluggy.HookspecMarker("t"), pluggy.HookimplMarker("t")

    class Specs:
        @spec
        def register(self, context: object, device: object): ...

    class Old:
        @impl
        def register(self):
            return "old"

    class Middle:
        @impl
        def register(self, device):
            return device

    manager = pluggy.PluginManager("t")
    manager.add_hookspecs(Specs)
    for plugin in (Old(), Middle()):
        manager.register(plugin)
    manager.check_pending()
    results = [run_hook(found, context=1, device="cpu") for found in manager.hook.register.get_hookimpls()]
    assert results == ["old", "cpu"]


def test_api_version_is_public():
    import ocrsdk

    assert ocrsdk.api_version == 1
