"""``ocrsdk plugins`` with wrong names."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import CLI


def test_bad_scaffolds(cli: CLI, tmp_path: Path):
    for args, message in (
        (("My Cache", "--kind", "cache-backend"), "'My Cache' is no name for a plug-in"),
        (
            ("x", "--kind", "cache-backends"),
            "no kind 'cache-backends'. There are: cache-backend, precision-strategy, logger, annotation-format. Did you",
        ),
        (("diskcache", "--kind", "cache-backend"), "the cache backend name 'diskcache' is taken"),
    ):
        result = cli("plugins", "new", *args)
        assert result.returncode == 2
        assert message in result.stderr
    assert not list(tmp_path.iterdir())
