"""Muon: momentum whose matrices are made orthogonal before they become an update."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch.optim.adamw import adamw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from torch import Tensor

_QUINTIC = (3.4445, -4.7750, 2.0315)
_RMS_OF_ADAMW = 0.2
_BETAS, _EPS = (0.9, 0.999), 1e-8


class Muon(torch.optim.Optimizer):
    """Muon for the groups that say ``orthogonal=True``, AdamW for the others.

    Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks". A weight of more dimensions is taken as a matrix
    with a row for each index of the first: the output channels of a convolution. Updates are scaled as in Liu et al. 2025, "Muon is
    scalable for LLM training", section 2.2: they are as large as AdamW's, and want the same learning rate and decay.

    Args:
        groups: Parameter groups with ``orthogonal`` and ``weight_decay``, unless these are False and zero. Parameters of an
            orthogonal group have at least two dimensions.
        lr: Learning rate of all groups.
        momentum: Of orthogonal groups, Nesterov's.
    """

    def __init__(self, groups: Iterable[dict[str, object]], lr: float, momentum: float) -> None:
        # With "fused" among the values of a group, PyTorch brings a restored "step" to the parameter's device.
        defaults = {"orthogonal": False, "lr": lr, "weight_decay": 0.0, "momentum": momentum, "fused": True}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], object] | None = None) -> Any:
        """Update all parameters that have a gradient; the result is the closure's."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if group["orthogonal"]:
                with _one_thread():
                    self._muon(parameters, group)
            else:
                self._adamw(parameters, group)
        return loss

    def _muon(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["momentum_buffer"] = torch.zeros_like(parameter)
            average, gradient = state["momentum_buffer"], parameter.grad
            assert gradient is not None
            average.lerp_(gradient, 1 - group["momentum"])
            update = orthogonal(gradient.lerp(average, group["momentum"]).flatten(1))
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            size = _RMS_OF_ADAMW * max(update.shape) ** 0.5
            parameter.add_(update.view(parameter.shape), alpha=-group["lr"] * size)

    def _adamw(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        states = [self.state[parameter] for parameter in parameters]
        adamw(
            parameters,
            [p.grad for p in parameters if p.grad is not None],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=group["fused"],
            amsgrad=False,
            beta1=_BETAS[0],
            beta2=_BETAS[1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=_EPS,
            maximize=False,
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    """Hundreds of small products follow one another, and threads that share their cores with loaders wait at the end of each."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def orthogonal(matrix: Tensor) -> Tensor:
    """The matrix with all singular values near one: 0.7 to 1.2 for those that are not tiny beside the largest.

    Five steps of a quintic Newton-Schulz iteration (Jordan et al. 2024), which bears products in TF32 and bfloat16.

    Args:
        matrix: (M, N), finite.
    """
    a, b, c = _QUINTIC
    x: Tensor
    tiny = torch.finfo(matrix.dtype).tiny ** 0.5  # squares of smaller numbers are zero
    x = matrix / matrix.norm().clamp(min=tiny)
    if tall := x.shape[0] > x.shape[1]:
        x = x.T
    for _ in range(5):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
