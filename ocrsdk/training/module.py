"""What Lightning trains: the steps, and nothing else."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, cast

import torch
from pytorch_lightning import LightningModule

from ocrsdk.loggers.run_logger import RunLogger
from ocrsdk.metrics.hmean import HmeanMetric, Score
from ocrsdk.precision.guard import ends_update
from ocrsdk.training.optimizers import align_state, build_optimizer, lr_factor
from ocrsdk.types import Annotation, Batch, PageDetections

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from ocrsdk.models.dbnet import DBNet
    from ocrsdk.models.losses import DBLoss, DBLossParts
    from ocrsdk.models.postprocess import PostProcessor
    from ocrsdk.precision.guard import PrecisionGuard
    from ocrsdk.settings.sections import OptimizerSettings
    from ocrsdk.training.values import RunValues


class DetectionModule(LightningModule):
    """Trains a DBNet; validates it by hmean in original pixels.

    Args:
        model: The network; its parameters are what a checkpoint holds.
        loss: From logits, in fp32.
        postprocessor: From probability maps to polygons.
        optimizer: Optimizer and schedule.
        progress: Share of the run that is over, 0 to 1.
        guard: Counts skipped updates; the first callback of the trainer.
        values: Where metrics wait for their row.
        metadata: What a checkpoint needs to be loaded without these objects: JSON-ready, see ``models.checkpoint``.
    """

    def __init__(
        self,
        model: DBNet,
        loss: DBLoss,
        postprocessor: PostProcessor,
        optimizer: OptimizerSettings,
        progress: Callable[[], float],
        guard: PrecisionGuard,
        values: RunValues,
        metadata: Mapping[str, object],
    ) -> None:
        super().__init__()
        self.model, self.loss, self.postprocessor = model, loss, postprocessor
        self.optimizer, self.progress, self.guard, self.values = optimizer, progress, guard, values
        self.metadata = dict(metadata)
        self.metric = HmeanMetric()
        self.pages: list[PageDetections] = []
        """Detections of the last validation, in the order of the data set."""
        self.truths: list[Annotation] = []
        """What is there, in the same order."""
        self.score: Score | None = None
        """Score of the last validation."""
        self._losses: list[Tensor] = []
        """(4,) total, bce, l1 and dice of each batch of the update under way."""

    def setup(self, stage: str) -> None:
        """The model in the memory format that suits the device."""
        self.model.to_memory_format(self.trainer.strategy.root_device.type)

    def on_train_start(self) -> None:
        """The optimizer's state has been restored by now."""
        for optimizer in self.trainer.optimizers:
            align_state(optimizer)

    def loss_of(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch of crops with target maps, and its parts by name."""
        parts = self._parts(batch)
        return parts.total, {"bce": parts.bce, "l1": parts.l1, "dice": parts.dice}

    def _parts(self, batch: Batch) -> DBLossParts:
        if batch.targets is None:
            raise ValueError("a training batch needs target maps")
        output = self.model(batch.image)
        parts: DBLossParts = self.loss(output.prob_logits, output.thresh_logits, batch.targets)
        return parts

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """One batch of crops with target maps -> total loss."""
        parts = self._parts(batch)
        self._losses.append(torch.stack([part.detach() for part in parts]))
        return parts.total

    def configure_gradient_clipping(self, optimizer: Any, *_args: object, **_kwargs: object) -> None:
        """Clip by norm, after unscaling."""
        most = self.optimizer.grad_clip or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), most)
        losses, self._losses = torch.stack(self._losses).mean(dim=0), []
        self.values.step.update(zip(("train/loss", "train/bce", "train/l1", "train/dice"), losses, strict=True))
        self.values.step.update({"train/grad_norm": norm, "train/lr": optimizer.param_groups[0]["lr"]})

    def ends_update(self, batch_idx: int) -> bool:
        """Whether the weights are updated after this training batch; others only add up gradients."""
        return ends_update(self.trainer, batch_idx)

    @property
    def attempted_steps(self) -> int:
        """Updates made and skipped."""
        return self.global_step + self.guard.skipped_steps

    @property
    def last_step(self) -> int:
        """The step under which Lightning logs validations and the end of an epoch: that of the last update, from 0."""
        return max(0, self.attempted_steps - 1)

    @property
    def logs_last_step(self) -> bool:
        """Whether the update that was just made, or skipped, gets a row."""
        return self.attempted_steps % self._log_every == 0

    @property
    def _log_every(self) -> int:
        return int(self.trainer.log_every_n_steps)  # type: ignore[attr-defined]

    def on_validation_epoch_start(self) -> None:
        """Start a new score."""
        self.metric.reset()
        self.pages, self.truths = [], []
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
            self.truths.append(truth)

    def first_pages(self, count: int) -> list[tuple[PageDetections, Annotation]]:
        """The first pages of the last validation whose images are files, with their truth: what can be drawn."""
        pairs = zip(self.pages, self.truths, strict=True)
        return list(itertools.islice((pair for pair in pairs if pair[0].image.is_file()), count))

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

    def on_save_checkpoint(self, checkpoint: dict[str, object]) -> None:
        """Add the metadata, skipped updates, and what the loggers have to remember."""
        loggers = self.logger.state() if isinstance(self.logger, RunLogger) else {}
        checkpoint["ocrsdk"] = {**self.metadata, "skipped_steps": self.guard.skipped_steps, "loggers": loggers}


def detection_module(module: LightningModule) -> DetectionModule:
    """The module that callbacks of a detector's training are handed.

    Raises:
        TypeError: It is another one.
    """
    if not isinstance(module, DetectionModule):
        raise TypeError(f"this callback belongs to a DetectionModule, found a {type(module).__name__}")
    return module


def step_loss(outputs: object) -> float:
    """The loss in what Lightning hands to ``on_train_batch_end``."""
    return float(cast("Mapping[str, Tensor]", outputs)["loss"])
