"""How large activations and gradients become in each module, and where they stop being finite."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager

    Context = Callable[[], AbstractContextManager[Any]]
    Step = Callable[[Any], tuple[Tensor, Mapping[str, Tensor]]]

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
    weight_gradient: float = 0.0
    """The same for its weights: a sum over all pixels, so it may overflow first."""

    @property
    def headroom(self) -> float:
        """How many times input and activation could double before one overflows fp16; -1 if one has."""
        largest = max(self.input, self.activation)
        if not largest:
            return math.inf
        return math.log2(FP16_MAX / largest) if largest < math.inf else -1.0

    def as_dict(self) -> dict[str, object]:
        """JSON-ready: infinity is a string."""
        values = {**asdict(self), "headroom": round(self.headroom, 2)}
        return {k: str(v) if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


class _Watched(NamedTuple):
    modules: list[ModuleRange]
    """In the order in which they first ran."""
    loss: ModuleRange
    broken: list[str]
    """Parts of the loss that are not finite."""
    autocast: bool
    """Whether modules compute in a smaller format than fp32."""


def module_ranges(model: nn.Module, step: Step, batches: Iterable[object], context: Context) -> list[ModuleRange]:
    """Run forward and backward and watch every module that has no parts.

    Args:
        model: In training mode, as it would be trained; its gradients and running statistics are put back afterwards.
        step: Batch -> the loss, and its parts by name.
        batches: On the model's device.
        context: Autocast, as the precision strategy sets it up.

    Returns:
        One for each module that ran, in the order in which they first ran; the loss comes last.
    """
    watched = _watched(model, step, batches, context, 1.0)
    return [*watched.modules, watched.loss]


def _watched(model: nn.Module, step: Step, batches: Iterable[object], context: Context, scale: float) -> _Watched:
    found: dict[str, ModuleRange] = {}
    whole, broken, autocast = ModuleRange("loss", "loss", gradient=1.0), dict[str, None](), False
    leaves = {name: module for name, module in model.named_modules() if not any(module.children())}
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
    device = next(model.parameters()).device.type
    handles = [module.register_forward_hook(_watch(found, name)) for name, module in leaves.items()]
    try:
        for batch in batches:
            model.zero_grad(set_to_none=True)
            with context():
                autocast = torch.is_autocast_enabled(device)
                total, parts = step(batch)
            broken.update({name: None for name, part in parts.items() if not part.isfinite()})
            whole.activation = max(whole.activation, _largest(total * scale))
            (total * scale).backward()  # type: ignore[no-untyped-call]
            for name, seen in found.items():
                gradients = [p.grad for p in leaves[name].parameters() if p.grad is not None]
                seen.weight_gradient = max((seen.weight_gradient, *map(_largest, gradients)))
    finally:
        for handle in handles:
            handle.remove()
        model.zero_grad(set_to_none=True)
        for buffer, before in buffers:
            buffer.copy_(before)
    return _Watched(list(found.values()), whole, list(broken), autocast)


def _watch(found: dict[str, ModuleRange], name: str) -> Callable[..., None]:
    def hook(module: nn.Module, args: Any, output: object) -> None:
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


def explain_nonfinite(model: nn.Module, step: Step, batches: Iterable[object], context: Context, scale: float = 1.0) -> str:
    """Where NaN or infinity first appears: the forward pass, the loss, or the backward pass.

    Args:
        model: As for ``module_ranges``.
        step: As for ``module_ranges``.
        batches: Those of the update in question.
        context: Autocast, as the precision strategy sets it up.
        scale: The loss scale.
    """
    watched = _watched(model, step, batches, context, scale)

    def pinned(name: str) -> str:
        return f"; keep {name} in fp32 with the option fp32_modules" if watched.autocast else ""

    for module in watched.modules:
        what = f"{module.name} ({module.kind})"
        if math.isinf(module.input):
            how = "has overflowed between the modules before it" if watched.autocast else "is not finite"
            return f"what {what} is given {how}{pinned(module.name.partition('.')[0])}"
        if math.isinf(module.activation):
            return f"the activations of {what} {'overflow' if watched.autocast else 'are not finite'}{pinned('it')}"
    scaled, overflows = (f" (loss scale {scale:g})", "overflows") if watched.autocast else ("", "is not finite")
    if math.isinf(watched.loss.activation):
        parts = f": {', '.join(watched.broken)}" if watched.broken else ""
        return f"every activation is finite, the loss is not{parts}{scaled}"
    for module in reversed(watched.modules):
        if math.isinf(module.gradient):
            return f"the gradient of {module.name} ({module.kind}) {overflows}{scaled}"
        if math.isinf(module.weight_gradient):
            return f"the gradient of the weights of {module.name} ({module.kind}) {overflows}{scaled}"
    return "it could not be repeated: activations, loss and gradients of the same pages are finite now"
