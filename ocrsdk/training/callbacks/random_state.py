"""Random number generators, as part of every checkpoint."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from pytorch_lightning import Callback, LightningModule, Trainer


class RandomState(Callback):
    """A resumed run draws the numbers that the interrupted one would have drawn.

    Views of training pages do not depend on it, as they are functions of (seed, epoch, index); layers with random parts do.
    """

    def state_dict(self) -> dict[str, object]:
        """States of Python, NumPy and torch, as plain data and tensors."""
        version, words, gauss = random.getstate()
        name, keys, *rest = np.random.get_state(legacy=True)
        return {
            "python": [version, list(words), gauss],
            "numpy": [str(name), [int(k) for k in keys], *(float(v) if isinstance(v, float) else int(v) for v in rest)],
            "torch": torch.get_rng_state(),
            "cuda": torch.cuda.get_rng_state_all() if _uses_cuda() else [],
        }

    def load_state_dict(self, state_dict: dict[str, object]) -> None:
        """Remember; they are set when training starts, after everything that is drawn while it is set up."""
        self._loaded = state_dict

    _loaded: dict[str, Any] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Go on drawing."""
        if self._loaded is None:
            return
        version, words, gauss = self._loaded["python"]
        random.setstate((version, tuple(words), gauss))
        name, keys, *rest = self._loaded["numpy"]
        np.random.set_state((name, np.array(keys, np.uint32), *rest))
        torch.set_rng_state(self._loaded["torch"])
        if _uses_cuda() and len(self._loaded["cuda"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(self._loaded["cuda"])
        self._loaded = None


def _uses_cuda() -> bool:
    """Whether this process computes on a GPU: one that has none to do so must not begin to."""
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]
