"""The folder of a run: its settings, its name, one process at a time."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import yaml

from ocrsdk import Pipeline, Settings
from ocrsdk.runs import folder as run_folder
from ocrsdk.settings.sources import leaves
from tests.conftest import CLI
from tests.training.runs import SMALL, settings, start, wait_for_rows


def test_settings_file_of_a_run_is_read_back(tmp_path: Path):
    settings, layers = Settings.load_with_sources(None, {"trainer.max_time": "10m", "data.root": "pages"}, {})
    run_folder.write_settings(tmp_path, settings, layers)
    again = Settings.load(tmp_path / run_folder.SETTINGS_FILE, environ={})
    assert again == settings
    text = (tmp_path / run_folder.SETTINGS_FILE).read_text()
    assert "# command line" in text
    assert "# default" in text
    assert len(list(leaves(Settings))) == sum(1 for line in text.splitlines() if "  # " in line)
    yaml.safe_load(text)


@pytest.mark.slow
def test_a_second_process_may_not_train_in_the_same_folder(cli: CLI, tmp_path: Path, synth_pages: Path):
    process = start(tmp_path, synth_pages, "--epochs", "100000", *SMALL, "--run-dir", "runs/one")
    wait_for_rows(process, tmp_path / "runs/one/metrics.jsonl", 2)
    result = cli("runs", "list", "--json")
    assert [run["state"] for run in json.loads(result.stdout)] == ["running"]
    result = cli("train", "--resume", "last")
    assert result.returncode == 2
    assert "runs/one: another process is training in it" in result.stderr
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=120)
    assert process.returncode == 129
    assert [run["state"] for run in json.loads(cli("runs", "list", "--json").stdout)] == ["stopped"]


@pytest.mark.slow
def test_runs_of_one_second_have_folders_of_their_own(tmp_path: Path, synth_pages: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)

    class Stopped(run_folder.datetime):
        @classmethod
        def now(cls, tz: object = None) -> Stopped:
            return cls(2026, 1, 1)

    monkeypatch.setattr(run_folder, "datetime", Stopped)
    for _ in range(3):
        Pipeline(settings(None, epochs=1)).fit(synth_pages)
    folders = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert folders == [f"2026-01-01_00-00-00-run{more}" for more in ("", "-2", "-3")]
