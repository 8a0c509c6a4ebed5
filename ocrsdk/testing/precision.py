"""Conformance of precision strategies.

::

    from ocrsdk.testing.precision import PrecisionStrategySuite

    class TestMyStrategy(PrecisionStrategySuite):
        strategy = MyStrategy
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import nn
from torch.utils.data import DataLoader

from ocrsdk.errors import NonFiniteError, PluginError
from ocrsdk.models.checkpoint import make_metadata
from ocrsdk.models.dbnet import DBNet
from ocrsdk.models.losses import DBLoss
from ocrsdk.models.postprocess import PostProcessor
from ocrsdk.precision.base import SkipsUpdates
from ocrsdk.precision.fp32 import FP32
from ocrsdk.settings.sections import OptimizerSettings
from ocrsdk.training.callbacks.guard import DetectionGuard, DetectionMonitor
from ocrsdk.training.checkpoint import AtomicCheckpointIO
from ocrsdk.training.module import DetectionModule
from ocrsdk.training.values import RunValues
from ocrsdk.types import Annotation, Batch, Sample, TargetMaps

if TYPE_CHECKING:
    from ocrsdk.precision.base import PrecisionStrategy


def batches(count: int, side: int = 64, size: int = 2, seed: int = 0) -> list[Batch]:
    """Images of dark rectangles on a light ground, with their target maps.

    Args:
        count: How many batches.
        side: Of the square images in pixels, a multiple of 32.
        size: Images in a batch.
        seed: Of everything.
    """
    generator = torch.Generator().manual_seed(seed)
    found = []
    for number in range(count):
        image = torch.randint(180, 255, (size, 3, side, side), dtype=torch.uint8, generator=generator)
        truth = torch.zeros(size, 1, side, side)
        for i in range(size):
            top, left = (int(v) for v in torch.randint(4, side // 2, (2,), generator=generator))
            image[i, :, top : top + side // 4, left : left + side // 3] = 20
            truth[i, :, top + 2 : top + side // 4 - 2, left + 2 : left + side // 3 - 2] = 1
        maps = TargetMaps(truth.byte(), torch.ones_like(truth).byte(), truth * 0.4 + 0.3, torch.ones_like(truth).byte())
        pages = [Annotation(Path(f"page-{number}-{i}.png"), ()) for i in range(size)]
        none, all_of_it = np.zeros(0, np.bool_), (side, side)
        samples = [Sample(np.empty((0, 0, 3), np.uint8), [], none, np.eye(3), page, all_of_it) for page in pages]
        found.append(Batch(image.contiguous(memory_format=torch.channels_last), samples, maps))
    return found


def small_module(strategy: PrecisionStrategy, folder: Path | None = None, lr: float = 8e-3) -> DetectionModule:
    """A detector with weights that depend on nothing, prepared for ``strategy``; replay files go to ``folder``."""
    torch.manual_seed(0)
    model = DBNet()
    strategy.prepare(model)
    metadata = make_metadata(model, {}, {}, {"loss": {}}, strategy.name, precision_options={})
    optimizer, guard, values = OptimizerSettings(lr=lr, warmup=0), DetectionGuard(folder), RunValues()
    return DetectionModule(model, DBLoss(), PostProcessor(), optimizer, lambda: 0.0, guard, values, metadata)


def small_trainer(
    strategy: PrecisionStrategy, module: DetectionModule, epochs: int = 1, device: str = "cpu", **kwargs: Any
) -> Trainer:
    """A trainer for ``module`` as ``ocrsdk train`` builds it, without logs and validations."""
    precision = strategy.trainer_kwargs(device)
    plugins = [AtomicCheckpointIO(), *precision.pop("plugins", [])]
    callbacks = [module.guard, DetectionMonitor(module.guard, module.values), *kwargs.pop("callbacks", [])]
    options = {
        "accelerator": device, "devices": 1, "max_epochs": epochs, "logger": False, "enable_checkpointing": False,
        "enable_progress_bar": False, "enable_model_summary": False, "use_distributed_sampler": False, "log_every_n_steps": 1,
    }  # fmt: skip
    return Trainer(**{**options, **kwargs}, callbacks=callbacks, plugins=plugins, **precision)


class _Plain(LightningModule):
    """Three convolutions and a loss in fp32, without normalisation, which would amplify what is rounded."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 1, 1)
        )
        self.losses: list[torch.Tensor] = []
        self.gradients = torch.empty(0)

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        assert batch.targets is not None
        dtype = next(self.parameters()).dtype
        logits = self.net(batch.image.to(dtype) / 255)
        with torch.autocast(logits.device.type, enabled=False):
            logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
            loss = nn.functional.binary_cross_entropy_with_logits(logits, batch.targets.prob_map.to(logits.dtype))
        self.losses.append(loss.detach().double().cpu())
        return loss

    def on_before_optimizer_step(self, optimizer: object) -> None:
        self.gradients = torch.cat([p.grad.detach().double().flatten().cpu() for p in self.parameters() if p.grad is not None])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        return batch.to(device)


def one_step(strategy: PrecisionStrategy, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """(losses of two batches, the gradients of their update in one vector) in float64: same network and data for every strategy."""
    module = _Plain()
    strategy.prepare(module)
    trainer = Trainer(
        accelerator=device, devices=1, max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, accumulate_grad_batches=2, **strategy.trainer_kwargs(device),
    )  # fmt: skip
    trainer.fit(module, loader(batches(2)))
    return torch.stack(module.losses), module.gradients


def deviation_from(reference: tuple[torch.Tensor, torch.Tensor], found: tuple[torch.Tensor, torch.Tensor]) -> float:
    """The larger of the relative deviations of losses and of gradients, both by their norms."""
    return max(float((b - a).norm() / a.norm()) for a, b in zip(reference, found, strict=True))


def loader(items: list[Batch]) -> DataLoader[object]:
    """Serves ``items`` as they are, in order."""
    return DataLoader(items, batch_size=None)  # type: ignore[arg-type]


def spoiled(batch: Batch) -> Batch:
    """The same batch with infinite pixels."""
    return Batch(batch.image.float() * torch.inf, batch.samples, batch.targets)


class PrecisionStrategySuite:
    """What every strategy must do."""

    strategy: ClassVar[type[PrecisionStrategy]]
    options: ClassVar[dict[str, Any]] = {}
    device: ClassVar[str] = "cpu"

    def make(self) -> PrecisionStrategy:
        """The strategy; skips the test where it refuses the device."""
        made = self.strategy(self.strategy.check_options(self.options, "precision.options"))
        try:
            made.check(self.device)
        except PluginError as error:
            pytest.skip(str(error))
        return made

    def test_describes_itself(self) -> None:
        """Name, summary, and what it guards."""
        assert re.fullmatch(r"[a-z0-9][a-z0-9-]*", self.strategy.name)
        assert self.strategy.summary
        assert self.strategy.guards
        assert self.strategy.accumulate >= 1

    @pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
    def test_accepts_a_device_or_says_what_to_use_instead(self, device: str) -> None:
        """A refusal names the reason and another strategy."""
        made = self.strategy(self.strategy.check_options(self.options, "precision.options"))
        if device == "cuda" and not torch.cuda.is_available():
            pytest.skip("no GPU")
        refusal = "--precision"
        try:
            made.check(device)
        except PluginError as error:
            refusal = str(error)
        assert "--precision" in refusal

    def test_trainer_kwargs_are_about_precision_alone(self) -> None:
        """Never the strings that Lightning turns into another format on a CPU."""
        kwargs = self.make().trainer_kwargs(self.device)
        assert kwargs.keys() <= {"precision", "plugins"}
        assert kwargs.get("precision") not in ("16-mixed", "bf16-mixed") or self.device != "cpu"

    def test_prepare_keeps_names_and_shapes(self) -> None:
        """Checkpoints stay exchangeable."""
        plain = DBNet().state_dict()
        prepared = small_module(self.make()).model.state_dict()
        assert {name: value.shape for name, value in prepared.items()} == {name: value.shape for name, value in plain.items()}

    def test_numbers_are_as_it_declares(self) -> None:
        """Losses and gradients of one update lie within ``deviation`` of fp32; where that is 0, they are the same bits."""
        found = deviation_from(one_step(FP32(), self.device), one_step(self.make(), self.device))
        print(f"{self.strategy.name}: deviates from fp32 by {found:.2e}, declares {self.strategy.deviation:g}")
        assert found <= self.strategy.deviation, (
            f"losses and gradients of {self.strategy.name!r} deviate from fp32 by {found:.2e}, which is more than it declares "
            f"(deviation = {self.strategy.deviation:g})"
        )

    def test_learns(self, tmp_path: Path) -> None:
        """The loss halves on pages seen again and again, and is computed in fp32."""
        strategy = self.make()
        module = small_module(strategy, tmp_path)
        losses = []
        original = module.training_step

        def step(batch: Batch, batch_idx: int) -> torch.Tensor:
            total = original(batch, batch_idx)
            assert total.dtype in (torch.float32, torch.float64)
            losses.append(float(total.detach()))
            return total

        module.training_step = step  # type: ignore[method-assign]
        small_trainer(strategy, module, epochs=12).fit(module, loader(batches(3)))
        assert sum(losses[-3:]) < 0.5 * sum(losses[:3])
        assert all(p.isfinite().all() for p in module.model.parameters())

    def test_infinity_never_reaches_the_weights(self, tmp_path: Path) -> None:
        """The update is skipped, or the run stops; parameters and running statistics are as before it."""
        strategy = self.make()
        good = batches(3)
        before = small_module(strategy)
        small_trainer(strategy, before).fit(before, loader(good[:2]))
        after = small_module(strategy, tmp_path)
        trainer = small_trainer(strategy, after)
        try:
            trainer.fit(after, loader([*good[:2], spoiled(good[2])]))
        except NonFiniteError as error:
            assert "step 2" in str(error)  # noqa: PT017 - both ways are allowed
        else:
            assert after.guard.skipped_steps == 1
        assert trainer.global_step == 2
        wanted, found = before.model.state_dict(), after.model.state_dict()
        for name, value in wanted.items():
            assert torch.equal(value, found[name]), name

    def test_a_resumed_run_ends_equal(self, tmp_path: Path) -> None:
        """What the strategy remembers, a loss scale for instance, is part of the checkpoint."""
        items = batches(2)
        if skips := any(isinstance(plugin, SkipsUpdates) for plugin in self.make().trainer_kwargs(self.device).get("plugins", ())):
            items.insert(1, spoiled(items[0]))  # so that the scale is another one than at first
        data = loader(items)
        whole = small_module(self.make())
        uninterrupted = small_trainer(self.make(), whole, epochs=4)
        uninterrupted.fit(whole, data)
        part = small_module(self.make())
        trainer = small_trainer(self.make(), part, epochs=2)
        trainer.fit(part, data)
        trainer.save_checkpoint(tmp_path / "part.ckpt")
        rest = small_module(self.make())
        resumed = small_trainer(self.make(), rest, epochs=4)
        resumed.fit(rest, data, ckpt_path=tmp_path / "part.ckpt", weights_only=True)
        assert (rest.global_step, rest.guard.skipped_steps) == (whole.global_step, 4 if skips else 0)
        assert getattr(resumed.precision_plugin, "scale", None) == getattr(uninterrupted.precision_plugin, "scale", None)
        found = rest.model.state_dict()
        for name, value in whole.model.state_dict().items():
            assert torch.equal(value, found[name]), name
