"""``--help`` teaches, and does not wait for the heavy packages."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.commands import HEAVY

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
    assert result.stderr.strip() == "['ocrsdk.cli', 'ocrsdk.cli.limits', 'ocrsdk.cli.on_demand', 'ocrsdk.errors', 'ocrsdk.version']"


def test_a_mistake_of_our_own_is_a_traceback_and_no_answer():
    code = "import ocrsdk.cli as cli\ncli.app = lambda: 1 / 0\ncli.main()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 70
    assert "ZeroDivisionError" in done.stderr
