"""A value that is not finite never reaches the weights, and a file replays it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning.callbacks import LambdaCallback
from torch import nn

from ocrsdk import Pipeline
from ocrsdk.errors import NonFiniteError
from ocrsdk.precision.bf16 import BF16
from ocrsdk.precision.fp32 import FP32
from ocrsdk.testing.precision import batches, loader, small_module, small_trainer, spoiled
from ocrsdk.training.module import DetectionModule
from ocrsdk.training.replay import read_replay
from ocrsdk.types import Batch
from tests.training.runs import settings


def test_a_bad_gradient_names_the_pages_of_all_its_batches(tmp_path: Path):
    module = small_module(FP32(), tmp_path)
    trainer = small_trainer(FP32(), module, accumulate_grad_batches=2)
    weight = next(module.model.neck.parameters())
    weight.register_hook(lambda g: g * torch.nan if trainer.global_step == 1 else g)
    names = "page-2-0.png, page-2-1.png, page-3-0.png, page-3-1.png"
    with pytest.raises(NonFiniteError, match=f"a gradient is nan at step 1 for {names}"):
        trainer.fit(module, loader(batches(4)))


@pytest.mark.parametrize("where", ["loss", "gradient"])
@pytest.mark.parametrize("strategy", [FP32(), BF16(BF16.Options(force=True))], ids=["fp32", "bf16"])
def test_f44_nothing_changes_and_a_file_replays_it(tmp_path: Path, where: str, strategy: Any):
    good = batches(3)
    module = small_module(strategy, tmp_path)
    trainer = small_trainer(strategy, module)
    items = [*good[:2], spoiled(good[2]) if where == "loss" else good[2]]
    if where == "gradient":
        weight = module.model.neck.smooth[0][0].weight if isinstance(module.model.neck.smooth[0], nn.Sequential) else None
        target = weight if weight is not None else next(module.model.neck.parameters())
        target.register_hook(lambda g: g * torch.inf if trainer.global_step == 2 else g)
    before: dict[str, torch.Tensor] = {}
    remember = LambdaCallback(
        on_train_batch_start=lambda *_: before.update({k: v.clone() for k, v in module.model.state_dict().items()})
    )
    trainer.callbacks.append(remember)
    told = rf"{'the loss' if where == 'loss' else 'a gradient'} is (nan|inf) at step 2 .*To see it again: ocrsdk precision replay "
    with pytest.raises(NonFiniteError, match=told + r".*nonfinite-step-2.ckpt"):
        trainer.fit(module, loader(items))
    replay = read_replay(tmp_path / "nonfinite-step-2.ckpt")
    assert replay.step == 2
    assert torch.equal(replay.batches[0].image, items[2].image) or where == "loss"
    for name, value in module.model.state_dict().items():
        assert torch.equal(before[name], value), name
        assert torch.equal(before[name], replay.state[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_bad_value_never_reaches_the_weights(tmp_path: Path, synth_pages: Path, monkeypatch: pytest.MonkeyPatch, where: str):
    seen: dict[str, dict[str, torch.Tensor]] = {}
    original = DetectionModule.training_step

    def training_step(self: DetectionModule, batch: Batch, batch_idx: int) -> torch.Tensor:
        if self.global_step == 2:
            seen["before"] = {k: v.clone() for k, v in self.model.named_parameters()}
            seen["module"] = self  # type: ignore[assignment]
            if where == "loss":
                bad = batch.image.float() * float("nan")
                batch = Batch(bad, batch.samples, batch.targets)
            else:
                self.model.head.body[1].bias.register_hook(lambda g: g * float("inf"))
        return original(self, batch, batch_idx)

    monkeypatch.setattr(DetectionModule, "training_step", training_step)
    with pytest.raises(NonFiniteError, match=rf"{where} is (nan|inf) at step 2 for 000\d\.png"):
        Pipeline(settings(tmp_path / "run")).fit(synth_pages)
    for name, value in seen["module"].model.named_parameters():  # type: ignore[attr-defined]
        assert torch.equal(value, seen["before"][name]), name
