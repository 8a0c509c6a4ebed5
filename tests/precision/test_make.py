"""A strategy never becomes another one unannounced."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import CLI
from tests.packages import TWIN, install

LIAR = TWIN.replace("twin", "liar").replace("Twin", "Liar").replace("32-true", "16-mixed")


@pytest.mark.slow
def test_f45_a_strategy_that_would_become_another_on_a_cpu_is_refused(cli: CLI, synth_pages: Path, tmp_path: Path):
    site = tmp_path / "site"
    site.mkdir()
    install(site, "liar", LIAR)
    args = ("train", synth_pages, "--precision", "liar", "--set", "trainer.accelerator=cpu")
    result = cli(*args, env={"PYTHONPATH": str(site)})
    assert result.returncode == 2
    assert (
        "asks Lightning for 16-mixed, which on cpu would be bf16 without a loss scale. Use: --precision fp16-safe" in result.stderr
    )
