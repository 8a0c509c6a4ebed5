"""``best.ckpt`` by validation hmean, and ``last.ckpt`` to go on from."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning.callbacks import Checkpoint

from ocrsdk.errors import CheckpointError
from ocrsdk.logs import get_logger
from ocrsdk.models.checkpoint import read_checkpoint
from ocrsdk.training.module import detection_module

if TYPE_CHECKING:
    from pathlib import Path

    from pytorch_lightning import LightningModule, Trainer

    from ocrsdk.training.callbacks.limits import RunLimits
    from ocrsdk.training.module import DetectionModule


class BestAndLast(Checkpoint):
    """Keeps two checkpoints.

    ``last.ckpt`` is written before the first update, so that a run can go on from wherever it is killed; then whenever the one
    before is older than ``every_seconds``, when a run is stopped, when no further batch comes, and at the end. An update with a
    validation after it is left to the next one, so a run that is validated after every update saves at the end of epochs only.

    Args:
        folder: Where they go.
        every_seconds: Longest time of training that a crash may cost, in seconds.
        limits: Knows whether a validation is due.
    """

    def __init__(self, folder: Path, every_seconds: float, limits: RunLimits) -> None:
        self._limits = limits
        self.best_path, self.last_path = folder / "best.ckpt", folder / "last.ckpt"
        self.every_seconds = every_seconds
        self.best_hmean = -1.0
        self._saved_at = time.monotonic()
        self._saved_step = -1
        self._batches: int | None = None
        """Batches of the update under way that are done, between two batches; None during one."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the weights if they are the best so far; the later one of two equals."""
        module = detection_module(pl_module)
        if trainer.sanity_checking or module.score is None or module.score.hmean < self.best_hmean:
            return
        self.best_hmean = module.score.hmean
        trainer.save_checkpoint(self.best_path, weights_only=False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the state that a new run starts from."""
        if not self.last_path.exists():
            self._save_last(trainer, detection_module(pl_module))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: object, batch_idx: int
    ) -> None:
        """Save if the last one is old, and at once when the run was asked to stop; never between the batches of one update.

        Nor between an update and its validation, as a run that went on from there would leave the validation out; but before the
        last validation of a run that ends within an epoch, as Lightning then takes the epoch for finished.
        """
        module = detection_module(pl_module)
        self._batches = 0 if module.ends_update(batch_idx) else (batch_idx + 1) % trainer.accumulate_grad_batches
        if trainer.is_last_batch or self._batches:
            return
        if trainer.should_stop or (self._is_old() and not self._limits.validation_due):
            self._save_last(trainer, module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """From here on weights may be half updated."""
        self._batches = None

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Save the last update if no further batch came: a page is gone, a loader process has died, a wait was ended.

        What callbacks keep of an update under way has been put back by now, as this one is called last. Lightning's counters are
        set to what they are when it calls ``on_train_batch_end``: a run that goes on from there is its ordinary case.
        """
        if self._batches is None:
            return
        loop = trainer.fit_loop.epoch_loop
        for count in (loop.batch_progress.current, loop.batch_progress.total):
            for name in ("ready", "started", "processed", "completed"):
                setattr(count, name, getattr(count, name) - self._batches)
        if loop.batch_progress.current.ready:
            for count in (loop.batch_progress.current, loop.batch_progress.total):
                count.completed -= 1
            loop._batches_that_stepped -= 1
        try:
            self._save_last(trainer, detection_module(pl_module))
        except (OSError, CheckpointError) as error:
            get_logger(__name__).warning("the last step cannot be saved; an older checkpoint is there", reason=str(error))

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save at the end, and if the last one is old; a validation that was due has been made."""
        if self._is_old() or trainer.should_stop:
            self._save_last(trainer, detection_module(pl_module))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save the final state: what the last validation has changed as well, after a run that ended within an epoch."""
        self._save_last(trainer, detection_module(pl_module))
        content = torch.load(self.last_path, map_location="cpu", weights_only=True)
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if callback.state_key in content["callbacks"]:
                content["callbacks"][callback.state_key] = callback.state_dict()
        pl_module.on_save_checkpoint(content)
        trainer.strategy.checkpoint_io.save_checkpoint(content, self.last_path)

    def _is_old(self) -> bool:
        return time.monotonic() - self._saved_at >= self.every_seconds

    def _save_last(self, trainer: Trainer, module: DetectionModule) -> None:
        if module.attempted_steps != self._saved_step:
            trainer.save_checkpoint(self.last_path, weights_only=False)
            self._saved_at, self._saved_step = time.monotonic(), module.attempted_steps

    def state_dict(self) -> dict[str, object]:
        """The best score so far."""
        return {"best_hmean": self.best_hmean}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there; ``best.ckpt`` may be newer than the checkpoint that the run goes on from."""
        states = [state_dict]
        if self.best_path.exists():
            states.append(read_checkpoint(self.best_path)["callbacks"][self.state_key])
        self.best_hmean = max(float(state["best_hmean"]) for state in states)
