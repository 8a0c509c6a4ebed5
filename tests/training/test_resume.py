"""A run that was stopped and resumed ends with bit-equal weights; a bad loss never reaches them."""

from __future__ import annotations

import os
import shutil
import signal
from datetime import timedelta
from pathlib import Path

import pytest
import torch

from ocrsdk import Pipeline, Settings
from ocrsdk.errors import CheckpointError, NonFiniteError, RunFolderError, TrainingError
from ocrsdk.loggers.rows import read_rows
from ocrsdk.models.dbnet import DBNet
from ocrsdk.runs import folder as run_folder
from ocrsdk.training.module import DetectionModule
from ocrsdk.types import Batch

pytestmark = pytest.mark.slow


def settings(run_dir: Path | None, epochs: int = 3, workers: int = 0, **data: object) -> Settings:
    return Settings(
        run_dir=run_dir,
        data={"crop": 64, "batch_size": 2, "workers": workers, "short_side": 96, **data},
        trainer={"epochs": epochs, "validations": 1, "accelerator": "cpu", "overlays": 1},
        logging={"every_n_steps": 1},
    )


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["state_dict"]


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Ask for a stop as a signal would, in the middle of training step ``step``."""
    original = DetectionModule.training_step

    def training_step(self: DetectionModule, batch: Batch, batch_idx: int) -> torch.Tensor:
        if self.global_step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(DetectionModule, "training_step", training_step)


@pytest.mark.parametrize(("workers", "step"), [(0, 2), (2, 4), (0, 3), (0, 6)])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path: Path, synth_pages: Path, workers: int, step: int):
    whole = Pipeline(settings(tmp_path / "whole")).fit(synth_pages)
    assert whole.steps == 9
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, step)
        part = Pipeline(settings(tmp_path / "part", workers=workers)).fit(synth_pages)
    assert (part.status, part.signal, part.steps) == ("stopped", "SIGTERM", step)
    rest = Pipeline(settings(None, workers=workers)).fit(synth_pages, resume=tmp_path / "part")
    assert (rest.status, rest.steps, rest.run_dir) == ("finished", 9, tmp_path / "part")
    a, b = weights(whole.last_checkpoint), weights(rest.last_checkpoint)
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def test_a_run_that_is_stopped_where_a_validation_is_due_makes_it_and_not_again(tmp_path: Path, synth_pages: Path):
    def two(run_dir: Path | None) -> Settings:
        plain = settings(run_dir)
        return plain.model_copy(update={"trainer": plain.trainer.model_copy(update={"validations": 2})})

    def scores(run_dir: Path) -> list[tuple[int, float]]:
        return [(row["step"], row["val/hmean"]) for row in read_rows(run_dir / "metrics.jsonl") if "val/hmean" in row]

    Pipeline(two(tmp_path / "whole")).fit(synth_pages)
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, 5)
        part = Pipeline(two(tmp_path / "part")).fit(synth_pages)
    assert (part.status, part.steps) == ("stopped", 5)
    assert [step for step, _ in scores(tmp_path / "part")] == [4]
    rest = Pipeline(two(None)).fit(synth_pages, resume=tmp_path / "part")
    assert scores(tmp_path / "part") == scores(tmp_path / "whole")
    assert [step for step, _ in scores(tmp_path / "part")] == [4, 8]
    whole = weights(tmp_path / "whole/checkpoints/last.ckpt")
    assert all(torch.equal(value, whole[name]) for name, value in weights(rest.last_checkpoint).items())


def test_resuming_a_finished_run(tmp_path: Path, synth_pages: Path):
    Pipeline(settings(tmp_path / "run", epochs=1)).fit(synth_pages)
    with pytest.raises(TrainingError, match="0 steps were made: .* is at step 3"):
        Pipeline(settings(None, epochs=1)).fit(synth_pages, resume=tmp_path / "run")
    longer = Pipeline(settings(None, epochs=2)).fit(synth_pages, resume=tmp_path / "run")
    assert longer.steps == 6
    with pytest.raises(RunFolderError, match="holds a run already. To resume it: --resume"):
        Pipeline(settings(tmp_path / "run", epochs=1)).fit(synth_pages)
    other = settings(None).model_copy(update={"model": Settings(model={"backbone": "resnet18"}).model})
    with pytest.raises(CheckpointError, match=r"a checkpoint of .*mobilenet.*, but the settings ask for .*resnet18"):
        Pipeline(other).fit(synth_pages, resume=tmp_path / "run")
    other = settings(None, epochs=3).model_copy(update={"optimizer": Settings(optimizer={"name": "adamw"}).optimizer})
    with pytest.raises(CheckpointError, match=r"optimizer\.name was muon and is adamw"):
        Pipeline(other).fit(synth_pages, resume=tmp_path / "run")
    with pytest.raises(CheckpointError, match="no such run folder"):
        Pipeline(settings(None)).fit(synth_pages, resume=tmp_path / "none")


def test_another_precision_sums_up_as_many_batches_as_before(tmp_path: Path, synth_pages: Path):
    Pipeline(settings(tmp_path / "run", epochs=1)).fit(synth_pages)
    changed = settings(None, epochs=3).model_copy(update={"precision": Settings(precision={"strategy": "fp16-safe"}).precision})
    with pytest.raises(CheckpointError, match=r"trainer.accumulate was 1 and is 2; .* Add: --set trainer.accumulate=1"):
        Pipeline(changed).fit(synth_pages, resume=tmp_path / "run", allow_precision_change=True)
    same = changed.model_copy(update={"trainer": changed.trainer.model_copy(update={"accumulate": 1})})
    result = Pipeline(same).fit(synth_pages, resume=tmp_path / "run", allow_precision_change=True)
    assert (result.precision, result.epochs, result.steps + result.skipped_steps) == ("fp16-safe", 3, 9)


def test_the_order_of_samples_is_a_function_of_seed_and_epoch(tmp_path: Path, synth_pages: Path):
    losses = []
    for number, (workers, seed) in enumerate([(0, 0), (2, 0), (0, 1)]):
        wanted = settings(tmp_path / str(number), 1, workers).model_copy(update={"seed": seed})
        run = Pipeline(wanted).fit(synth_pages)
        losses.append(weights(run.last_checkpoint)["model.head.body.0.0.weight"])
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])


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


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_that_its_time_ended_within_an_epoch_goes_on_there(tmp_path: Path, synth_pages: Path, workers: int):
    limited = settings(tmp_path / "run", workers=workers)
    trainer = limited.trainer.model_copy(update={"max_time": timedelta(milliseconds=1)})
    short = Pipeline(limited.model_copy(update={"trainer": trainer})).fit(synth_pages)
    assert (short.status, short.steps) == ("finished", 1)
    assert short.score is not None
    whole = Pipeline(settings(None, workers=workers)).fit(synth_pages, resume=tmp_path / "run")
    assert (whole.steps, whole.epochs) == (9, 3)
    rows = read_rows(tmp_path / "run/metrics.jsonl")
    assert [row["step"] for row in rows if "val/hmean" in row] == [0, 8]
    assert [row["step"] for row in rows if "train/loss" in row] == list(range(9))
    assert rows[-1]["samples"] == 18


def test_time_limit_includes_the_last_validation(tmp_path: Path, synth_pages: Path):
    wanted = settings(tmp_path / "run", epochs=10_000)
    trainer = wanted.trainer.model_copy(update={"max_time": timedelta(seconds=6), "validations": 3})
    result = Pipeline(wanted.model_copy(update={"trainer": trainer})).fit(synth_pages)
    assert result.score is not None
    assert 0 < result.steps < 30_000  # the limit was noticed at all; how exactly is for the benchmark


def test_other_data_are_refused_wherever_they_lie(tmp_path: Path, synth_pages: Path, monkeypatch: pytest.MonkeyPatch):
    pages = Path(shutil.copytree(synth_pages, tmp_path / "pages"))
    monkeypatch.chdir(tmp_path)
    Pipeline(settings(tmp_path / "run", epochs=1)).fit("pages")
    monkeypatch.chdir("/")
    kept = Settings.load(tmp_path / "run/settings.yaml", environ={})
    more = kept.model_copy(update={"trainer": kept.trainer.model_copy(update={"epochs": 2})})
    label = next((pages / "val/labels").iterdir())
    before = label.read_bytes()
    label.write_bytes(before + b"1,1,30,1,30,12,1,12,more\n")
    with pytest.raises(CheckpointError, match="pages or labels in .*pages are not those that it was started with"):
        Pipeline(more).fit(resume=tmp_path / "run")
    label.write_bytes(before)
    assert Pipeline(more).fit(resume=tmp_path / "run").epochs == 2


def test_a_run_goes_on_without_the_file_of_its_first_weights(tmp_path: Path, synth_pages: Path):
    torch.save(DBNet().backbone.state_dict(), tmp_path / "b.pt")

    def begun_with(weights: Path | None, run_dir: Path | None, epochs: int) -> Settings:
        plain = settings(run_dir, epochs)
        return plain.model_copy(update={"model": plain.model.model_copy(update={"backbone_weights": weights})})

    Pipeline(begun_with(tmp_path / "b.pt", tmp_path / "run", 1)).fit(synth_pages)
    (tmp_path / "b.pt").unlink()
    with pytest.raises(CheckpointError, match=r"model.backbone_weights was .*b.pt and is None"):
        Pipeline(begun_with(None, None, 2)).fit(synth_pages, resume=tmp_path / "run")
    assert Pipeline(begun_with(tmp_path / "b.pt", None, 2)).fit(synth_pages, resume=tmp_path / "run").epochs == 2


def test_other_options_of_the_precision_are_refused_unless_they_are_meant(tmp_path: Path, synth_pages: Path):
    def pinned(patterns: list[str], run_dir: Path | None, epochs: int) -> Settings:
        plain = settings(run_dir, epochs)
        given = {"strategy": "bf16", "options": {"force": True, "fp32_modules": patterns}}
        return plain.model_copy(update={"precision": plain.precision.model_copy(update=given)})

    Pipeline(pinned(["neck"], tmp_path / "run", 1)).fit(synth_pages)
    with pytest.raises(CheckpointError, match=r'other options of bf16 \(precision.options.fp32_modules: \["neck"\] -> \[\]\)'):
        Pipeline(pinned([], None, 2)).fit(synth_pages, resume=tmp_path / "run")
    done = Pipeline(pinned([], None, 2)).fit(synth_pages, resume=tmp_path / "run", allow_precision_change=True)
    assert done.epochs == 2


def test_signals_are_given_back_and_evaluation_stays_on_the_device(tmp_path: Path, synth_pages: Path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    pipeline = Pipeline(settings(tmp_path / "run", epochs=1))
    pipeline.fit(synth_pages)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    assert pipeline.evaluate(synth_pages).pages


def test_runs_of_one_second_have_folders_of_their_own(tmp_path: Path, synth_pages: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    class Stopped(run_folder.datetime):
        @classmethod
        def now(cls, tz: object = None) -> Stopped:
            return cls(2026, 1, 1)

    monkeypatch.setattr(run_folder, "datetime", Stopped)
    for _ in range(3):
        Pipeline(settings(None, epochs=1)).fit(synth_pages)
    folders = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert folders == [f"2026-01-01_00-00-00-run{more}" for more in ("", "-2", "-3")]


def test_the_loss_of_an_update_is_the_mean_over_its_batches(tmp_path: Path, synth_pages: Path, monkeypatch: pytest.MonkeyPatch):
    losses: list[float] = []
    original = DetectionModule.training_step

    def training_step(self: DetectionModule, batch: Batch, batch_idx: int) -> torch.Tensor:
        total = original(self, batch, batch_idx)
        losses.append(float(total.detach()))
        return total

    monkeypatch.setattr(DetectionModule, "training_step", training_step)
    given = settings(tmp_path / "run", epochs=1)
    Pipeline(given.model_copy(update={"trainer": given.trainer.model_copy(update={"accumulate": 2})})).fit(synth_pages)
    logged = [row["train/loss"] for row in read_rows(tmp_path / "run/metrics.jsonl") if "train/loss" in row]
    assert logged == pytest.approx([(losses[0] + losses[1]) / 2, losses[2]], rel=1e-6)
