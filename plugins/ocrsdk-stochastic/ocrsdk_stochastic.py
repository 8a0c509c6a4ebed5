"""The precision strategy ``bf16-stochastic``: weights in bfloat16, updated with stochastic rounding.

A bf16 weight has 8 bits of mantissa, so an update below 1/256 of it is lost when it is rounded to the nearest; small updates then
add up to nothing. Rounded up or down at random, in proportion to the distance, they are right on average (Gupta et al. 2015, "Deep
learning with limited numerical precision"; Zamirai et al. 2020, "Revisiting BFloat16 training").
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import ocrsdk
from ocrsdk import hookimpl
from ocrsdk.errors import PluginError
from ocrsdk.precision.base import PrecisionStrategy

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch
    from pytorch_lightning import LightningModule
    from torch import nn


def round_stochastically(values: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """fp32 -> bf16: the lower 16 bits are the chance to be rounded away from zero.

    Args:
        values: fp32, any shape.
        generator: On the same device.
    """
    import torch

    bits = values.contiguous().view(torch.int32)
    noise = torch.randint(0, 1 << 16, bits.shape, dtype=torch.int32, device=values.device, generator=generator)
    rounded = ((bits + noise) & ~0xFFFF).view(torch.float32)
    rounded = torch.where(values.isfinite(), rounded, values)
    return rounded.to(torch.bfloat16)


class Bf16Stochastic(PrecisionStrategy):
    """Half the memory for weights and their gradients; the optimizer's own state stays in fp32."""

    name = "bf16-stochastic"
    summary = "weights in bfloat16, updated with stochastic rounding"
    guards = "a loss or gradient that is NaN or infinite stops the run before the weights change"
    deviation = 0.02

    class Options(ocrsdk.Options):
        """Options of ``bf16-stochastic``."""

        seed: int = 0
        """Of the rounding."""

    def check(self, device: str) -> None:
        """CPUs and CUDA GPUs."""
        if device not in ("cpu", "cuda"):
            raise PluginError(f"bf16-stochastic runs on cpu and cuda, not on {device}. Use: --precision fp32")

    def prepare(self, model: nn.Module) -> None:
        """Convert the weights of convolutions and linear layers; biases and normalisation stay in fp32."""
        import torch

        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.data = parameter.data.to(torch.bfloat16)

    def trainer_kwargs(self, device: str) -> dict[str, Any]:
        """A plug-in that rounds after each update."""
        return {"plugins": [_plugin(device, self.options.seed)]}


def _plugin(device: str, seed: int) -> Any:
    import torch
    from pytorch_lightning.plugins.precision import MixedPrecision

    class StochasticRounding(MixedPrecision):
        """bf16 autocast; the update is computed in fp32 and rounded stochastically."""

        def __init__(self) -> None:
            super().__init__("bf16-mixed", device)
            self.generator = torch.Generator(device).manual_seed(seed)

        def connect(self, model: nn.Module, optimizers: list[Any], lr_schedulers: list[Any]) -> Any:
            """Keep the optimizer's state in fp32 when it is loaded: torch would convert it to the format of the weights."""
            for optimizer in optimizers:
                _keep_loaded_state(optimizer)
            return super().connect(model, optimizers, lr_schedulers)

        def optimizer_step(  # type: ignore[override]
            self, optimizer: Any, model: LightningModule, closure: Callable[[], Any], **kwargs: Any
        ) -> Any:
            """Backward, checks and clipping, update in fp32, rounding."""
            closure()
            self._after_closure(model, optimizer)
            low = [p for group in optimizer.param_groups for p in group["params"] if p.dtype == torch.bfloat16]
            for parameter in low:
                gradient = parameter.grad
                parameter.grad = None
                parameter.data = parameter.data.float()
                parameter.grad = gradient.float() if gradient is not None else None
            result = optimizer.step(**kwargs)
            for parameter in low:
                parameter.grad = None
                parameter.data = round_stochastically(parameter.data, self.generator)
            return result

        def state_dict(self) -> dict[str, Any]:
            """The generator: a resumed run rounds as the interrupted one would have."""
            return {"generator": self.generator.get_state()}

        def load_state_dict(self, state_dict: dict[str, Any]) -> None:
            """Go on from there."""
            self.generator.set_state(state_dict["generator"].cpu())

    return StochasticRounding()


def _keep_loaded_state(optimizer: Any) -> None:
    given: dict[int, dict[str, Any]] = {}

    def before(_optimizer: Any, state: dict[str, Any]) -> None:
        given.clear()
        given.update({index: dict(values) for index, values in state["state"].items()})

    def after(optimizer: Any) -> None:
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for index, values in given.items():
            for name, value in values.items():
                if hasattr(value, "to"):
                    optimizer.state[parameters[index]][name] = value.to(optimizer.state[parameters[index]][name].device)

    optimizer.register_load_state_dict_pre_hook(before)
    optimizer.register_load_state_dict_post_hook(after)


@hookimpl
def ocrsdk_register_precision_strategies() -> list[type[PrecisionStrategy]]:
    """Stochastic rounding."""
    return [Bf16Stochastic]
