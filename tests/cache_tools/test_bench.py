"""Whether a cache is worth it, measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.commands import document
from tests.conftest import CLI


@pytest.mark.slow
def test_bench_gives_a_verdict(cli: CLI, home: dict[str, str], synth_pages: Path, tmp_path: Path):
    found = document(cli, "bench", synth_pages, "--pages", "4", env=home)
    assert [codec["codec"] for codec in found["codecs"]] == ["none", "lz4", "zstd"]
    assert found["verdict"].startswith(("worth it", "not worth it here"))
    assert list((tmp_path / "cache").iterdir()) == []
