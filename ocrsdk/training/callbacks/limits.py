"""When a run ends and when it is validated."""

from __future__ import annotations

import sys
import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from ocrsdk.training.module import detection_module

_RESERVE = 1.15
"""The last validation is expected to take this many times as long as the longest one so far."""


class RunLimits(Callback):
    """Ends the run in time, spreads validations evenly over it, and tells the schedule how far it is.

    With a time limit, the run's progress is the larger of steps done / all steps and time spent / time limit, and the time of
    the last validation is kept free.

    Args:
        max_seconds: Time limit from the first step on, validations included; None for none.
        validations: Number of validations, the last one at the end.
    """

    def __init__(self, max_seconds: float | None, validations: int) -> None:
        self.max_seconds, self.validations = max_seconds, validations
        self.validation_due = False
        """Whether a validation follows the batch that has just ended."""
        self._stop_requested = False
        self._validated = 0
        self._spent_before = 0.0
        self._started = time.monotonic()
        self._longest_validation = 0.0
        self._validation_started = 0.0
        self._trainer: Trainer | None = None

    def progress(self) -> float:
        """Share of the run that is over, by the updates that were made; 0 before it starts."""
        return self._progress(self._trainer, self._trainer.global_step) if self._trainer is not None else 0.0

    def elapsed(self) -> float:
        """Seconds of training so far, those before a resume included."""
        return self._spent_before + time.monotonic() - self._started

    @property
    def stop_requested(self) -> bool:
        """Whether ``request_stop`` was called."""
        return self._stop_requested

    def request_stop(self) -> None:
        """End the run after the current step, and after its validation if one is due there."""
        self._stop_requested = True

    def _progress(self, trainer: Trainer, steps: int) -> float:
        total = trainer.estimated_stepping_batches
        done = steps / total if total else 1.0
        if self.max_seconds is None:
            return done
        usable = max(self.max_seconds - self._longest_validation * _RESERVE, 1e-9)
        return max(done, self.elapsed() / usable)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._trainer = trainer
        self._started = time.monotonic()
        module = detection_module(pl_module)
        reached = int(self._progress(trainer, module.attempted_steps) * self.validations + 1e-6)
        self._validated = min(self._validated, reached)  # a finished run that is given more gets more
        trainer.val_check_batch = 1  # Lightning validates after whichever batch ``_set_due`` says
        self._set_due(trainer, False)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """End the run when it is over; ask Lightning for a validation after this batch when one is due.

        Between the batches of one update nothing ends: their gradients are in no checkpoint.
        """
        module = detection_module(pl_module)
        self._set_due(trainer, False)
        if not module.ends_update(batch_idx):
            return
        progress = self._progress(trainer, module.attempted_steps)
        if progress >= 1 or self._stop_requested:
            trainer.should_stop = True
        self._set_due(trainer, progress >= min(1.0, (self._validated + 1) / self.validations) - 1e-9)

    def _set_due(self, trainer: Trainer, due: bool) -> None:
        self.validation_due = due
        trainer.check_val_every_n_epoch = 1 if due else sys.maxsize

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Note how long the validation took."""
        self._validation_started = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Count the validation."""
        module = detection_module(pl_module)
        self._longest_validation = max(self._longest_validation, time.monotonic() - self._validation_started)
        self._validated = max(
            self._validated + 1, int(min(self._progress(trainer, module.attempted_steps), 1.0) * self.validations)
        )

    def state_dict(self) -> dict[str, object]:
        """Time spent and validations done."""
        return {"elapsed": self.elapsed(), "validated": self._validated, "longest": self._longest_validation}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        self._spent_before = state_dict["elapsed"]
        self._validated, self._longest_validation = state_dict["validated"], state_dict["longest"]
