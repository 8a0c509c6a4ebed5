"""``--help`` teaches, and does not wait for the heavy packages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CLI

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
COMMANDS = [
    (),
    ("train",),
    ("evaluate",),
    ("predict",),
    ("data",),
    ("data", "synth"),
    ("config",),
    ("config", "show"),
    ("plugins", "list"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_imports_nothing_heavy(command: tuple[str, ...]):
    heavy = [name for name in HEAVY if name != "pydantic" or not command]  # typer itself takes it to describe parameters
    code = (
        "import sys; from ocrsdk.cli import app\n"
        f"try: app({[*command, '--help']!r})\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        f"loaded = [m for m in {heavy!r} if m in sys.modules]\n"
        "assert not loaded, loaded\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "Usage:" in result.stdout


def test_importing_the_package_costs_nothing():
    code = f"import sys, ocrsdk; loaded = [m for m in {HEAVY!r} if m in sys.modules]; assert not loaded, loaded"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_inference_needs_no_lightning():
    code = "import sys, ocrsdk.inference; assert 'torch' in sys.modules; assert 'pytorch_lightning' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_unknown_command_names_the_nearest(cli: CLI):
    result = cli("trian")
    assert result.returncode == 2
    assert "train" in result.stderr


def test_version(cli: CLI):
    from ocrsdk import __version__

    assert cli("--version").stdout.strip() == f"ocrsdk {__version__}"


def test_the_root_lists_each_command_by_its_own_first_line():
    import typer

    from ocrsdk.cli import Commands, app

    root = typer.main.get_command(app)
    assert list(root.commands) == list(Commands.homes)
    for name, home in Commands.homes.items():
        assert " ".join(root.commands[name].help.split()).startswith(home.summary.removesuffix(".")), name


def test_the_root_help_imports_no_command():
    code = (
        "import sys; from ocrsdk.cli import app\n"
        "try: app(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted(m for m in sys.modules if m.startswith('ocrsdk.')), file=sys.stderr)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr.strip() == "['ocrsdk.cli', 'ocrsdk.cli.on_demand', 'ocrsdk.errors', 'ocrsdk.version']"


def test_a_command_that_cannot_be_imported_is_no_unknown_command(tmp_path: Path):
    (tmp_path / "broken.py").write_text("{}['no such key']")
    code = (
        "from ocrsdk.cli import Commands, app\n"
        "Commands.homes = {**Commands.homes, 'train': Commands.homes['train']._replace(module='broken')}\n"
        "app(['train', '--help'])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "KeyError: 'no such key'" in result.stderr
    assert "No such command" not in result.stderr
