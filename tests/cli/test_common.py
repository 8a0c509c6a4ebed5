"""What commands share: errors as lines for machines."""

from __future__ import annotations

import json

from tests.conftest import CLI


def test_an_error_before_anything_else_is_a_json_line_too(cli: CLI):
    result = cli("train", "pages", "--set", "x.y=1", "--log-format", "json")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert json.loads(line)["kind"] == "SettingsError"
