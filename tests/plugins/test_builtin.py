"""The built-ins are plug-ins like any other."""

from __future__ import annotations

from pathlib import Path

from tests.conftest import CLI
from tests.packages import listing


def test_builtins_are_listed(cli: CLI, site: Path):
    provides = listing(cli, site)["builtin"]["provides"]
    assert {(kind, name) for kind, name, _ in provides} >= {
        ("cache backend", "diskcache"),
        ("cache backend", "none"),
        ("precision strategy", "fp32"),
        ("logger", "jsonl"),
        ("logger", "none"),
    }
