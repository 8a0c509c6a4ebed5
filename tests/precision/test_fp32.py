"""The strategy ``fp32`` keeps the contract."""

from __future__ import annotations

from ocrsdk.precision.fp32 import FP32
from ocrsdk.testing.precision import PrecisionStrategySuite


class TestFP32(PrecisionStrategySuite):
    strategy = FP32
