"""What a person sees while training: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from pytorch_lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ocrsdk import logs
from ocrsdk.training.module import detection_module, step_loss

if TYPE_CHECKING:
    from ocrsdk.training.callbacks.limits import RunLimits
    from ocrsdk.types import Batch

_PLAIN_EVERY = 20.0
"""Seconds between two lines when stderr is no terminal."""


class TrainingProgress(Callback):
    """Shows share done, epoch, loss, images a second and the score of each validation, on stderr."""

    def __init__(self, limits: RunLimits) -> None:
        self._limits = limits
        self._console = Console(file=sys.stderr)
        self._bar: Progress | None = None
        self._task: Any = None
        self._recent: deque[tuple[float, int]] = deque(maxlen=50)
        self._last_line = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the bar."""
        self._last_line = time.monotonic()
        if self._console.is_terminal and not (logs.is_json() or logs.is_quiet()):
            columns = (TextColumn("training"), BarColumn(), TextColumn("{task.percentage:3.0f} %"), TimeElapsedColumn())
            self._bar = Progress(*columns, TextColumn("{task.description}"), console=self._console)
            self._task = self._bar.add_task("", total=1.0)
            self._bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Move the bar, or print a line now and then."""
        now = time.monotonic()
        self._recent.append((now, len(batch.samples)))
        if self._bar is None and now - self._last_line < _PLAIN_EVERY:
            return
        progress = min(self._limits.progress(), 1.0)
        if logs.is_json():
            self._last_line = now
            fields = {"epoch": trainer.current_epoch + 1, "step": trainer.global_step, "loss": round(step_loss(outputs), 4)}
            logs.get_logger(__name__).info("progress", share=round(progress, 4), **fields, seconds=round(self._limits.elapsed(), 1))
            return
        text = f"epoch {trainer.current_epoch + 1}  step {trainer.global_step}  loss {step_loss(outputs):.3f}"
        if len(self._recent) > 1:
            text += f"  {self._images_per_second():.1f} img/s"
        if self._bar is not None:
            self._bar.update(self._task, completed=progress, description=text)
        else:
            self._last_line = now
            self._say(f"{progress:4.0%}  {self._limits.elapsed():4.0f} s  {text}")

    def _images_per_second(self) -> float:
        seconds = self._recent[-1][0] - self._recent[0][0]
        return sum(count for _, count in list(self._recent)[1:]) / seconds if seconds else 0.0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Say the score."""
        module = detection_module(pl_module)
        self._recent.clear()
        if module.score is not None and not trainer.sanity_checking:
            s = module.score
            if logs.is_json():
                scores = {"hmean": s.hmean, "precision": s.precision, "recall": s.recall}
                logs.get_logger(__name__).info("validation", step=trainer.global_step, **scores)
                return
            self._say(
                f"validation after step {trainer.global_step}: hmean {s.hmean:.4f}  precision {s.precision:.4f}  "
                f"recall {s.recall:.4f}"
            )

    def _say(self, line: str) -> None:
        if not logs.is_quiet():
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Close the bar."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Close the bar."""
        self._close()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
