"""The precision strategy ``fp32``."""

from __future__ import annotations

from ocrsdk.precision.base import PrecisionStrategy
from ocrsdk.settings import options


class FP32(PrecisionStrategy):
    """Weights, activations, gradients and losses in single precision: the default, and the reference for all others."""

    name = "fp32"
    summary = "single precision throughout (the default)"
    guards = "a loss or gradient that is NaN or infinite stops the run before the weights change"
    reference = True

    class Options(options.Options):
        """Options of ``fp32``."""

        tf32: bool = False
        """On GPUs from Ampere on, round the factors of convolutions and matrix products to 10 bits: faster. Checks, which need a
        reference, leave it off."""

    @property
    def tf32(self) -> bool:
        """As the option says."""
        return bool(self.options.tf32)

    def check(self, device: str) -> None:
        """Every device can."""

    def trainer_kwargs(self, device: str) -> dict[str, object]:
        """``precision="32-true"``."""
        return {"precision": "32-true"}
