"""The precision strategy ``fp32``."""

from __future__ import annotations

from typing import Any

from ocrsdk.precision.base import PrecisionStrategy


class FP32(PrecisionStrategy):
    """Weights, activations, gradients and losses in single precision: the default, and the reference for all others."""

    name = "fp32"
    summary = "single precision throughout (the default)"
    guards = "a loss or gradient that is NaN or infinite stops the run before the weights change"
    reference = True

    def check(self, device: str) -> None:
        """Every device can."""

    def trainer_kwargs(self, device: str) -> dict[str, Any]:
        """``precision="32-true"``."""
        return {"precision": "32-true"}
