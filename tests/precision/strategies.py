"""What the tests of precision share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ocrsdk.precision.certificates import Binding, Certificate
from ocrsdk.precision.fp16_safe import FP16Safe


def half(**options: Any) -> FP16Safe:
    return FP16Safe(FP16Safe.check_options(options, "precision.options"))


def certificate(bound: Binding, **changes: object) -> Certificate:
    made = Certificate(bound, "fp32", -0.1, -0.4, 0.2, 1.0, 3, 3, 1.8, 0.7, "2026-01-01T00:00:00+00:00")
    return replace(made, **changes)
