"""The test file of a module can be guessed, or is named here."""

from __future__ import annotations

import pkgutil
from pathlib import Path

import pytest

import ocrsdk

TESTS = Path(__file__).parent

ELSEWHERE: dict[str, tuple[str, str]] = {
    # module: (the test file that covers it instead, why)
    "__main__": ("cli/test_init.py", "one call; every test of a command starts with it"),
    "cache.base": ("cache/disk/test_backend.py", "a contract; the suites of the backends hold it"),
    "cache.null": ("cache/test_dataset.py", "keeps nothing; seen where it is used"),
    "cache.values": ("cache/test_dataset.py", "the encoding of CachedDataset, and of nothing else"),
    "cache_tools.control": ("cli/test_cache.py", "one method for each command; the commands are tested"),
    "cache_tools.reports": ("cli/test_cache.py", "records; the commands print each of them"),
    "cli.tune": ("runs/test_tune.py", "the command is tested beside what it does"),
    "data.drawing": ("cli/test_predict.py", "pictures for people; drawn by the commands"),
    "data.workers": ("training/test_loader_errors.py", "a log of work, read when a loader process dies"),
    "errors": ("cli/test_train.py", "names; each error is tested where it is raised"),
    "formats.coco": ("formats/test_make.py", "the suite of formats and golden examples, run on every format there"),
    "formats.json_pages": ("formats/test_make.py", "as above"),
    "formats.json_sets": ("formats/test_make.py", "as above"),
    "formats.paddleocr": ("formats/test_make.py", "as above"),
    "formats.totaltext": ("formats/test_make.py", "as above"),
    "loggers.base": ("loggers/test_jsonl.py", "a contract; the suites of the loggers hold it"),
    "loggers.callback": ("loggers/test_make.py", "the state of the loggers that are made there"),
    "models.neck": ("models/test_dbnet.py", "seen as part of whole networks"),
    "plugins.hookspecs": ("plugins/test_manager.py", "signatures; the manager calls them"),
    "plugins.schema": ("integration/test_ecosystem.py", "options of packages that are really installed"),
    "precision.base": ("precision/test_fp32.py", "a contract; the suites of the strategies hold it"),
    "runs.build": ("runs/test_fit.py", "makes the parts of each run that is fitted"),
    "runs.environment": ("loggers/test_wandb.py", "a description that the loggers keep"),
    "runs.history": ("cli/test_runs.py", "what ocrsdk runs shows of whole runs"),
    "runs.results": ("runs/test_plan.py", "records"),
    "settings.options": ("plugins/test_base.py", "options of settings and of plug-ins alike, seen there with a stranger's"),
    "testing.formats": ("formats/test_make.py", "a suite; each built-in format runs it"),
    "testing.cache": ("cache/disk/test_backend.py", "a suite; each subclass runs it"),
    "testing.loggers": ("loggers/test_jsonl.py", "a suite; each subclass runs it"),
    "testing.precision": ("precision/test_fp32.py", "a suite; each subclass runs it"),
    "training.callbacks.checkpoints": ("runs/test_resume.py", "the checkpoints that runs go on from"),
    "training.callbacks.overlays": ("integration/test_learning.py", "pictures of a run that has learned"),
    "training.callbacks.random_state": ("runs/test_resume.py", "seen by bit-equal weights"),
    "training.callbacks.resources": ("cli/test_runs.py", "columns of a run's rows"),
    "training.trainer": ("runs/test_fit.py", "a private helper of runs.fit and runs.plan"),
    "training.values": ("training/callbacks/test_rows.py", "a record that the rows are made of"),
}


def modules() -> list[str]:
    """All modules of ocrsdk without its name, packages left out."""
    found = pkgutil.walk_packages(ocrsdk.__path__, "ocrsdk.")
    return [module.name.removeprefix("ocrsdk.") for module in found if not module.ispkg]


def guess(module: str) -> Path:
    """``cache.disk.index`` -> ``tests/cache/disk/test_index.py``."""
    *room, name = module.split(".")
    return TESTS.joinpath(*room, f"test_{name}.py")


@pytest.mark.parametrize("module", modules())
def test_a_module_has_its_test_file(module: str):
    assert guess(module).is_file() or module in ELSEWHERE, (
        f"no {guess(module).relative_to(TESTS.parent)}: write it, or say in ELSEWHERE which file covers ocrsdk.{module} and why"
    )


@pytest.mark.parametrize("module", ELSEWHERE)
def test_no_row_is_stale(module: str):
    file, why = ELSEWHERE[module]
    assert module in modules(), f"there is no module ocrsdk.{module} any more; remove its row"
    assert not guess(module).is_file(), f"ocrsdk.{module} has a test file of its own by now; remove its row"
    assert (TESTS / file).is_file(), f"there is no tests/{file} any more; name the file that covers ocrsdk.{module}"
    assert why


def test_the_exceptions_stay_exceptions():
    assert len(ELSEWHERE) <= len(modules()) / 4
