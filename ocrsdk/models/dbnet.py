"""DBNet (Liao et al. 2020) and DBNet++ (Liao et al. 2022)."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, get_args

import torch
from torch import Tensor, nn

from ocrsdk.errors import CheckpointError, SettingsError, nearest
from ocrsdk.models.mobilenet import MobileNet
from ocrsdk.models.neck import FPN, DBHead, ShuffleHead
from ocrsdk.models.resnet import ResNet, resnet18, resnet50
from ocrsdk.settings.sections import Architecture, Backbone

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class _Parts(NamedTuple):
    backbone: Callable[[], MobileNet | ResNet]
    lateral: int
    """Channels inside the neck."""
    fused: int
    """Channels of the neck's result."""
    head: type[DBHead] | type[ShuffleHead]
    planar_before_avx512: bool
    """Whether a CPU without AVX512 is faster with planar (NCHW) than with interleaved (NHWC, "channels last") activations."""


BACKBONES: dict[Backbone, _Parts] = {
    "mobilenet": _Parts(MobileNet, 32, 48, ShuffleHead, False),
    "resnet18": _Parts(resnet18, 256, 256, DBHead, True),
    "resnet50": _Parts(resnet50, 256, 256, DBHead, True),
}

STRIDE = 32
"""Image sides must be multiples of this many pixels."""

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class DBNetOutput(NamedTuple):
    """Logits: apply a sigmoid for maps."""

    prob_logits: Tensor
    """(B, 1, H, W)."""
    thresh_logits: Tensor | None
    """(B, 1, H, W) while training or if asked for, else None: inference needs only the probability map."""


class DBNet(nn.Module):
    """Backbone, feature pyramid, probability and threshold heads.

    Args:
        backbone: ``mobilenet`` (small, for CPUs), ``resnet18`` or ``resnet50``.
        name: ``dbnet``, or ``dbnet++`` with adaptive scale fusion.

    Raises:
        SettingsError: There is no such backbone or network.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone = "mobilenet", name: Architecture = "dbnet") -> None:
        super().__init__()
        for parameter, value, known in (("backbone", backbone, tuple(BACKBONES)), ("name", name, get_args(Architecture))):
            if value not in known:
                raise SettingsError(f"DBNet({parameter}={value!r}): there are {', '.join(known)}.{nearest(str(value), known)}")
        self.architecture = {"name": str(name), "backbone": str(backbone)}
        """Arguments of the constructor; stored in every checkpoint."""
        parts = BACKBONES[backbone]
        self.backbone = parts.backbone()
        self._planar_before_avx512 = parts.planar_before_avx512
        self.neck = FPN(self.backbone.channels, parts.lateral, parts.fused, name == "dbnet++")
        self.head = parts.head(parts.fused)
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1), persistent=False)
        self.apply(_initialise)
        self.head.initialise()
        self.to_memory_format("cpu")

    def to_memory_format(self, device: str) -> DBNet:
        """Bring weights into the memory format in which ``device`` (``cpu``, ``cuda``, ...) is fast.

        That is channels last, but for ResNets on a CPU without AVX512: with AVX2, oneDNN takes twice as long for the weight
        gradient of a 3x3 convolution from 256 to 64 channels. With AVX512, channels last is a tenth to a fifth faster.
        """
        old_cpu = device == "cpu" and "AVX512" not in torch.backends.cpu.get_cpu_capability()
        planar = old_cpu and self._planar_before_avx512
        self._format = torch.contiguous_format if planar else torch.channels_last
        return self.to(memory_format=self._format)  # type: ignore[call-overload,no-any-return]

    def forward(self, image: Tensor, thresh: bool = False) -> DBNetOutput:
        """Logits of a batch.

        Args:
            image: (B, 3, H, W) RGB, 0 to 255, uint8 or float; H and W multiples of 32.
            thresh: Compute the threshold map outside of training, too.
        """
        normalised = ((image - self.mean) / self.std).contiguous(memory_format=self._format)
        fused = self.neck(self.backbone(normalised))
        return DBNetOutput(*self.head(fused, thresh or self.training))

    def load_backbone(self, path: Path) -> None:
        """Load backbone weights from a local state dict with torchvision's or timm's names.

        Only the classifier (``fc.*``) may be left over, and only batch counters may be missing.

        Raises:
            CheckpointError: The file cannot be read, or its keys or shapes differ; the message lists them.
        """
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many kinds for a damaged or unsafe file
            raise CheckpointError(f"{path}: not a state dict that can be loaded safely ({_first_line(error)})") from error
        if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
            raise CheckpointError(f"{path}: expected a state dict (names to tensors); export it with torch.save(m.state_dict())")
        state = {key: value for key, value in state.items() if not key.startswith("fc.")}
        own = self.backbone.state_dict()
        missing = sorted(k for k in own.keys() - state.keys() if not k.endswith("num_batches_tracked"))
        unexpected = sorted(state.keys() - own.keys())
        shapes = sorted(k for k in own.keys() & state.keys() if own[k].shape != state[k].shape)
        if missing or unexpected or shapes:
            differences = {"missing": missing, "unexpected": unexpected, "of another shape": shapes}
            listed = "; ".join(f"{kind}: {_some(keys)}" for kind, keys in differences.items() if keys)
            raise CheckpointError(f"{path}: not the weights of {self.architecture['backbone']!r}. Keys {listed}")
        self.backbone.load_state_dict(state, strict=False)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def _some(keys: list[str], most: int = 4) -> str:
    rest = f" and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + rest


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]
