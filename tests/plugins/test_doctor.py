"""The doctor finds what is wrong with plug-ins, and names the remedy."""

from __future__ import annotations

import json

import pytest

from tests.conftest import CLI


@pytest.mark.slow
def test_f71_doctor_finds_each_of_them(cli: CLI, bad_site: dict[str, str]):
    result = cli("plugins", "doctor", "--json", env=bad_site)
    assert result.returncode == 1, result.stderr
    checks = json.loads(result.stdout)
    lines = [f"{check['level']} {check['what']} | {check['remedy']}" for check in checks]

    def has(*parts: str) -> bool:
        return any(all(part in line for part in parts) for line in lines)

    assert has("error opencv-python and opencv-python-headless are both installed", "--force-reinstall opencv-python-headless")
    assert has("warning ocrsdk-meddling 1.0 replaces ocrsdk.errors.nearest for everybody", "OCRSDK_DISABLED_PLUGINS=meddling")
    assert has("error ocrsdk-newer 1.0", "needs API version 99 of ocrsdk, this is 1", "pip install --upgrade ocrsdk ocrsdk-newer")
    assert has("warning ocrsdk-slow 1.0 takes 2.", "OCRSDK_DISABLED_PLUGINS=slow")
    assert has("error ocrsdk-slow needs numpy<1.0, found", "pip install 'numpy<1.0'")
    assert has("error ocrsdk-missing 1.0", "pip install no-such-module")
    (broken,) = json.loads(cli("plugins", "info", "missing", "--json", env=bad_site).stdout)
    assert broken["state"] == "failed"
    assert broken["remedy"].startswith("pip install no-such-module")
