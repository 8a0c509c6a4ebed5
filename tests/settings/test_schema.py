"""``Settings`` alone, and its schema."""

from __future__ import annotations

import pytest

from ocrsdk import Settings


def test_constructor_ignores_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("OCRSDK_SEED", "5")
    assert Settings().seed == 0
    assert Settings.load().seed == 5


def test_every_setting_has_a_description():
    schema = Settings.model_json_schema()
    for section, definition in schema["$defs"].items():
        for name, field in definition["properties"].items():
            assert field.get("description"), f"{section}.{name}"
