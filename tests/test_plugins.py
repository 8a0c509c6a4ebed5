"""Finding and loading plug-ins, the broken ones included, from real installed distributions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import CLI

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


@pytest.fixture
def site(tmp_path: Path) -> Path:
    folder = tmp_path / "site"
    folder.mkdir()
    return folder


def listing(cli: CLI, site: Path, **env: str) -> dict[str, dict]:
    result = cli("plugins", "list", "--json", env={"PYTHONPATH": str(site), **env})
    assert result.returncode == 0, result.stderr
    return {record["name"]: record for record in json.loads(result.stdout)}


def test_builtins_are_listed(cli: CLI, site: Path):
    provides = listing(cli, site)["builtin"]["provides"]
    assert {(kind, name) for kind, name, _ in provides} >= {
        ("cache backend", "diskcache"),
        ("cache backend", "none"),
        ("precision strategy", "fp32"),
        ("logger", "jsonl"),
        ("logger", "none"),
    }


def test_every_broken_plugin_is_named_and_none_disturbs_another(cli: CLI, site: Path):
    for name, (code, _) in BROKEN.items():
        install(site, name, code)
    install(site, "good", GOOD)
    records = listing(cli, site)
    for name, (_, reason) in BROKEN.items():
        assert records[name]["state"] == "failed"
        assert reason in records[name]["reason"]
    assert records["good"]["state"] == "ok"
    assert records["builtin"]["state"] == "ok"
    path = {"PYTHONPATH": str(site)}
    assert cli("--help", env=path).returncode == 0
    assert cli("plugins", "list", env=path).returncode == 0
    assert cli("plugins", "list", "--strict", env=path).returncode == 1


def test_missing_attribute(cli: CLI, site: Path):
    install(site, "attr", "", entry="attr")
    (site / "ocrsdk_attr-1.0.dist-info" / "entry_points.txt").write_text("[ocrsdk]\nattr = plug_attr:nothing\n")
    assert "has no attribute 'nothing'" in listing(cli, site)["attr"]["reason"]


def test_a_second_entry_point_of_one_name_is_reported(cli: CLI, site: Path):
    install(site, "good", GOOD)
    install(site, "twin", GOOD, entry="good")
    result = cli("plugins", "list", "--json", env={"PYTHONPATH": str(site)})
    states = {r["distribution"]: r["state"] for r in json.loads(result.stdout)}
    assert sorted([states["ocrsdk-good"], states["ocrsdk-twin"]]) == ["failed", "ok"]


def test_disabling(cli: CLI, site: Path):
    install(site, "good", "raise SystemExit('imported')")
    assert listing(cli, site, OCRSDK_DISABLED_PLUGINS="good")["good"]["state"] == "disabled"
    assert listing(cli, site, OCRSDK_DISABLED_PLUGINS="ocrsdk-good")["good"]["state"] == "disabled"
    records = listing(cli, site, OCRSDK_PLUGINS="off")
    assert records["good"]["state"] == "disabled"
    assert records["builtin"]["state"] == "ok"


def test_an_unknown_name_lists_what_there_is_and_what_failed(cli: CLI, site: Path, synth_pages: Path):
    install(site, "raises", BROKEN["raises"][0])
    result = cli("train", synth_pages, "--cache", "lmbd", env={"PYTHONPATH": str(site)})
    assert result.returncode == 2
    assert "no cache backend named 'lmbd'. Installed: diskcache, none." in result.stderr
    assert "1 plug-in failed to load: ocrsdk-raises 1.0 (ValueError: kaboom)" in result.stderr
    assert "See: ocrsdk plugins list" in result.stderr


def test_options_of_a_plugin_are_checked(cli: CLI, site: Path, synth_pages: Path):
    install(site, "good", GOOD)
    path = {"PYTHONPATH": str(site)}
    result = cli("train", synth_pages, "--cache", "memory", "--set", "cache.options.siez=3", env=path)
    assert result.returncode == 2
    assert "cache.options.siez: 'memory' has no such option. Its options: size. Did you mean 'size'?" in result.stderr
    result = cli("train", synth_pages, "--cache", "memory", "--set", "cache.options.size=big", env=path)
    assert "cache.options.size: Input should be a valid integer" in result.stderr
    result = cli("train", synth_pages, "--cache", "none", "--set", "cache.options.size=3")
    assert "'none' has no such option. It has no options." in result.stderr


def test_asking_for_a_cache_backend_imports_neither_torch_nor_lightning(cli: CLI):
    import subprocess
    import sys

    code = (
        "import sys; from ocrsdk.plugins.manager import installed; installed().look_up('cache backend', 'none');"
        "print([m for m in ('torch', 'pytorch_lightning', 'wandb', 'cv2', 'numpy') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
