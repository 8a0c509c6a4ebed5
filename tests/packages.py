"""Plug-in packages, good and broken, and a fresh environment to install them in."""

from __future__ import annotations

import json
import os
import site
import subprocess
import sysconfig
import venv
from pathlib import Path

from tests.conftest import CLI

TWIN = """
from ocrsdk import hookimpl
from ocrsdk.precision.base import PrecisionStrategy

class Twin(PrecisionStrategy):
    name = "twin"
    summary = "fp32 under another name"
    guards = "nothing"
    def check(self, device): pass
    def trainer_kwargs(self, device): return {"precision": "32-true"}

@hookimpl
def ocrsdk_register_precision_strategies():
    return [Twin]
"""


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


ROOT = Path(__file__).resolve().parents[1]

MEDDLING = """
import ocrsdk.plugins.manager
ocrsdk.plugins.manager.installed.__wrapped__
import ocrsdk.errors
def nearest(name, known): return " hijacked"
ocrsdk.errors.nearest = nearest
"""

SLOW = "import time; time.sleep(2.0)"


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


BROKEN = {
    "imports": ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
    "raises": ("raise ValueError('kaboom')", "ValueError: kaboom"),
    "syntax": ("def broken(:", "SyntaxError"),
    "exits": ("import sys; sys.exit(3)", "SystemExit: 3"),
    "signature": (
        "from ocrsdk import hookimpl\n@hookimpl\ndef ocrsdk_register_loggers(surprise): return []",
        "PluginValidationError",
    ),
    "unknown": (
        "from ocrsdk import hookimpl\n@hookimpl\ndef ocrsdk_register_logger(): return []",
        "implements unknown hook ocrsdk_register_logger. Did you mean 'ocrsdk_register_loggers'",
    ),
    "type": (
        "from ocrsdk import hookimpl\n@hookimpl\ndef ocrsdk_register_loggers(): return 7",
        "ocrsdk_register_loggers returned int, expected a list of classes",
    ),
    "element": (
        "from ocrsdk import hookimpl\n@hookimpl\ndef ocrsdk_register_loggers(): return [str]",
        "which is no subclass of LoggerFactory",
    ),
    "hook": (
        "from ocrsdk import hookimpl\n@hookimpl\ndef ocrsdk_register_loggers(): raise RuntimeError('in the hook')",
        "RuntimeError: in the hook",
    ),
}

GOOD = """
print("noise on stdout")
from ocrsdk import hookimpl
from ocrsdk.cache.base import CacheBackend
from pydantic import BaseModel

class MemoryCache(CacheBackend):
    name = "memory"
    summary = "keeps values in a dict"
    class Options(BaseModel, extra="forbid"):
        size: int = 5
    def get(self, key): return None
    def set(self, key, value): return False
    def delete(self, key): return False
    def __iter__(self): return iter(())
    def usage(self): ...
    def versions(self): return []
    def remove_version(self, version): pass
    def health(self, fix=False): return []
    def close(self): pass

@hookimpl
def ocrsdk_register_cache_backends():
    return [MemoryCache]
"""


def install(folder: Path, name: str, code: str, entry: str | None = None) -> None:
    """What an installer leaves behind: a module and a dist-info folder with an entry point."""
    module = f"plug_{name}"
    (folder / f"{module}.py").write_text(code)
    info = folder / f"ocrsdk_{name}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: ocrsdk-{name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[ocrsdk]\n{entry or name} = {module}\n")


def listing(cli: CLI, site: Path, **env: str) -> dict[str, dict]:
    result = cli("plugins", "list", "--json", env={"PYTHONPATH": str(site), **env})
    assert result.returncode == 0, result.stderr
    return {record["name"]: record for record in json.loads(result.stdout)}
