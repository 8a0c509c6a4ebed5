"""``ocrsdk runs`` and ``ocrsdk logs``, after runs that were logged as JSON lines."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ocrsdk.loggers.rows import read_rows
from tests.conftest import CLI
from tests.training.runs import SMALL, logged


@pytest.mark.slow
def test_json_lines_profile_and_curves(cli: CLI, tmp_path: Path, synth_pages: Path):
    secret = "s3cr3t-value-0123456789"
    result = cli(
        "train", synth_pages, "--epochs", "3", "--workers", "2", *SMALL, "--profile", "--log-format", "json", "--json",
        "--run-dir", "runs/a", "--precision", "fp16-safe", env={"MY_API_KEY": secret},
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stderr.splitlines()]
    assert {"progress", "validation", "profile"} & {line["event"] for line in lines} >= {"validation", "profile"}
    assert {line["run"] for line in lines if line["event"] == "validation"} == {"a"}
    assert secret not in result.stderr
    document = json.loads(result.stdout)
    shares = {name: phase["share"] for name, phase in document["profile"]["phases"].items()}
    assert set(shares) == {"data wait", "to device", "forward", "backward", "optimizer", "validation", "logging"}
    assert 0.2 < sum(shares.values()) <= 1.0
    assert "bound: " in document["profile"]["verdict"]
    assert document["profile"]["memory_tree_bytes"] > document["peak_memory_bytes"] * 0.5
    rows = read_rows(tmp_path / "runs/a/metrics.jsonl")
    assert [row["row"] for row in rows] == list(range(1, len(rows) + 1))
    assert rows[-1]["samples"] == 18
    assert "profile/forward" in rows[-1]

    assert cli("train", synth_pages, "--epochs", "2", *SMALL, "--run-dir", "runs/b", "--seed", "5").returncode == 0
    compared = json.loads(cli("runs", "compare", "runs/a", "runs/b", "--plot", "c.png", "--json").stdout)
    differing = {entry["name"]: entry["values"] for entry in compared["settings"]}
    assert differing["seed"] == [0, 5]
    assert differing["precision.strategy"] == ["fp16-safe", "fp32"]
    assert "data.crop" not in differing
    assert (tmp_path / "c.png").stat().st_size > 5000
    shown = cli("runs", "show", "last").stdout
    assert "runs/b" in shown
    assert "seed: 0 -> 5" in shown
    result = cli("logs", "sync", "runs/a", "--to", "csv", "--json")
    assert json.loads(result.stdout)["sent"] == len(rows)
    assert json.loads(cli("logs", "sync", "runs/a", "--to", "csv", "--json").stdout) == {
        "run": "runs/a", "logger": "csv", "sent": 0, "present": len(rows)
    }  # fmt: skip
    for args, message in (
        (("logs", "sync", "runs/a", "--to", "jsonl"), "is where rows come from"),
        (("train", "--resume", "runs/a"), "0 steps were made"),
        (("train", "--resume", "runs/a", "--epochs", "9", "--batch-size", "3"), "data.batch_size was 2 and is 3"),
        (("runs", "show", "nowhere"), "nowhere: no run in it"),
        (("runs", "compare", "runs/a"), "give at least two runs"),
        (("logs", "sync", "runs/a", "--to", "jsom"), "no logger named 'jsom'"),
        (("train", synth_pages, "--verbose", "--quiet"), "--verbose and --quiet contradict each other"),
        (("train", synth_pages, "--log-format", "xml"), "--log-format xml: expected console or json"),
    ):
        result = cli(*args)
        assert result.returncode == 2
        assert message in result.stderr
    assert [run["state"] for run in json.loads(cli("runs", "list", "--json").stdout)] == ["finished", "finished"]
    before = logged(tmp_path / "runs/b")
    result = cli("train", "--resume", "runs/b", "--epochs", "3", "--json")
    assert result.returncode == 0, result.stderr
    assert logged(tmp_path / "runs/b")[: len(before)] == before
    assert not (tmp_path / "runs/b/metrics.superseded.jsonl").exists()
