"""Strategies in somebody else's Lightning project: guard and monitor for any module, for either framework's trainer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from structlog.testing import capture_logs

from ocrsdk import NonFiniteError, PluginError, SettingsError, TrainerPrecision
from tests.foreign import Segmenter, bright_pixels, quiet_trainer

STRATEGIES = [("fp32", {}), ("fp16-safe", {}), ("bf16", {"force": True})]


class Log(Callback):
    """What the module and the callbacks have logged, step by step."""

    def __init__(self) -> None:
        self.seen: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: Any, *_args: Any) -> None:
        self.seen.append({k: float(v) for k, v in trainer.callback_metrics.items()})


@pytest.mark.parametrize(("name", "options"), STRATEGIES)
def test_a_foreign_module_learns_alike_under_every_strategy(name: str, options: dict[str, Any]):
    losses = {}
    for strategy, given in (("fp32", {}), (name, options)):
        precision = TrainerPrecision(strategy, device="cpu", options=given)
        module, log = Segmenter(), Log()
        precision.prepare(module)
        quiet_trainer(max_epochs=3, callbacks=[*precision.callbacks, log], **precision.trainer_kwargs).fit(module, bright_pixels())
        losses[strategy] = [entry["train/loss_step"] for entry in log.seen]
        assert log.seen[-1]["grad_norm/net"] > 0
        assert ("precision/scale" in log.seen[-1]) == (strategy == "fp16-safe")
    assert losses[name] == pytest.approx(losses["fp32"], rel=0.05)


def test_a_skipped_update_leaves_no_trace():
    precision, module = TrainerPrecision("fp16-safe", device="cpu"), Segmenter()
    before: dict[str, torch.Tensor] = {}

    class Around(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 2:
                before.update({k: v.clone() for k, v in module.state_dict().items()})
                before["lr"] = torch.tensor(trainer.optimizers[0].param_groups[0]["lr"], dtype=torch.float64)

        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            if batch_idx == 2:
                assert trainer.global_step == 2
                for name, value in module.state_dict().items():
                    assert torch.equal(value, before[name]), name
                assert trainer.optimizers[0].param_groups[0]["lr"] == float(before["lr"])
                before.clear()

    trainer = quiet_trainer(max_epochs=1, callbacks=[*precision.callbacks, Around()], **precision.trainer_kwargs)
    with capture_logs() as logs:
        trainer.fit(module, bright_pixels(bad=4))
    (warning,) = [entry for entry in logs if entry["log_level"] == "warning"]
    assert (warning["event"], warning["samples"]) == ("skipped update: a gradient is not finite", "batch 2")
    assert not before
    assert (trainer.global_step, precision.guard.skipped_steps) == (11, 1)
    assert trainer.optimizers[0].param_groups[0]["lr"] == pytest.approx(0.1 * 0.9**11)


@pytest.mark.parametrize(("name", "options"), [STRATEGIES[0], STRATEGIES[2]])
def test_a_loss_that_is_not_finite_stops_before_the_weights_change(name: str, options: dict[str, Any]):
    precision, module = TrainerPrecision(name, device="cpu", options=options), Segmenter()
    clean = Segmenter()
    quiet_trainer(
        max_steps=2, callbacks=TrainerPrecision(name, device="cpu", options=options).callbacks, **precision.trainer_kwargs
    ).fit(clean, bright_pixels())
    trainer = quiet_trainer(
        max_epochs=1, callbacks=precision.callbacks, **TrainerPrecision(name, device="cpu", options=options).trainer_kwargs
    )
    with pytest.raises(NonFiniteError, match="the loss is nan at step 2 for batch 2"):
        trainer.fit(module, bright_pixels(bad=4))
    for key, value in clean.state_dict().items():
        assert torch.equal(value, module.state_dict()[key]), key


def test_too_many_skipped_updates_stop_the_run_and_say_where():
    precision, module = TrainerPrecision("fp16-safe", device="cpu", options={"max_skips": 3}), Segmenter()
    with torch.no_grad():
        module.net[3].weight.fill_(6e4)
    trainer = quiet_trainer(max_epochs=1, callbacks=precision.callbacks, **precision.trainer_kwargs)
    with pytest.raises(NonFiniteError, match=r"3 updates in a row were skipped, .* net\.3"):
        trainer.fit(module, bright_pixels())


def test_counters_are_part_of_the_checkpoint(tmp_path: Path):
    first = TrainerPrecision("fp16-safe", device="cpu")
    trainer = quiet_trainer(max_epochs=1, callbacks=first.callbacks, **first.trainer_kwargs)
    trainer.fit(Segmenter(), bright_pixels(bad=4))
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    again = TrainerPrecision("fp16-safe", device="cpu")
    resumed = quiet_trainer(max_epochs=2, callbacks=again.callbacks, **again.trainer_kwargs)
    resumed.fit(Segmenter(), bright_pixels(), ckpt_path=tmp_path / "a.ckpt")
    assert (again.guard.skipped_steps, resumed.global_step) == (1, 23)
    assert resumed.precision_plugin.scale == trainer.precision_plugin.scale


@pytest.mark.parametrize(
    ("arguments", "error", "told"),
    [
        ({"strategy": "fp61-safe"}, PluginError, "Did you mean 'fp16-safe'"),
        ({"strategy": "auto"}, PluginError, "stands for a choice by certificates"),
        ({"strategy": "16-mixed"}, PluginError, "What Lightning calls 16-mixed is called fp16-safe"),
        ({"device": "cdua"}, SettingsError, "no device 'cdua'.*Did you mean 'cuda'"),
        ({"strategy": "fp16-safe", "options": {"scale": 1}}, SettingsError, "precision.options.scale"),
    ],
)
def test_refusals(arguments: dict[str, Any], error: type[Exception], told: str):
    with pytest.raises(error, match=told):
        TrainerPrecision(**{"device": "cpu", **arguments})


@pytest.mark.slow
def test_the_other_framework_takes_it_too():
    """``lightning.Trainer`` knows no class of ``pytorch_lightning``."""
    pytest.importorskip("lightning.pytorch")
    code = """
import lightning, torch
from torch import nn
from ocrsdk import TrainerPrecision
class Net(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Linear(4, 1)
    def training_step(self, batch, i):
        return self.net(batch[0]).float().square().mean()
    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)
x = torch.ones(8, 4); x[2] = torch.inf
data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x), batch_size=1)
precision = TrainerPrecision("fp16-safe", device="cpu", framework="lightning")
trainer = lightning.Trainer(accelerator="cpu", max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                            callbacks=precision.callbacks, **precision.trainer_kwargs)
trainer.fit(Net(), data)
print("steps", trainer.global_step, precision.guard.skipped_steps, trainer.precision_plugin.scale)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "steps 7 1 2048.0" in done.stdout, done.stderr[-2000:]


def test_a_step_that_gives_no_loss_is_no_update_and_no_error():
    class Chooses(Segmenter):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx % 3 == 1 else super().training_step(batch, batch_idx)

    precision, module = TrainerPrecision("fp16-safe", device="cpu"), Chooses()
    precision.prepare(module)
    quiet_trainer(max_epochs=1, callbacks=precision.callbacks, **precision.trainer_kwargs).fit(module, bright_pixels())
    assert precision.guard.skipped_steps == 0
