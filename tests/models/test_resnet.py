"""ResNets have the names and sizes that everybody's weights have."""

from __future__ import annotations

import pytest

from ocrsdk.models.resnet import resnet18, resnet50


@pytest.mark.parametrize(
    ("build", "parameters", "keys", "shapes"),
    [
        # numbers and names of torchvision's resnet18 and resnet50 without fc
        (resnet18, 11_176_512, 120, {"conv1.weight": (64, 3, 7, 7), "layer2.0.downsample.1.running_var": (128,)}),
        (
            resnet50,
            23_508_032,
            318,
            {"layer3.5.conv2.weight": (256, 256, 3, 3), "layer1.0.downsample.0.weight": (256, 64, 1, 1)},
        ),
    ],
)
def test_resnets_have_the_usual_names(build, parameters: int, keys: int, shapes: dict[str, tuple[int, ...]]):
    model = build()
    state = model.state_dict()
    assert sum(p.numel() for p in model.parameters()) == parameters
    assert len(state) == keys
    for key, shape in shapes.items():
        assert tuple(state[key].shape) == shape
