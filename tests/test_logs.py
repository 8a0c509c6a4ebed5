"""Log lines: none on a library's stdout, no secret in any."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_library_does_not_write_to_stdout(tmp_path: Path, synth_pages: Path, checkpoint: Path):
    data = Path(shutil.copytree(synth_pages, tmp_path / "data"))
    (data / "val/images/notes.gif").touch()
    code = "import sys; from ocrsdk import Pipeline; Pipeline.from_checkpoint(sys.argv[1]).evaluate(sys.argv[2])"
    done = subprocess.run([sys.executable, "-c", code, checkpoint, data], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert "notes.gif" in done.stderr


def test_secrets_are_struck_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    from ocrsdk.loggers.base import RunInfo
    from ocrsdk.logs import strike_secrets

    monkeypatch.setenv("SOME_TOKEN", "abcdefgh-token")
    event = {"event": "calling with abcdefgh-token", "api_key": "k", "options": {"password": "p", "size": 3}, "path": "a/b"}
    assert strike_secrets(None, "info", event) == {
        "event": "calling with ***", "api_key": "***", "options": {"password": "***", "size": 3}, "path": "a/b"
    }  # fmt: skip
    monkeypatch.setenv("SOME_CREDENTIALS", str(tmp_path))  # the place of a secret is none
    for address, shown in (
        ("valkey://me:pass@host:1/0", "valkey://***@host:1/0"),
        ("redis://:p/q@s@host", "redis://***@host"),
        ("https://token@host/a", "https://***@host/a"),
        ("valkey://host:1/0", "valkey://host:1/0"),
        ("/mnt//set@1/x", "/mnt//set@1/x"),
        (f"{tmp_path}/data", f"{tmp_path}/data"),
    ):
        assert RunInfo(tmp_path, "r", {"cache": {"options": {"url": address}}}).settings["cache"]["options"]["url"] == shown
    settings = {"credentials": {"login": "bob", "pw": "hunter2"}, "tokens": 5}
    assert RunInfo(tmp_path, "r", settings).settings == {"credentials": "***", "tokens": 5}
