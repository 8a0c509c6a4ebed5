"""The sections of the settings: every option with its type, default and meaning, declared here and nowhere else.

A part that has options takes its section: ``draw_targets(..., TargetSettings(shrink_ratio=0.5))``, ``DBLoss(LossSettings(k=40))``.
"""

from __future__ import annotations

import json
import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, ByteSize, Field, PlainSerializer, model_validator

from ocrsdk.settings.options import Options

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?")


def _parse_duration(value: object) -> object:
    """``90``, ``90s``, ``10m``, ``1h30m``; what is no text goes on to pydantic."""
    if not isinstance(value, str):
        return value
    if not value.strip() or not (match := _DURATION.fullmatch(value.strip().lower())):
        raise ValueError("expected a time like 90s, 10m or 1h30m")
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    try:
        return timedelta(hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError:
        raise ValueError("longer than a million years") from None


def _default_cache_dir() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "ocrsdk"


def _default_certificates() -> Path:
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share") / "ocrsdk" / "certificates"


def _split(value: object) -> object:
    """``a,b`` -> ["a", "b"], so that lists can be given in the environment and on the command line."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Duration = Annotated[
    timedelta,
    BeforeValidator(_parse_duration),
    PlainSerializer(lambda d: f"{d.total_seconds():g}s", return_type=str),
    Field(gt=timedelta(0)),
]


def _from_home(path: Path) -> Path:
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(f"there is no home folder for it ({error})") from None


LocalPath = Annotated[Path, AfterValidator(_from_home)]
"""A path in which ``~`` is the home folder, wherever it was written."""
Names = Annotated[tuple[str, ...], BeforeValidator(_split)]
Ratio = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]


Distance = Literal["exact", "db"]
Shape = Literal["quad", "polygon"]
Architecture = Literal["dbnet", "dbnet++"]
Backbone = Literal["mobilenet", "resnet18", "resnet50"]
Codec = Literal["none", "lz4", "zstd"]
Identity = Literal["path", "content"]
OnBadSample = Literal["stop", "skip"]
OnBadBox = Literal["stop", "drop"]
Outside = Literal["clip", "ignore", "stop"]
Recipe = Literal["receipt", "paper", "none"]
Cut = Literal["edge", "whole", "keep"]
Verification = Literal["decode", "header"]

SHORT_SIDE, MAX_SIDE = 832, 2560
"""Pixels of the shorter side of a page when it is evaluated, and the most that the longer one may have."""

EVALUATION_DATA = (
    "short_side", "max_side", "val", "outside", "on_bad_sample", "on_bad_box", "format", "format_options", "images",
)  # fmt: skip
"""Of the settings of the data, those that trained weights are evaluated with."""


class SourceSettings(Options):
    """One of several sets of pages that are used together."""

    path: Annotated[str, Field(min_length=1)]
    """A folder, or a label file, below the data folder; or an absolute path."""
    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """How often each of its training pages is drawn in an epoch: 2 twice, 0.5 every other page, chosen anew each time."""
    format: str | None = None
    """Annotation format of its labels; ``data.format`` by default."""
    format_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the annotation format."""
    images: LocalPath | None = None
    """Folder of its images below the data folder, where labels lie elsewhere; ``data.images`` by default."""


def _read_sources(value: object) -> object:
    """A path; a list of paths and tables; or such a list as JSON, for the command line and the environment."""
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f'expected a path, or a list like [{{"path": "a", "weight": 2}}]; no JSON: {error}') from None
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list | tuple):
        if not value:
            raise ValueError("an empty list; name one folder or label file at least")
        return tuple({"path": source} if isinstance(source, str) else source for source in value)
    return value


def _written_sources(sources: tuple[SourceSettings, ...]) -> object:
    """A path where there is nothing else to say, else a list of tables."""
    tables = [{"path": source.path, **source.model_dump(mode="json", exclude_defaults=True)} for source in sources]
    is_path = len(tables) == 1 and len(tables[0]) == 1 and not sources[0].path.lstrip().startswith("[")
    return tables[0]["path"] if is_path else tables


Sources = Annotated[tuple[SourceSettings, ...], BeforeValidator(_read_sources), PlainSerializer(_written_sources)]


class DataSettings(Options):
    """Which pages, and how they become samples."""

    root: LocalPath | None = None
    """The data folder; ``ocrsdk train DATA`` sets it."""
    train: Sources = (SourceSettings(path="train"),)
    """The training pages: a folder, or a label file, below the data folder; or a list of such, with weights."""
    val: Sources = (SourceSettings(path="val"),)
    """The validation pages, in the same way; they may be the same. Weights have no meaning here."""
    format: str | None = None
    """Annotation format of the labels; recognised by default. See ``ocrsdk plugins list``."""
    format_options: dict[str, Any] = Field(default_factory=dict)
    """Options of the annotation format."""
    images: LocalPath | None = None
    """Folder of the images, where labels lie elsewhere; by default it is looked for in and beside the data folder."""
    short_side: Annotated[int, Field(ge=32, le=8192)] = SHORT_SIDE
    """Shorter side of a page in pixels, when it is evaluated; training crops are scaled relative to it."""
    max_side: Annotated[int, Field(ge=32, le=16384)] = MAX_SIDE
    """The longer side is never made larger than this many pixels."""
    crop: Annotated[int, Field(ge=64, le=4096, multiple_of=32)] = 320
    """Side of the square training crops in pixels, a multiple of 32."""
    batch_size: Annotated[int, Field(ge=1, le=1024)] = 8
    """Crops in a training batch."""
    workers: Annotated[int, Field(ge=-1)] = -1
    """Loader processes; 0 loads in the main process, -1 chooses by the number of CPUs."""
    on_bad_sample: OnBadSample = "stop"
    """What to do with a sample that cannot be used: stop at start-up, or leave it out, counted and listed."""
    on_bad_box: OnBadBox = "stop"
    """What to do with a region without area, or one that crosses itself: stop at start-up, or drop it, counted and listed."""
    outside: Outside = "clip"
    """Text that reaches beyond its page: cut it, make it don't-care, or stop."""
    verify: Verification = "decode"
    """Check every image at start-up by decoding it, or by its header and end mark only."""
    index: bool = True
    """Keep what was read and checked beside the cache, and use it again until a file of the data set changes."""


RECIPES: dict[str, dict[str, float]] = {
    "receipt": {},
    "paper": {"scale_min": 0.5, "scale_max": 3.0, "rotate": 10.0, "flip": 0.5, "jitter": 0.0},
    "none": {"scale_min": 1.0, "scale_max": 1.0, "rotate": 0.0, "flip": 0.0, "jitter": 0.0},
}
"""Of augmentation: what a recipe sets where nothing else is asked for."""


def _read_transforms(value: object) -> object:
    """A list of tables, or one as JSON."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError(f'expected a list like [{{"MotionBlur": {{"p": 0.3}}}}]; no JSON: {error}') from None
    return value


class AugmentSettings(Options):
    """The random part of a training sample."""

    recipe: Recipe = "receipt"
    """Values of the options below: ``receipt`` (the defaults), ``paper`` (as DB was trained, with flips) or ``none``."""
    scale_min: Positive = 0.42
    """Smallest random scale; 1 is the size at evaluation."""
    scale_max: Positive = 0.9
    """Largest random scale."""
    rotate: Annotated[float, Field(ge=0, le=180)] = 3.0
    """Largest rotation in degrees, both ways."""
    flip: Ratio = 0.0
    """Probability of a horizontal flip."""
    jitter: Annotated[float, Field(ge=0, le=1)] = 0.2
    """Strength of the colour jitter."""
    cut: Cut = "edge"
    """Of text that a crop cuts, do not judge the ``edge`` (half its height wide) or the ``whole``; or ``keep`` all."""
    transforms: Annotated[tuple[dict[str, dict[str, Any]], ...], BeforeValidator(_read_transforms)] = ()
    """Transforms of albumentations on top, a list of ``{NAME: {option: value}}``; those that bend the page are refused."""

    @model_validator(mode="before")
    @classmethod
    def _of_recipe(cls, values: Any) -> Any:
        """What the recipe says, where nothing else is said."""
        if isinstance(values, dict) and isinstance(values.get("recipe"), str) and values["recipe"] in RECIPES:
            return RECIPES[values["recipe"]] | values
        return values


class TargetSettings(Options):
    """The maps that a detector learns."""

    shrink_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.4
    """How far text is shrunk for the probability map."""
    thresh_min: Ratio = 0.3
    """Threshold map far from an outline."""
    thresh_max: Ratio = 0.7
    """Threshold map on an outline."""
    min_text_size: Annotated[float, Field(ge=0)] = 8.0
    """Text whose box in the crop is thinner than this many pixels is don't-care."""
    distance: Distance = "exact"
    """Distance to an outline: the true one, or the original DB code's."""
    clamp: bool = False
    """Move vertices outside of the page onto its border, as the original DB code does; off: shapes are kept, the page cuts them."""


class ModelSettings(Options):
    """Which network is trained."""

    name: Architecture = "dbnet"
    """``dbnet++`` adds adaptive scale fusion."""
    backbone: Backbone = "mobilenet"
    """``mobilenet`` is small and made for CPUs."""
    backbone_weights: LocalPath | None = None
    """A local state dict for the backbone, in torchvision's or timm's naming."""


class LossSettings(Options):
    """DB's loss."""

    bce_weight: Annotated[float, Field(ge=0)] = 5.0
    """Weight of the balanced cross-entropy on the probability map."""
    l1_weight: Annotated[float, Field(ge=0)] = 10.0
    """Weight of the L1 loss on the threshold map."""
    dice_weight: Annotated[float, Field(ge=0)] = 1.0
    """Weight of the dice loss on the binary map."""
    k: Positive = 50.0
    """Steepness of the differentiable step."""
    negative_ratio: Positive = 3.0
    """Hard negatives kept for each positive pixel."""


class OptimizerSettings(Options):
    """How weights are updated."""

    name: Literal["muon", "adamw", "sgd"] = "muon"
    """``muon`` learns most in a short run; ``sgd`` wants ``lr = 0.007`` and a long one."""
    lr: Positive = 8e-3
    """Highest learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    """Decay of weights, not of biases and normalisation; by default 0.3 for ``muon`` and ``adamw``, and 0.0001 for ``sgd``, which
    adds it to the gradient."""
    momentum: Ratio = 0.9
    """For ``muon`` and ``sgd``."""
    schedule: Literal["cosine", "poly"] = "cosine"
    """How the learning rate falls to zero over the run; ``poly`` has power 0.9."""
    warmup: Ratio = 0.03
    """Share of the run over which the learning rate rises from zero."""
    grad_clip: Annotated[float, Field(ge=0)] = 5.0
    """Gradients are scaled down to this norm; 0 switches it off."""


class TrainerSettings(Options):
    """How long, on what, and how often it is checked."""

    epochs: Annotated[int, Field(ge=1)] = 100
    """Passes over the training pages, unless ``max_time`` ends the run earlier."""
    max_time: Duration | None = None
    """End after this time, its last validation included: ``90s``, ``10m``, ``1h30m``. The schedule adapts to it."""
    accumulate: Annotated[int, Field(ge=1)] | None = None
    """Batches summed up in an update; by default as the precision strategy says: 1, and 2 for ``fp16-safe``."""
    validations: Annotated[int, Field(ge=1)] = 4
    """Validations in a run, evenly spread; the last one is at the end."""
    val_loss: bool = False
    """Log the loss on the validation pages, too: their target maps are drawn for it in every validation, or kept by
    ``cache.policy = "maps"``."""
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to compute; ``auto`` takes a GPU if there is one."""
    save_every: Duration = timedelta(seconds=120)
    """``last.ckpt`` is written when the one before is older: the training that a kill can cost."""
    profile: bool = False
    """Time the parts of every batch, and say at the end what the run was waiting for."""
    overlays: Annotated[int, Field(ge=0)] = 8
    """Validation pages of which a picture is kept in the run folder."""


class PrecisionSettings(Options):
    """The number format."""

    strategy: str = "fp32"
    """A precision strategy; see ``ocrsdk plugins list``."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the strategy."""
    certificates: LocalPath = Field(default_factory=_default_certificates, validate_default=True)
    """Folder where passed accuracy checks are kept; ``$XDG_DATA_HOME/ocrsdk/certificates`` or
    ``~/.local/share/ocrsdk/certificates`` by default."""


class CacheSettings(Options):
    """The sample cache."""

    backend: str = "diskcache"
    """A cache backend, or ``none``; see ``ocrsdk plugins list``."""
    dir: LocalPath = Field(default_factory=_default_cache_dir, validate_default=True)
    """Folder of all caches; ``$XDG_CACHE_HOME/ocrsdk`` or ``~/.cache/ocrsdk`` by default."""
    policy: Literal["sample", "image", "maps", "off"] = "sample"
    """What is kept: ``image``, decoded and shrunk pages; ``sample``, that for training and complete samples for validation;
    ``maps``, those and the target maps of validation pages, for ``trainer.val_loss``; ``off``, nothing. Random views are never
    kept."""
    identity: Identity = "path"
    """What tells one image file from another: path, size, times and inode; or its bytes, which also hit after a move."""
    budget: ByteSize = ByteSize(10 * 10**9)
    """A version never grows beyond this: ``500MB``, ``10GB``. When it is full nothing is evicted; further samples are not kept."""
    compress: Codec = "none"
    """Compression of pages and samples; see ``ocrsdk cache bench`` for what it gains and costs here."""
    compress_maps: Codec = "none"
    """Compression of kept target maps."""
    keep_versions: Annotated[int, Field(ge=1)] = 3
    """``ocrsdk cache prune`` keeps the versions used last, so many of them."""
    max_age: Duration | None = None
    """``ocrsdk cache prune`` also removes versions not used for so long: ``720h``."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the backend."""


class LoggingSettings(Options):
    """Where metrics go."""

    loggers: Names = ("jsonl",)
    """Loggers; ``jsonl`` is always the first, unless ``none`` is the only one. See ``ocrsdk plugins list``."""
    every_n_steps: Annotated[int, Field(ge=1)] = 10
    """Training metrics are logged once in so many steps."""
    images: Annotated[int, Field(ge=0)] = 4
    """Validation pages whose predictions are logged after each validation, by loggers that take pictures."""
    patience: Duration = timedelta(seconds=10)
    """A logger that needs longer for one row is switched off; its rows can be sent later with ``ocrsdk logs sync``."""
    options: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Options by logger name."""


class PostProcessSettings(Options):
    """From probability maps to polygons."""

    threshold: Ratio = 0.4
    """A pixel is text above this probability."""
    box_threshold: Ratio = 0.55
    """Regions with a lower mean probability are dropped."""
    unclip_ratio: Annotated[float, Field(ge=0, le=10)] = 1.45
    """How far regions are grown back."""
    min_side: Annotated[float, Field(ge=0)] = 3.0
    """Regions thinner than this many pixels of the map are dropped."""
    max_candidates: Annotated[int, Field(ge=1)] = 10_000
    """At most this many regions of a page are looked at, the largest first; a newspaper page has a few thousand words."""
    shape: Shape = "quad"
    """Four corners, or the outline for curved text."""
