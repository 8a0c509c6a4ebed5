"""Finding and loading plug-ins, the broken ones included, from real installed distributions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import CLI
from tests.packages import BROKEN, GOOD, MEDDLING, SLOW, Environment, install, listing, package


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


SMALL = ("--epochs", "1", "--set", "data.crop=64", "--set", "data.short_side=96")


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


def test_asking_for_a_cache_backend_imports_neither_torch_nor_lightning(cli: CLI):
    import subprocess
    import sys

    code = (
        "import sys; from ocrsdk.plugins.manager import installed; installed().look_up('cache backend', 'none');"
        "print([m for m in ('torch', 'pytorch_lightning', 'wandb', 'cv2', 'numpy') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
