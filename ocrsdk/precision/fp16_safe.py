"""The precision strategy ``fp16-safe``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from ocrsdk.errors import PluginError
from ocrsdk.logs import get_logger
from ocrsdk.precision.base import PrecisionStrategy
from ocrsdk.settings import options

if TYPE_CHECKING:
    from torch import nn


class FP16Safe(PrecisionStrategy):
    """Activations and their gradients in half precision; weights, loss, reductions and updates in single precision.

    Micikevicius et al. 2018, "Mixed precision training". Everything from the logits on is computed in fp32 by the loss itself.
    """

    name = "fp16-safe"
    summary = "half precision with a dynamic loss scale; losses in single precision"
    guards = "an update with NaN or infinite gradients is skipped, counted and logged; too many in a row stop the run"
    accumulate = 2
    deviation = 0.002

    class Options(options.Options):
        """Options of ``fp16-safe``."""

        init_scale: Annotated[float, Field(ge=1, le=65536)] = 2.0**12
        """First loss scale. 65536, the default elsewhere, overflows with DB's loss."""
        growth_interval: Annotated[int, Field(ge=1)] = 2000
        """Updates without overflow after which the scale is doubled."""
        max_skips: Annotated[int, Field(ge=1)] = 10
        """So many skipped updates in a row stop the run."""
        fp32_modules: tuple[str, ...] = ()
        """Name patterns of modules that stay in single precision; ``ocrsdk precision probe`` finds those that need it."""

    def check(self, device: str) -> None:
        """CPUs and CUDA GPUs can; a CPU is slow at it."""
        if device not in ("cpu", "cuda"):
            raise PluginError(f"fp16-safe runs on cuda and cpu, not on {device}. Use: --precision fp32")
        if device == "cpu":
            get_logger(__name__).info(
                "fp16 on a CPU is real fp16 and several times slower than fp32; it is meant for tests. Faster where supported: bf16"
            )

    def trainer_kwargs(self, device: str) -> dict[str, object]:
        """A plug-in, never the string ``16-mixed``."""
        from ocrsdk.precision.scaled import ScaledHalf

        given = self.options
        return {"plugins": [ScaledHalf(device, given.init_scale, given.growth_interval, given.max_skips)]}

    def prepare(self, model: nn.Module) -> None:
        """Pin ``fp32_modules``."""
        from ocrsdk.precision.pinning import pin_to_fp32

        pin_to_fp32(model, self.options.fp32_modules)
