"""Checkpoints that are read: whole, damaged, hostile, of another architecture."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
import torch

from ocrsdk.errors import CheckpointError
from ocrsdk.models.checkpoint import load_checkpoint, make_metadata, read_checkpoint
from ocrsdk.models.dbnet import DBNet
from ocrsdk.training.checkpoint import AtomicCheckpointIO


def content(claimed: DBNet | None = None) -> dict:
    model = DBNet()
    metadata = make_metadata(claimed or model, {"short_side": 96}, {"threshold": 0.3}, {"seed": 1}, "fp32")
    state = {f"model.{k}": v for k, v in model.state_dict().items()}
    return {"state_dict": state, "ocrsdk": metadata, "epoch": 2, "global_step": 7}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "best.ckpt"
    AtomicCheckpointIO().save_checkpoint(content(), path)
    return path


def test_round_trip(checkpoint: Path):
    loaded = load_checkpoint(checkpoint)
    stored = torch.load(checkpoint, weights_only=True)["state_dict"]
    assert (loaded.epoch, loaded.step, loaded.settings) == (2, 7, {"seed": 1})
    assert not loaded.model.training
    for name, value in loaded.model.state_dict().items():
        assert torch.equal(value, stored[f"model.{name}"])


@pytest.mark.parametrize("damage", ["truncated", "empty", "text"])
def test_a_damaged_file_is_refused_and_others_are_offered(checkpoint: Path, damage: str):
    (checkpoint.parent / "last.ckpt").touch()
    data = checkpoint.read_bytes()
    checkpoint.write_bytes({"truncated": data[: len(data) // 2], "empty": b"", "text": b"hello"}[damage])
    with pytest.raises(CheckpointError, match=r"best\.ckpt: cannot be loaded .*Beside it: last\.ckpt"):
        load_checkpoint(checkpoint)


def test_f69_a_pickle_bomb_is_not_executed(tmp_path: Path):
    class Bomb:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path / 'exploded'}",)

    torch.save({"state_dict": {}, "ocrsdk": Bomb()}, tmp_path / "evil.ckpt")
    with pytest.raises(CheckpointError, match="holds more than tensors and plain data, and was not executed"):
        load_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "exploded").exists()


def test_another_architecture(tmp_path: Path):
    path = tmp_path / "a.ckpt"
    AtomicCheckpointIO().save_checkpoint(content(DBNet(name="dbnet++")), path)
    with pytest.raises(CheckpointError, match=r"do not fit the model .*dbnet\+\+.*fusion"):
        load_checkpoint(path)


def test_foreign_and_future_files(tmp_path: Path):
    torch.save({"weights": torch.zeros(2)}, tmp_path / "foreign.ckpt")
    with pytest.raises(CheckpointError, match="not a checkpoint of ocrsdk"):
        load_checkpoint(tmp_path / "foreign.ckpt")
    future = content()
    future["ocrsdk"]["format"] = 99
    torch.save(future, tmp_path / "future.ckpt")
    with pytest.raises(CheckpointError, match="checkpoint format 99, this version reads 5"):
        load_checkpoint(tmp_path / "future.ckpt")
    with pytest.raises(CheckpointError, match="no such file"):
        load_checkpoint(tmp_path / "none.ckpt")


def test_f68_any_flipped_bit_in_a_weight_is_found(tmp_path: Path):
    from ocrsdk.models.checkpoint import make_metadata
    from ocrsdk.models.dbnet import DBNet

    path = tmp_path / "a.ckpt"
    weights = {f"model.{i}": torch.randn(400) for i in range(20)}
    AtomicCheckpointIO().save_checkpoint({"state_dict": weights, "ocrsdk": make_metadata(DBNet(), {}, {}, {}, "fp32")}, path)
    content = path.read_bytes()
    rng = random.Random(0)
    caught = 0
    for _ in range(300):
        at = rng.randrange(len(content))
        path.write_bytes(content[:at] + bytes([content[at] ^ 1 << rng.randrange(8)]) + content[at + 1 :])
        try:
            found = read_checkpoint(path)["state_dict"]
        except CheckpointError:
            caught += 1
        else:  # padding between the parts
            assert all(torch.equal(found[name], value) for name, value in weights.items())
    assert caught > 200
