"""Options of a plug-in are checked."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import CLI
from tests.packages import GOOD, install


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
