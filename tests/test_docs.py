"""Documentation is executed, and is complete."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
from pathlib import Path

import pytest

from tests.conftest import CLI

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, synth_pages: Path) -> Path:
    """A folder as the tutorial leaves it: demo-data, and a run on it."""
    from ocrsdk import Pipeline, Settings

    folder = tmp_path_factory.mktemp("demo")
    shutil.copytree(synth_pages, folder / "demo-data")
    Pipeline(Settings(run_dir=folder / "runs/demo", trainer={"epochs": 1})).fit(folder / "demo-data")
    shutil.copytree(folder / "runs/demo", folder / "runs/first")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.stem)
def test_python_examples_run(page: Path, demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The blocks of a page, one after another in one module, in a folder of their own."""
    shutil.copytree(demo, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    text, names = page.read_text(), {"__name__": "__main__"}
    for block in re.finditer(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        lines_before = text[: block.start()].count("\n") + 1
        exec(compile("\n" * lines_before + block[1], str(page), "exec"), names)  # inspect.getsource finds its source


def test_a_training_loop_of_ones_own_is_short_and_plain():
    (code,) = blocks(ROOT / "docs/python/your-own-training-loop.md", "python")
    assert len(code.splitlines()) < 50
    assert "lightning" not in code.lower()


@pytest.mark.parametrize("page", ["cache-alone", "precision-alone", "loggers-alone"])
def test_the_parts_are_shown_with_models_and_data_that_are_not_ours(page: str):
    used = set(re.findall(r"^from ocrsdk import (.+)$", (ROOT / f"docs/python/{page}.md").read_text(), re.MULTILINE))
    allowed = {"CachedDataset", "content_identity", "TrainerPrecision", "check_parity", "LogState", "open_run_logger"}
    assert used
    assert {name for names in used for name in names.split(", ")} <= allowed


def test_the_reference_lists_the_public_names_and_no_others():
    import ocrsdk

    listed = re.findall(r"^::: ocrsdk\.(\w+)$", (ROOT / "docs/reference/python.md").read_text(), re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert {*listed, "__version__", "api_version"} == set(ocrsdk.__all__)


def test_public_docstrings_name_their_arguments_and_what_comes_of_them():
    """Each public class and function has a docstring, and each argument of it a line."""
    import inspect

    from pydantic import BaseModel

    import ocrsdk

    for name in set(ocrsdk.__all__) - {"__version__", "api_version"}:
        thing = getattr(ocrsdk, name)
        told = inspect.getdoc(thing)
        assert told, name
        if inspect.isclass(thing) and (issubclass(thing, BaseModel | BaseException) or hasattr(thing, "__dataclass_fields__")):
            continue
        if not (inspect.isclass(thing) or inspect.isfunction(thing)):
            continue
        function = thing.__init__ if inspect.isclass(thing) else thing
        text = told + (inspect.getdoc(function) or "")
        for parameter in inspect.signature(function).parameters:
            if parameter not in ("self", "args", "kwargs", "given"):
                assert re.search(rf"^ *{parameter}: ", text, re.MULTILINE), f"{name}: {parameter}"


def test_settings_examples_are_valid(tmp_path: Path):
    from ocrsdk import Settings

    for page in PAGES:
        for number, text in enumerate(blocks(page, "toml")):
            path = tmp_path / f"{page.stem}{number}.toml"
            path.write_text(text)
            Settings.load(path, environ={})
    for number, text in enumerate(blocks(ROOT / "docs/how-to/data.md", "yaml")):
        path = tmp_path / f"data{number}.yaml"
        path.write_text(text)
        Settings.load(path, environ={})


@pytest.mark.slow
@pytest.mark.parametrize("page", ["data", "scores"])
def test_commands_of_a_how_to_run(page: str, cli: CLI, demo: Path, tmp_path: Path):
    """Each line of its bash blocks, in a folder that has what the names stand for."""
    shutil.copytree(demo / "demo-data", tmp_path / "DATA")
    shutil.copytree(demo / "demo-data/train", tmp_path / "PAGES")
    shutil.copytree(demo / "runs/demo", tmp_path / "RUN")
    lines = [line.split("#")[0].split() for block in blocks(ROOT / f"docs/how-to/{page}.md", "bash") for line in block.splitlines()]
    assert len(lines) > 3
    for words in lines:
        assert words[0] == "ocrsdk"
        if words[1:3] == ["data", "split"]:
            words[4] = "NEW"  # DATA is there in this example
        result = cli(*words[1:])
        assert result.returncode == 0, (words, result.stderr)


def test_commands_in_examples_exist():
    import typer

    from ocrsdk.cli import app

    root = typer.main.get_command(app)
    seen = 0
    for page in PAGES:
        for line in "\n".join(blocks(page, "bash")).splitlines():
            words = line.split("#")[0].split()
            while words and re.match(r"^[A-Z_]+=", words[0]):
                words.pop(0)
            if not words or words[0] != "ocrsdk":
                continue
            command, rest = root, words[1:]
            while rest and rest[0] in getattr(command, "commands", {}):
                command, rest = command.commands[rest.pop(0)], rest
            assert not hasattr(command, "commands"), line
            known = {name for p in command.params for name in p.opts}
            assert {w for w in rest if w.startswith("--")} <= known, line
            seen += 1
    assert seen > 8


def test_reference_pages_list_everything():
    spec = importlib.util.spec_from_file_location("docs_hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    from ocrsdk.plugins.manager import HOOKS
    from ocrsdk.settings.schema import Settings
    from ocrsdk.settings.sources import leaves

    settings, hooks, commands = made.settings(), made.hooks(), made.commands()
    for name in leaves(Settings):
        assert f"`{name}`" in settings
    for hook in HOOKS.values():
        assert f"## {hook}" in hooks
        assert "Since API version" in hooks.partition(f"## {hook}")[2].partition("\n## ")[0]
    for path, command in every_command():
        assert f"## {path}\n" in commands
        assert command.help, path
        for parameter in command.params:
            assert getattr(parameter, "help", None), f"{path} {parameter.name}"


def every_command():
    """(path, command) of all commands that do something."""
    import typer

    from ocrsdk.cli import app

    def walk(command, path):
        inner = getattr(command, "commands", None)
        if inner is None:
            yield path, command
        for name in inner or {}:
            yield from walk(inner[name], f"{path} {name}")

    found = list(walk(typer.main.get_command(app), "ocrsdk"))
    assert len(found) > 25
    return found


def numbers(test: str) -> set[int]:
    """``test_f1_f2_name`` -> 1, 2; ``test_f48_to_f59_name`` -> 48 to 59."""
    named = re.match(r"test((?:_f\d+)+)(?:_to_f(\d+))?_", test)
    if named is None:
        return set()
    found = [int(number) for number in re.findall(r"\d+", named[1])]
    return {*found, *range(found[-1], int(named[2] or found[-1]) + 1)}


def test_numbers_of_faults():
    assert numbers("test_f1_f2_damaged") == {1, 2}
    assert numbers("test_f48_to_f50_broken") == {48, 49, 50}
    assert numbers("test_fp16_learns") == numbers("test_finite") == set()


def test_the_table_of_faults_is_that_of_the_tests():
    files = [*(ROOT / "tests").rglob("test_*.py"), *(ROOT / "plugins").glob("*/tests/test_*.py")]
    tested = set()
    for path in files:
        for name in re.findall(r"def (test_f\d\w*)\(", path.read_text()):
            tested |= {(number, f"{path.relative_to(ROOT).as_posix()}::{name}") for number in numbers(name)}
    rows = re.findall(r"^\| F(\d+) \|.*\| (.+) \|$", (ROOT / "docs/reference/faults.md").read_text(), re.MULTILINE)
    listed = [(int(number), test) for number, cell in rows for test in re.findall(r"`(tests/.+?|plugins/.+?)`", cell)]
    assert sorted(listed) == sorted(tested), "docs/reference/faults.md: give each number a row, and each row the tests that have it"
    assert [int(number) for number, _ in rows] == sorted({number for number, _ in tested})


def test_no_machine_is_named():
    for page in [*PAGES, ROOT / "Makefile", ROOT / "pyproject.toml", ROOT / "constraints.txt"]:
        text = page.read_text()
        for word in (os.fspath(ROOT), "/home/", "/tmp/"):
            assert word not in text, page


def test_the_drawing_of_the_rooms_is_that_of_the_imports():
    """Arrows between rooms; the modules below all of them are not drawn."""
    import grimp

    bottom = {"errors", "logs", "types", "geometry", "fingerprint", "processes", "version"}
    graph = grimp.build_graph("ocrsdk", cache_dir=None)
    real = set()
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            rooms = tuple((name.split(".") + [""])[1] for name in (importer, imported))
            if rooms[0] != rooms[1] and not {*rooms} & {"", "__main__", *bottom}:
                real.add(rooms)
    page = (ROOT / "docs/explanation/architecture.md").read_text()
    drawn = set()
    for importer, imported in re.findall(r"^(\w+) +──► (.+)$", page, re.MULTILINE):
        drawn |= {(importer, name) for name in imported.split(", ")}
    assert drawn == real
    described = set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert described == {room for arrow in real for room in arrow}


def test_files_that_the_architecture_names_exist_and_each_walk_names_one_once():
    page = (ROOT / "docs/explanation/architecture.md").read_text()
    files = re.findall(r"`([\w/]+\.py)`", page)
    rooms = [path for path in (ROOT / "ocrsdk").rglob("*.py")]
    assert len(files) > 40
    for name in files:
        assert any(path.as_posix().endswith(f"/{name}") for path in rooms), name
    for walk in ("The walk of one option", "The walk of one image"):
        table = page.partition(f"## {walk}\n")[2].partition("\n## ")[0].rpartition("|\n")[0]
        named = re.findall(r"`([\w/]+\.py)`", table)
        assert len(named) == len(set(named)) > 10
        assert all((ROOT / "ocrsdk" / name).is_file() for name in named)
