"""``ocrsdk bench`` with wrong options."""

from __future__ import annotations

import pytest

from tests.conftest import CLI


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (("--device", "tpu"), "--device tpu: expected auto, cpu or cuda"),
        (("--size", "100"), "--size 100: expected a multiple of 32; try 96"),
        (("--strategy", "fp33"), "no precision strategy named 'fp33'"),
        pytest.param(("--backbone", "mobilnet"), "Did you mean 'mobilenet'?", marks=pytest.mark.slow),
    ],
)
def test_bench_of_precision_refuses(cli: CLI, option: tuple[str, str], said: str):
    result = cli("bench", "precision", "--no-cache", *option)
    assert result.returncode == 2
    assert said in result.stderr
    assert "Traceback" not in result.stderr
