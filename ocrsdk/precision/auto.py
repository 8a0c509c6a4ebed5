"""The precision strategy ``auto``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ocrsdk.precision.base import PrecisionStrategy
from ocrsdk.precision.fp32 import FP32

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocrsdk.precision.base import Certified


class Auto(PrecisionStrategy):
    """The fastest strategy that has proved its accuracy for this model, data and device; else fp32."""

    name = "auto"
    summary = "the fastest strategy that holds a valid certificate, else fp32"
    guards = "never trains in a format that has not passed its check"
    reference = True
    delegates = True

    def check(self, device: str) -> None:
        """Every device can: fp32 is always among the choices."""

    def trainer_kwargs(self, device: str) -> dict[str, object]:
        """Those of fp32, for whoever does not ask ``choose``."""
        return FP32().trainer_kwargs(device)

    def choose(self, certified: Sequence[Certified]) -> tuple[PrecisionStrategy, str]:
        """The one with the highest speed-up, if it is one that can be told from noise."""
        faster = [found for found in certified if found.speedup > 1.05]
        if faster:
            best = max(faster, key=lambda found: found.speedup)
            return best.strategy, f"it passed its accuracy check, {best.speedup:.2f} times as fast as fp32"
        if certified:
            return FP32(), f"{', '.join(found.strategy.name for found in certified)} passed, but no faster than fp32"
        return FP32(), "nothing faster holds a certificate for this model, data and device"
