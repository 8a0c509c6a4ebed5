"""The version of a run's cache changes with everything that changes the bytes, and with nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from ocrsdk import Settings
from ocrsdk.runs.cache import open_run_cache

CHANGED: dict[str, tuple[Any, bool]] = {
    # setting: (another value, whether cached bytes depend on it)
    "name": ("other", False),
    "run_dir": ("elsewhere", False),
    "seed": (7, False),
    "data.root": ("elsewhere", False),
    "data.train": ("t", False),
    "data.val": ("v", False),
    "data.format": ("coco", False),  # what is read from the labels is part of each key
    "data.format_options": ({"level": "word"}, False),
    "data.images": ("pictures", False),
    "data.short_side": (640, True),
    "data.max_side": (2000, True),
    "data.crop": (256, False),
    "data.batch_size": (3, False),
    "data.workers": (0, False),
    "data.on_bad_sample": ("skip", False),
    "data.on_bad_box": ("drop", False),  # as the next
    "data.outside": ("ignore", False),  # changes annotations, which are part of every key
    "data.verify": ("header", False),
    "data.index": (False, False),
    "augment.recipe": ("none", False),
    "augment.cut": ("keep", False),
    "augment.transforms": (({"HorizontalFlip": {}},), False),
    "augment.scale_min": (0.3, False),
    "augment.scale_max": (1.5, True),
    "augment.rotate": (9, False),
    "augment.flip": (0.5, False),
    "augment.jitter": (0.1, False),
    "targets.shrink_ratio": (0.5, False),  # unless maps are kept, see MAPS_CHANGED
    "targets.thresh_min": (0.2, False),
    "targets.thresh_max": (0.8, False),
    "targets.min_text_size": (4, False),
    "targets.distance": ("db", False),
    "targets.clamp": (True, False),
    "model.name": ("dbnet++", False),
    "model.backbone": ("resnet18", False),
    "model.backbone_weights": ("w.pt", False),
    "loss.bce_weight": (1, False),
    "loss.l1_weight": (1, False),
    "loss.dice_weight": (2, False),
    "loss.k": (40, False),
    "loss.negative_ratio": (2, False),
    "optimizer.name": ("sgd", False),
    "optimizer.lr": (1e-3, False),
    "optimizer.weight_decay": (0.0, False),
    "optimizer.momentum": (0.8, False),
    "optimizer.schedule": ("poly", False),
    "optimizer.warmup": (0.1, False),
    "optimizer.grad_clip": (1, False),
    "trainer.epochs": (3, False),
    "trainer.max_time": ("5m", False),
    "trainer.accumulate": (2, False),
    "trainer.validations": (2, False),
    "trainer.val_loss": (True, False),
    "trainer.accelerator": ("cpu", False),
    "trainer.overlays": (0, False),
    "trainer.save_every": ("5s", False),
    "trainer.profile": (True, False),
    "precision.strategy": ("fp32x", False),
    "precision.options": ({"a": 1}, False),
    "precision.certificates": ("elsewhere", False),
    "cache.backend": ("none", True),
    "cache.dir": ("elsewhere", False),
    "cache.policy": ("image", True),
    "cache.identity": ("content", False),  # changes every key instead
    "cache.budget": ("5GB", False),
    "cache.compress": ("zstd", True),
    "cache.compress_maps": ("zstd", False),
    "cache.keep_versions": (1, False),
    "cache.max_age": ("10h", False),
    "cache.options": ({"lock_timeout": 9}, False),
    "logging.loggers": ("none", False),
    "logging.every_n_steps": (1, False),
    "logging.images": (0, False),
    "logging.patience": ("2s", False),
    "logging.options": ({}, False),
    "postprocess.threshold": (0.2, False),
    "postprocess.box_threshold": (0.6, False),
    "postprocess.unclip_ratio": (2.0, False),
    "postprocess.min_side": (5, False),
    "postprocess.max_candidates": (10, False),
    "postprocess.shape": ("polygon", False),
}

MAPS_CHANGED = CHANGED | {
    name: (CHANGED[name][0], True) for name in CHANGED if name.startswith("targets.") or name == "cache.compress_maps"
}
"""The same where ``cache.policy`` is ``maps``."""


def test_every_setting_is_classified():
    names = set()
    for name, field in Settings.model_fields.items():
        inner = getattr(field.annotation, "model_fields", None)
        names |= {f"{name}.{key}" for key in inner} if inner else {name}
    assert names == set(CHANGED), "say in CHANGED whether cached bytes depend on the new setting"


@pytest.mark.parametrize("name", CHANGED)
@pytest.mark.parametrize(("policy", "table"), [("sample", CHANGED), ("maps", MAPS_CHANGED)])
def test_the_version_changes_with_what_matters_only(policy: str, table: dict[str, tuple[Any, bool]], name: str):
    other, matters = table[name]
    given = {"cache.policy": policy}
    before = open_run_cache(Settings.load(overrides=given, environ={}), "t").backend.location.version
    after = open_run_cache(Settings.load(overrides=given | {name: other}, environ={}), "t").backend.location.version
    assert (before != after) == matters


def test_scales_up_to_one_share_a_version():
    versions = {open_run_cache(Settings(augment={"scale_max": scale}), "t").backend.location.version for scale in (0.6, 0.95, 1.0)}
    assert len(versions) == 1
