"""Architectures: shapes, sizes, weights from files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from ocrsdk.errors import CheckpointError, SettingsError
from ocrsdk.models.dbnet import BACKBONES, DBNet
from ocrsdk.models.resnet import resnet18


@pytest.mark.parametrize("name", ["dbnet", "dbnet++"])
@pytest.mark.parametrize("backbone", BACKBONES)
def test_logits_have_the_size_of_the_image(name: str, backbone: str):
    model = DBNet(backbone, name)
    image = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    output = model.train()(image)
    assert output.prob_logits.shape == output.thresh_logits.shape == (1, 1, 64, 96)
    assert output.prob_logits.min() < 0 or output.prob_logits.max() > 1  # logits, not probabilities
    assert model.eval()(image).thresh_logits is None


@pytest.mark.parametrize("cpu", ["AVX2", "AVX512"])
@pytest.mark.parametrize("backbone", ["mobilenet", "resnet18"])
def test_the_memory_format_changes_nothing_but_speed(backbone: str, cpu: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: cpu)
    torch.manual_seed(0)
    model = DBNet(backbone=backbone).eval()
    image = torch.randint(0, 256, (1, 3, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        on_cpu = model.to_memory_format("cpu")(image).prob_logits
        weights = next(p for p in model.backbone.parameters() if p.ndim == 4)
        assert weights.is_contiguous() == (backbone == "resnet18" and cpu == "AVX2")
        elsewhere = model.to_memory_format("cuda")(image).prob_logits
    assert weights.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(on_cpu, elsewhere, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("backbone", ["mobilenet", "resnet18"])
def test_an_untrained_model_answers_with_the_prior(backbone: str):
    torch.manual_seed(0)
    model = DBNet(backbone=backbone).train()
    with torch.no_grad():
        output = model(torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8))
    assert output.prob_logits.sigmoid().mean() == pytest.approx(0.1, abs=0.02)
    assert output.thresh_logits.sigmoid().mean() == pytest.approx(0.5, abs=0.05)
    assert output.prob_logits.std() < 0.5


def test_unknown_names():
    with pytest.raises(SettingsError, match=r"DBNet\(backbone='resnet81'\): there are mobilenet, .*Did you mean 'resnet18'"):
        DBNet(backbone="resnet81")
    with pytest.raises(SettingsError, match=r"DBNet\(name='dbnett'\): there are dbnet, dbnet"):
        DBNet(name="dbnett")


def test_backbone_weights_are_loaded_strictly(tmp_path: Path):
    source = resnet18()
    state = {**source.state_dict(), "fc.weight": torch.zeros(1000, 512), "fc.bias": torch.zeros(1000)}
    path = tmp_path / "resnet18.pth"
    torch.save({k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}, path)
    model = DBNet(backbone="resnet18")
    model.load_backbone(path)
    for key, value in source.named_parameters():
        assert torch.equal(model.backbone.get_parameter(key), value)
    with pytest.raises(CheckpointError, match="not the weights of 'mobilenet'"):
        DBNet().load_backbone(path)
    del state["layer1.0.conv1.weight"]
    state["layer1.0.conv1.wight"] = torch.zeros(1)
    state["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    torch.save(state, path)
    expected = r"missing: layer1\.0\.conv1\.weight; unexpected: layer1\.0\.conv1\.wight; of another shape: conv1\.weight"
    with pytest.raises(CheckpointError, match=expected):
        model.load_backbone(path)
    path.write_text("no weights")
    with pytest.raises(CheckpointError, match="not a state dict that can be loaded safely"):
        model.load_backbone(path)
