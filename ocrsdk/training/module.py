"""What Lightning trains: the steps, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import LightningModule

from ocrsdk.errors import NonFiniteError
from ocrsdk.loggers.run_logger import RunLogger
from ocrsdk.metrics.hmean import HmeanMetric, Score
from ocrsdk.precision.base import SkipsUpdates
from ocrsdk.training.optimizers import OptimizerSpec, align_state, build_optimizer, lr_factor
from ocrsdk.types import Batch, PageDetections

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from ocrsdk.models.losses import DBLoss
    from ocrsdk.models.dbnet import DBNet
    from ocrsdk.models.postprocess import PostProcessor


class DetectionModule(LightningModule):
    """Trains a DBNet; validates it by hmean in original pixels.

    Args:
        model: The network; its parameters are what a checkpoint holds.
        loss: From logits, in fp32.
        postprocessor: From probability maps to polygons.
        optimizer: Optimizer and schedule.
        passport: What a checkpoint needs to be loaded without these objects: JSON-ready, see ``training.checkpoint``.
    """

    def __init__(
        self,
        model: DBNet,
        loss: DBLoss,
        postprocessor: PostProcessor,
        optimizer: OptimizerSpec,
        passport: Mapping[str, Any],
    ) -> None:
        super().__init__()
        self.model, self.loss, self.postprocessor = model, loss, postprocessor
        self.optimizer, self.passport = optimizer, dict(passport)
        self.metric = HmeanMetric()
        self.pages: list[PageDetections] = []
        """Detections of the last validation, in the order of the data set."""
        self.score: Score | None = None
        """Score of the last validation."""
        self.skipped_steps = 0
        """Updates left out because a gradient was not finite; ``global_step`` does not count them."""
        self.step_values: dict[str, Any] = {}
        """Metrics of the update under way; ``callbacks.rows`` writes them."""
        self.epoch_values: dict[str, Any] = {}
        """Metrics of the epoch under way."""
        self._pages: set[str] = set()
        """File names of the images of the update under way."""
        self._losses: list[Tensor] = []
        """(4,) total, bce, l1 and dice of each batch of the update under way."""
        self.progress: Callable[[], float] = lambda: 0.0
        """Share of the run that is over, 0 to 1; set by ``callbacks.limits.RunLimits``."""

    def setup(self, stage: str) -> None:
        """The model in the memory format that suits the device."""
        self.model.lay_out(self.trainer.strategy.root_device.type)

    def on_train_start(self) -> None:
        """The optimizer's state has been restored by now."""
        for optimizer in self.trainer.optimizers:
            align_state(optimizer)

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One batch of crops with target maps -> total loss."""
        if batch.targets is None:
            raise ValueError("a training batch needs target maps")
        output = self.model(batch.image)
        loss = self.loss(output.prob_logits, output.thresh_logits, batch.targets)
        pages = {sample.annotation.image.name for sample in batch.samples}
        self._pages |= pages
        total: Tensor = loss.total
        if not torch.isfinite(total):
            if not isinstance(self.trainer.precision_plugin, SkipsUpdates):
                raise NonFiniteError(
                    f"the loss is {float(total.detach())} at step {self.global_step} for {', '.join(sorted(pages))}"
                )
            total = total * torch.nan  # no gradient of this update may pass for a finite one
        self._losses.append(torch.stack([part.detach() for part in loss]))
        return total

    def configure_gradient_clipping(self, optimizer: Any, *_args: Any, **_kwargs: Any) -> None:
        """Clip by norm, after unscaling; stop before the weights change if a gradient is not finite and nothing else would."""
        most = self.optimizer.grad_clip or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), most)
        pages, self._pages = self._pages, set()
        losses, self._losses = torch.stack(self._losses).mean(dim=0), []
        if not torch.isfinite(norm) and not isinstance(self.trainer.precision_plugin, SkipsUpdates):
            raise NonFiniteError(f"a gradient is {float(norm)} at step {self.global_step} for {', '.join(sorted(pages))}")
        self.step_values.update(zip(("train/loss", "train/bce", "train/l1", "train/dice"), losses, strict=True))
        self.step_values.update({"train/grad_norm": norm, "train/lr": optimizer.param_groups[0]["lr"]})

    def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
        """The schedule moves on with real updates only."""
        plugin = self.trainer.precision_plugin
        if not (isinstance(plugin, SkipsUpdates) and plugin.last_skipped):
            scheduler.step()

    def ends_update(self, batch_idx: int) -> bool:
        """Whether the weights are updated after this training batch; others only add up gradients."""
        return self.trainer.is_last_batch or (batch_idx + 1) % self.trainer.accumulate_grad_batches == 0

    @property
    def attempted_steps(self) -> int:
        """Updates made and left out."""
        return self.global_step + self.skipped_steps

    @property
    def last_step(self) -> int:
        """The step under which Lightning logs validations and the end of an epoch: that of the last update, from 0."""
        return max(0, self.attempted_steps - 1)

    @property
    def skip_rate(self) -> float:
        """Share of the updates that were left out."""
        return self.skipped_steps / self.attempted_steps if self.attempted_steps else 0.0

    @property
    def logs_this_step(self) -> bool:
        """Whether the update under way gets a row."""
        return (self.attempted_steps + 1) % self._log_every == 0

    @property
    def logs_last_step(self) -> bool:
        """Whether the update that was just made, or left out, gets a row."""
        return self.attempted_steps % self._log_every == 0

    @property
    def _log_every(self) -> int:
        return int(self.trainer.log_every_n_steps)  # type: ignore[attr-defined]

    def on_validation_epoch_start(self) -> None:
        """Start a new score."""
        self.metric.reset()
        self.pages = []
        self._val_losses: list[Tensor] = []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """One whole page; its loss as well, if it comes with target maps."""
        output = self.model(batch.image, thresh=batch.targets is not None)
        if batch.targets is not None:
            self._val_losses.append(torch.stack(self.loss(output.prob_logits, output.thresh_logits, batch.targets)))
        maps = output.prob_logits.float().sigmoid().cpu().numpy()
        for prob_map, sample in zip(maps, batch.samples, strict=True):
            found = self.postprocessor(prob_map[0], sample.matrix, sample.original_size)
            truth = sample.annotation
            self.metric.update(truth.polygons, truth.ignore, [d.polygon for d in found])
            self.pages.append(PageDetections(truth.image, sample.original_size, found))

    def on_validation_epoch_end(self) -> None:
        """Log the score."""
        self.score = score = self.metric.compute()
        values = {"val/hmean": score.hmean, "val/precision": score.precision, "val/recall": score.recall}
        if self._val_losses:
            means = torch.stack(self._val_losses).mean(dim=0).tolist()
            values |= dict(zip(("val/loss", "val/bce", "val/l1", "val/dice"), means, strict=True))
        self.log_dict(values, prog_bar=False, batch_size=1)

    def configure_optimizers(self) -> Any:
        """Optimizer, and a schedule over the share of the run that is over."""
        optimizer = build_optimizer(self.model, self.optimizer, self.model.head.last)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: lr_factor(self.progress(), self.optimizer))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the passport, updates left out, and what the loggers have to remember."""
        loggers = self.logger.state() if isinstance(self.logger, RunLogger) else {}
        checkpoint["ocrsdk"] = {**self.passport, "skipped_steps": self.skipped_steps, "loggers": loggers}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Updates left out go on being counted."""
        self.skipped_steps = checkpoint["ocrsdk"]["skipped_steps"]
