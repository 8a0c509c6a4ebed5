"""The strategy ``bf16`` keeps the contract, and needs hardware."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from ocrsdk.errors import PluginError
from ocrsdk.precision.bf16 import BF16, emulated
from ocrsdk.testing.precision import PrecisionStrategySuite
from tests.precision.strategies import half


class TestBF16(PrecisionStrategySuite):
    strategy = BF16
    options: ClassVar = {"force": True}


@pytest.mark.parametrize(
    ("content", "native"),
    [
        ("flags\t\t: fpu avx512f avx512_bf16\n", True),
        ("flags : fpu amx_bf16\n", True),
        ("Features\t: asimd bf16\n", True),
        ("flags : fpu avx512f\nmodel name: bf16\n", False),
    ],
)
def test_bf16_needs_hardware(tmp_path: Path, content: str, native: bool):
    (tmp_path / "cpuinfo").write_text(content)
    assert (emulated("cpu", tmp_path / "cpuinfo") == "") is native
    assert "does not tell" in emulated("cpu", tmp_path / "none")


def test_refusals_name_the_way_out():
    with pytest.raises(PluginError, match="fp16-safe runs on cuda and cpu, not on mps. Use: --precision fp32"):
        half().check("mps")
    with pytest.raises(PluginError, match=r"bf16 would only be emulated here.*Use: --precision fp32"):
        BF16().check("mps")
    BF16(BF16.Options(force=True)).check("mps")
