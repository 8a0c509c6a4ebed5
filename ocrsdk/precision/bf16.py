"""The precision strategy ``bf16``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ocrsdk.precision.base import EmulatedError, PrecisionStrategy
from ocrsdk.settings import options

if TYPE_CHECKING:
    from torch import nn

CPU_FLAGS = ("avx512_bf16", "amx_bf16", "bf16")
"""As Linux names the instructions of x86 and ARM that multiply bf16."""


class BF16(PrecisionStrategy):
    """Activations and their gradients in bfloat16, which has the range of fp32 and 8 bits of mantissa; the rest in fp32."""

    name = "bf16"
    summary = "bfloat16 where hardware multiplies it (about twice as fast on CPUs with AVX512_BF16 or AMX)"
    guards = "a loss or gradient that is NaN or infinite stops the run before the weights change"
    deviation = 0.01

    class Options(options.Options):
        """Options of ``bf16``."""

        force: bool = False
        """Train even where bf16 is only emulated: right, and slower than fp32."""
        fp32_modules: tuple[str, ...] = ()
        """Name patterns of modules that stay in single precision."""

    def check(self, device: str) -> None:
        """Hardware that multiplies bf16, unless ``force`` is set."""
        if self.options.force:
            return
        reason = emulated(device)
        if reason:
            raise EmulatedError(
                f"bf16 would only be emulated here, slower than fp32: {reason}. Use: --precision fp32 (or force it: "
                "--set precision.options.force=true)"
            )

    def trainer_kwargs(self, device: str) -> dict[str, object]:
        """A plug-in without a scaler."""
        from pytorch_lightning.plugins.precision import MixedPrecision

        return {"plugins": [MixedPrecision("bf16-mixed", device)]}

    def prepare(self, model: nn.Module) -> None:
        """Pin ``fp32_modules``."""
        from ocrsdk.precision.pinning import pin_to_fp32

        pin_to_fp32(model, self.options.fp32_modules)


def emulated(device: str, cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Why bf16 is not native on ``device``; empty if it is."""
    if device == "cuda":
        import torch

        native = torch.cuda.is_bf16_supported(including_emulation=False)
        return "" if native else f"{torch.cuda.get_device_name()} has no bf16 arithmetic"
    if device != "cpu":
        return f"nothing is known about bf16 on {device}"
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return "this system does not tell what its CPU can do"
    flags = {flag for line in lines if line.lower().startswith(("flags", "features")) for flag in line.split()}
    return "" if flags & set(CPU_FLAGS) else f"this CPU has none of {', '.join(CPU_FLAGS)}"
