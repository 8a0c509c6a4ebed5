"""The strategy ``auto`` keeps the contract, and takes the fastest that has proved itself."""

from __future__ import annotations

from ocrsdk.precision.auto import Auto
from ocrsdk.precision.base import Certified
from ocrsdk.precision.bf16 import BF16
from ocrsdk.testing.precision import PrecisionStrategySuite
from tests.precision.strategies import half


class TestAuto(PrecisionStrategySuite):
    strategy = Auto


def test_auto_takes_the_fastest_that_has_proved_itself():
    auto = Auto()
    assert auto.choose([])[0].name == "fp32"
    assert "holds a certificate" in auto.choose([])[1]
    slow, fast = Certified(half(), 0.4), Certified(BF16(), 1.9)
    assert auto.choose([slow])[0].name == "fp32"
    assert auto.choose([slow, fast])[0].name == "bf16"
    assert "1.90 times" in auto.choose([slow, fast])[1]
