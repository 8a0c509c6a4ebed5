"""How large activations and gradients become in each module, and where they stop being finite."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from contextlib import AbstractContextManager

    from ocrsdk.losses import DBLoss
    from ocrsdk.models.dbnet import DBNet
    from ocrsdk.types import Batch

    Context = Callable[[], AbstractContextManager[None]]

FP16_MAX = 65504.0
"""The largest finite half-precision number."""


@dataclass
class ModuleRange:
    """What went through one module, over all batches."""

    name: str
    kind: str
    """The module's class."""
    input: float = 0.0
    """Largest absolute value of what it is given, for instance the sum of others' outputs; infinite if one was NaN or infinite."""
    activation: float = 0.0
    """Largest absolute value of its output; infinite likewise."""
    gradient: float = 0.0
    """Largest absolute value of the loss's gradient for its output, without any loss scale."""

    @property
    def headroom(self) -> float:
        """How many times input and activation could double before one overflows fp16; -1 if one has."""
        largest = max(self.input, self.activation)
        if not largest:
            return math.inf
        return math.log2(FP16_MAX / largest) if largest < math.inf else -1.0

    def as_dict(self) -> dict[str, Any]:
        """JSON-ready: infinity is a string."""
        values = {**asdict(self), "headroom": round(self.headroom, 2)}
        return {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


def module_ranges(model: DBNet, loss: DBLoss, batches: Iterable[Batch], context: Context) -> list[ModuleRange]:
    """Run forward and backward and watch every module that has no parts.

    Args:
        model: In training mode, as it would be trained; its gradients and running statistics are put back afterwards.
        loss: From logits.
        batches: With target maps, on the model's device.
        context: Autocast, as the precision strategy sets it up.

    Returns:
        One for each module that ran, in the order in which they first ran; the loss comes last.
    """
    found: dict[str, ModuleRange] = {}
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    handles = [m.register_forward_hook(_watch(found, name)) for name, m in model.named_modules() if not any(m.children())]
    try:
        for batch in batches:
            assert batch.targets is not None
            model.zero_grad(set_to_none=True)
            with context():
                output = model(batch.image)
                assert output.thresh_logits is not None
                total = loss(output.prob_logits, output.thresh_logits, batch.targets).total
            seen = found.setdefault("loss", ModuleRange("loss", type(loss).__name__))
            seen.activation, seen.gradient = max(seen.activation, _largest(total)), 1.0
            total.backward()
    finally:
        for handle in handles:
            handle.remove()
        model.zero_grad(set_to_none=True)
        for buffer, before in buffers:
            buffer.copy_(before)
    last = found.pop("loss", None)
    return [*found.values(), *([last] if last else [])]


def _watch(found: dict[str, ModuleRange], name: str) -> Callable[..., None]:
    def hook(module: nn.Module, args: Any, output: Any) -> None:
        if not isinstance(output, Tensor):
            return
        seen = found.setdefault(name, ModuleRange(name, type(module).__name__))
        seen.input = max((seen.input, *(_largest(value) for value in args if isinstance(value, Tensor))))
        seen.activation = max(seen.activation, _largest(output))
        if output.requires_grad:
            output.register_hook(lambda gradient: _note(seen, gradient))  # type: ignore[no-untyped-call]

    return hook


def _note(seen: ModuleRange, gradient: Tensor) -> None:
    seen.gradient = max(seen.gradient, _largest(gradient))


def _largest(values: Tensor) -> float:
    largest = float(values.detach().abs().max())
    return largest if math.isfinite(largest) else math.inf


def explain_nonfinite(model: DBNet, loss: DBLoss, batches: Iterable[Batch], context: Context, scale: float = 1.0) -> str:
    """Where NaN or infinity first appears: the forward pass, the loss, or the backward pass.

    Args:
        model: As for ``module_ranges``.
        loss: From logits.
        batches: Those of the update in question.
        context: Autocast, as the precision strategy sets it up.
        scale: The loss scale.
    """
    broken: dict[str, None] = {}

    class Scaled(nn.Module):
        def forward(self, *args: Any) -> Any:
            parts = loss(*args)
            broken.update({name: None for name, value in parts._asdict().items() if name != "total" and not value.isfinite()})
            return parts._replace(total=parts.total * scale)

    ranges = module_ranges(model, Scaled(), batches, context)  # type: ignore[arg-type]
    *modules, whole = ranges
    for module in modules:
        if math.isinf(module.input):
            return (
                f"what {module.name} ({module.kind}) is given has overflowed between the modules before it; keep "
                f"{module.name.partition('.')[0]} in fp32 with the option fp32_modules"
            )
        if math.isinf(module.activation):
            return f"the activations of {module.name} ({module.kind}) overflow; keep it in fp32 with the option fp32_modules"
    if math.isinf(whole.activation):
        parts = f": {', '.join(broken)}" if broken else ""
        return f"every activation is finite, the loss is not{parts} (loss scale {scale:g})"
    for module in reversed(modules):
        if math.isinf(module.gradient):
            return f"the gradient of {module.name} ({module.kind}) overflows, with loss scale {scale:g}"
    return "it could not be repeated: activations, loss and gradients of the same pages are finite now"
