"""A run that was stopped or killed, and resumed, ends with bit-equal weights."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback

from ocrsdk import Pipeline, Settings
from ocrsdk.errors import CheckpointError, ImageError, RunFolderError, TrainingError
from ocrsdk.loggers.rows import read_rows
from ocrsdk.loggers.wandb_file import read_history
from ocrsdk.models.checkpoint import read_checkpoint
from ocrsdk.models.dbnet import DBNet
from ocrsdk.settings.sections import CacheSettings
from ocrsdk.training.module import DetectionModule
from ocrsdk.types import Batch
from tests.conftest import CLI
from tests.training.runs import SMALL, logged, settings, start, wait_for_rows, weights


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "accumulate"), [(0, 1), (2, 2)])
def test_f41_f64_killed_at_any_step_and_resumed_is_bit_equal(
    cli: CLI, tmp_path: Path, synth_pages: Path, workers: int, accumulate: int
):
    common = [
        synth_pages, "--epochs", "6", "--workers", workers, *SMALL, "--set", f"trainer.accumulate={accumulate}",
        "--set", "trainer.validations=5", "--profile",
    ]  # fmt: skip
    result = cli("train", *common, "--run-dir", "whole")
    assert result.returncode == 0, result.stderr
    rng = random.Random(workers)
    args: tuple[Any, ...] = (*common, "--run-dir", "part", "--set", "trainer.save_every=0.001s", "--logger", "wandb")
    for kill_after in (rng.randint(1, 4), rng.randint(6, 12)):
        process = start(tmp_path, *args)
        wait_for_rows(process, tmp_path / "part/metrics.jsonl", kill_after)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        args = ("--resume", "part")
    result = cli("train", "--resume", "part", "--json")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["logger_problems"] == {}
    whole, part = (torch.load(tmp_path / run / "checkpoints/last.ckpt", weights_only=True) for run in ("whole", "part"))
    assert whole["global_step"] == part["global_step"] == (18 if accumulate == 1 else 12)
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, part["state_dict"][name]), name
    assert logged(tmp_path / "part") == logged(tmp_path / "whole")
    found = [row for path in sorted((tmp_path / "part").glob("wandb/offline-run-*/*.wandb")) for row in read_history(path)]
    scores = [row for row in found if "row" in row]
    rows = [int(row["row"]) for row in scores]
    assert sorted(rows) == [row["row"] for row in logged(tmp_path / "whole")]
    assert len(set(rows)) == len(rows)
    steps = [row["_step"] for row in found]
    assert steps == sorted(set(steps))
    validated = [row["step"] for row in logged(tmp_path / "whole") if "val/hmean" in row]
    per_epoch = 3 if accumulate == 1 else 2
    assert any((step + 1) % per_epoch for step in validated)  # some in the middle of an epoch
    pictured = [row["trainer/step"] for row in found if "val/pages._type" in row]
    assert pictured == sorted(set(pictured))  # those of the last moment before a kill may be missing
    assert validated[-1] in pictured
    assert set(pictured) <= set(validated)
    assert len({path.name for path in (tmp_path / "part").glob("wandb/offline-run-*/*.wandb")}) == 1  # one id


def stop_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Ask for a stop as a signal would, in the middle of training step ``step``."""
    original = DetectionModule.training_step

    def training_step(self: DetectionModule, batch: Batch, batch_idx: int) -> torch.Tensor:
        if self.global_step == step - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(self, batch, batch_idx)

    monkeypatch.setattr(DetectionModule, "training_step", training_step)


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_another_precision_sums_up_as_many_batches_as_before(tmp_path: Path, synth_pages: Path):
    Pipeline(settings(tmp_path / "run", epochs=1)).fit(synth_pages)
    changed = settings(None, epochs=3).model_copy(update={"precision": Settings(precision={"strategy": "fp16-safe"}).precision})
    with pytest.raises(CheckpointError, match=r"trainer.accumulate was 1 and is 2; .* Add: --set trainer.accumulate=1"):
        Pipeline(changed).fit(synth_pages, resume=tmp_path / "run", allow_precision_change=True)
    same = changed.model_copy(update={"trainer": changed.trainer.model_copy(update={"accumulate": 1})})
    result = Pipeline(same).fit(synth_pages, resume=tmp_path / "run", allow_precision_change=True)
    assert (result.precision, result.epochs, result.steps + result.skipped_steps) == ("fp16-safe", 3, 9)


@pytest.mark.slow
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
    with pytest.raises(CheckpointError, match="pages, labels or weights in .*pages are not those that it was started with"):
        Pipeline(more).fit(resume=tmp_path / "run")
    label.write_bytes(before)
    assert Pipeline(more).fit(resume=tmp_path / "run").epochs == 2


@pytest.mark.slow
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


@pytest.mark.slow
def test_f46_other_options_of_the_precision_are_refused_unless_they_are_meant(tmp_path: Path, synth_pages: Path):
    def pinned(patterns: list[str], run_dir: Path | None, epochs: int) -> Settings:
        plain = settings(run_dir, epochs)
        given = {"strategy": "bf16", "options": {"force": True, "fp32_modules": patterns}}
        return plain.model_copy(update={"precision": plain.precision.model_copy(update=given)})

    Pipeline(pinned(["neck"], tmp_path / "run", 1)).fit(synth_pages)
    with pytest.raises(CheckpointError, match=r'other options of bf16 \(precision.options.fp32_modules: \["neck"\] -> \[\]\)'):
        Pipeline(pinned([], None, 2)).fit(synth_pages, resume=tmp_path / "run")
    done = Pipeline(pinned([], None, 2)).fit(synth_pages, resume=tmp_path / "run", allow_precision_change=True)
    assert done.epochs == 2


class TakesAway(Callback):
    """The images of ``pages`` are gone after so many training batches."""

    def __init__(self, pages: Path, batches: int) -> None:
        self.pages, self.left = pages, batches

    def on_train_batch_end(self, *_args: Any) -> None:
        self.left -= 1
        if not self.left:
            (self.pages / "images").rename(self.pages / "elsewhere")


@pytest.mark.slow
@pytest.mark.parametrize(("batches", "accumulate", "steps"), [(2, 1, 2), (3, 1, 3), (4, 2, 2)])
def test_f76_pages_that_are_gone_cost_no_step(tmp_path: Path, synth_pages: Path, batches: int, accumulate: int, steps: int):
    pages = tmp_path / "pages"
    shutil.copytree(synth_pages, pages)

    def pipeline(name: str) -> Pipeline:
        given = settings(tmp_path / name).model_copy(update={"cache": CacheSettings(policy="off")})
        trainer = given.trainer.model_copy(update={"accumulate": accumulate, "overlays": 0})
        return Pipeline(given.model_copy(update={"trainer": trainer}))

    whole = pipeline("whole").fit(pages)  # three batches an epoch
    with pytest.raises(ImageError, match="cannot be read"):
        pipeline("part").fit(pages, callbacks=[TakesAway(pages / "train", batches)])
    last = read_checkpoint(tmp_path / "part/checkpoints/last.ckpt")
    assert last["global_step"] == steps
    (pages / "train/elsewhere").rename(pages / "train/images")
    part = pipeline("part").fit(pages, resume=tmp_path / "part")
    assert part.steps == whole.steps
    for name, value in weights(whole.last_checkpoint).items():
        assert torch.equal(value, weights(part.last_checkpoint)[name]), name
    assert logged(tmp_path / "part") == logged(tmp_path / "whole")
