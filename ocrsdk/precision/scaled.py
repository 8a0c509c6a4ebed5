"""fp16 autocast with a loss scale, as a Lightning plug-in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning.plugins.precision import MixedPrecision

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytorch_lightning import LightningModule


class ScaledHalf(MixedPrecision):
    """fp16 autocast with a dynamic loss scale, on any device that ``torch.autocast`` knows, the CPU included.

    Lightning's string ``16-mixed`` becomes bf16 without a scaler on a CPU, and its plug-in does not unscale before clipping for
    fused optimizers. Here gradients are always unscaled before they are clipped, whatever the optimizer.

    Args:
        device: ``cpu`` or ``cuda``.
        init_scale: First loss scale.
        growth_interval: Updates without overflow after which the scale is doubled.
        max_skips: See ``SkipsUpdates``.
    """

    def __init__(self, device: str, init_scale: float, growth_interval: int, max_skips: int) -> None:
        scaler = torch.amp.GradScaler(device, init_scale=init_scale, growth_interval=growth_interval)
        super().__init__("16-mixed", device, scaler)
        self.max_skips = max_skips
        self.last_skipped = False
        self.used_scale = init_scale
        """That of the last update, before it was adapted."""

    @property
    def scale(self) -> float:
        """The current loss scale."""
        assert self.scaler is not None
        return self.scaler.get_scale()

    def optimizer_step(  # type: ignore[override]
        self, optimizer: Any, model: LightningModule, closure: Callable[[], object], **kwargs: object
    ) -> object:
        """Backward, unscale, clip (in ``_after_closure``), update if everything is finite, adapt the scale."""
        assert self.scaler is not None
        before = self.used_scale = self.scale
        if closure() is None and all(p.grad is None for group in optimizer.param_groups for p in group["params"]):
            self.last_skipped = False  # the module has skipped the batch, as Lightning allows
            return None
        self.scaler.unscale_(optimizer)
        self._after_closure(model, optimizer)
        result = self.scaler.step(optimizer, **kwargs)
        self.scaler.update()
        # The scaler lowers its scale when, and only when, it found inf or NaN; a scale of zero makes NaN of everything.
        self.last_skipped = self.scale < before or not before
        return result
