"""Values as people write them."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from ocrsdk import Settings
from ocrsdk.errors import SettingsError


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("10m", 600), ("1h30m", 5400), ("1.5h", 5400), ("1h30m10s", 5410)]
)
def test_durations(text: str, seconds: int):
    assert Settings.load(overrides={"trainer.max_time": text}, environ={}).trainer.max_time == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["soon", "10x", "0", "-5m"])
def test_wrong_durations(text: str):
    with pytest.raises(SettingsError, match=r"trainer\.max_time"):
        Settings.load(overrides={"trainer.max_time": text}, environ={})


def test_lists_and_plugin_options_from_the_command_line():
    settings = Settings.load(overrides={"logging.loggers": "jsonl,none", "cache.options.size": 3}, environ={})
    assert settings.logging.loggers == ("jsonl", "none")
    assert settings.cache.options == {"size": 3}


LIST = [{"path": "a", "weight": 2.0}, {"path": "b.json", "format": "coco"}, "c"]


@pytest.mark.parametrize("suffix", ["toml", "yaml", "variable", "option"])
def test_several_sources_wherever_they_are_written(tmp_path: Path, suffix: str):
    config, environ, overrides = None, {}, {}
    if suffix == "toml":
        config = tmp_path / "s.toml"
        config.write_text('[data]\ntrain = [{path = "a", weight = 2}, {path = "b.json", format = "coco"}, "c"]\n')
    elif suffix == "yaml":
        config = tmp_path / "s.yaml"
        config.write_text("data:\n  train:\n    - {path: a, weight: 2}\n    - path: b.json\n      format: coco\n    - c\n")
    elif suffix == "variable":
        environ = {"OCRSDK_DATA__TRAIN": json.dumps(LIST)}
    else:
        overrides = {"data.train": json.dumps(LIST)}
    train = Settings.load(config, overrides, environ).data.train
    assert [(source.path, source.weight, source.format) for source in train] == [
        ("a", 2, None),
        ("b.json", 1, "coco"),
        ("c", 1, None),
    ]
    again = Settings(data=Settings.load(config, overrides, environ).model_dump(mode="json")["data"]).data
    assert (again.train, again.val[0].path) == (train, "val")


def test_one_source_is_written_as_its_path():
    assert Settings().model_dump(mode="json")["data"]["train"] == "train"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('[{"path": "a", "wieght": 2}]', "data.train.wieght = 2: there is no such parameter. Did you mean 'weight'?"),
        ('[{"path": "a", "weight": 0}]', "data.train.weight = 0: input should be greater than 0"),
        ('[{"path": "a"', "no JSON"),
        ("[]", "an empty list"),
        ("[" * 5000, "no JSON"),
        ('[{"path": "a", "weight": 1e300}]', "less than or equal to 1000"),
        ('[{"weight": 1}]', "data.train.path"),
    ],
)
def test_wrong_sources_are_named(value: str, expected: str):
    with pytest.raises(SettingsError) as error:
        Settings.load(overrides={"data.train": value}, environ={})
    assert expected in str(error.value)


def test_a_recipe_sets_what_nothing_else_does():
    settings, layers = Settings.load_with_sources(overrides={"augment.recipe": "paper", "augment.flip": 0.1}, environ={})
    given = settings.augment
    assert (given.rotate, given.flip, given.scale_max, given.jitter) == (10, 0.1, 3, 0)
    assert layers.source("augment.rotate") == "augment.recipe, command line"
    assert layers.source("augment.flip") == "command line"
    assert Settings(augment=given.model_dump()).augment == given
    assert Settings(augment={"recipe": "receipt"}).augment == Settings().augment


def test_a_recipe_goes_before_what_an_older_run_was_given(tmp_path: Path):
    """All values stand in the settings of a run; a variable that says more than the recipe stays."""
    old = tmp_path / "settings.yaml"
    old.write_text(yaml.safe_dump({"augment": Settings(augment={"recipe": "paper"}).augment.model_dump(mode="json")}))
    assert Settings.load(old, environ={}).augment.rotate == 10
    given, layers = Settings.load_with_sources(old, {"augment.recipe": "none"}, {"OCRSDK_AUGMENT__ROTATE": "7"})
    assert (given.augment.scale_max, given.augment.flip, given.augment.rotate) == (1, 0, 0)
    assert layers.source("augment.flip") == "augment.recipe, command line"
    given = Settings.load(old, {"augment.rotate": 5}, {"OCRSDK_AUGMENT__RECIPE": "none"})
    assert (given.augment.rotate, given.augment.flip) == (5, 0)


def test_a_recipe_is_a_name():
    with pytest.raises(SettingsError, match=r"augment\.recipe"):
        Settings(augment={"recipe": ["paper"]})


def test_a_path_may_look_like_a_list():
    data = Settings(data={"train": ["[x]"]}).model_dump(mode="json")["data"]
    assert Settings(data=data).data.train[0].path == "[x]"
