"""Values as people write them."""

from __future__ import annotations

from datetime import timedelta

import pytest

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
