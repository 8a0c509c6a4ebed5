"""What the tests of precision share."""

from __future__ import annotations

from typing import Any

from ocrsdk.precision.fp16_safe import FP16Safe


def half(**options: Any) -> FP16Safe:
    return FP16Safe(FP16Safe.check_options(options, "precision.options"))
