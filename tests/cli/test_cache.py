"""``ocrsdk cache`` as a user types it."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import SMALL, document
from tests.conftest import CLI


def test_without_a_cache_nobody_reads_all_is_well(cli: CLI, home: dict[str, str], tmp_path: Path):
    result = cli("cache", "health", env=home)
    assert result.returncode == 1
    assert result.stdout.startswith("NO CACHE: there is nothing to check in")
    assert "healthy" not in result.stdout.lower()
    assert document(cli, "health", env=home, rc=1)["state"] == "absent"
    assert "NO CACHE" in cli("cache", "status", env=home).stdout
    assert not (tmp_path / "cache").exists()
    off = cli("cache", "health", "--set", "cache.backend=none", env=home)
    assert off.returncode == 1
    assert "caching is off (backend none)" in off.stdout


def test_health_imports_nothing_heavy(tmp_path: Path):
    script = (
        "import sys\nfrom ocrsdk.cli import app\ntry:\n    app(['cache', 'health'])\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'pytorch_lightning', 'wandb', 'cv2', 'numpy') if m in sys.modules])"
    )
    env = {**os.environ, "OCRSDK_CACHE__DIR": str(tmp_path)}
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=env, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_warm_status_health_validate_explain_export_prune_clear(cli: CLI, home: dict[str, str], synth_pages: Path, tmp_path: Path):
    assert document(cli, "warm", synth_pages, *SMALL, env=home)["writes"] == 8
    again = cli("cache", "warm", synth_pages, *SMALL, env=home)
    assert "0 made and kept, 8 were there already" in again.stdout

    status = document(cli, "status", *SMALL, env=home)
    (version,) = status["versions"]
    assert (version["current"], version["usage"]["entries"]) == (True, 16)
    assert sorted(s["hit_rate"] for s in version["sessions"].values()) == [0.0, 1.0]
    other = cli("cache", "status", env=home).stdout
    assert "differs: val.short_side: 96 -> 832" in other

    health = document(cli, "health", *SMALL, env=home)
    assert health["state"] == "healthy"
    assert health["checksums_checked"] == 16
    assert (health["cache_version"], health["hit_rate_percent"]) == (status["cache_version"], 50.0)
    assert (health["total_accesses"], health["cache_hits"], health["cache_misses"]) == (16, 8, 8)
    assert health["entries"] == 16
    assert health["bytes"] > 8 * 96 * 96

    validation = document(cli, "validate", "--all", *SMALL, env=home)
    assert (validation["entries"], validation["checksums"], validation["compared"]) == (16, 16, 8)
    assert validation["damaged"] == validation["different"] == []

    image = sorted((synth_pages / "train/images").iterdir())[0]
    explained = cli("cache", "explain", image, *SMALL, env=home).stdout
    assert explained.startswith("image: hit  key")
    assert "sample: miss" in explained

    for name in ("stats.json", "stats.csv", "stats.prom"):
        assert cli("cache", "export", "--output", name, *SMALL, env=home).returncode == 0
    assert json.loads((tmp_path / "stats.json").read_text())["versions"][0]["usage"]["entries"] == 16
    rows = list(csv.DictReader((tmp_path / "stats.csv").open()))
    assert sorted(row["hits"] for row in rows) == ["0", "8"]
    assert f'ocrsdk_cache_entries{{version="{status["cache_version"]}",current="true"}} 16' in (tmp_path / "stats.prom").read_text()
    bad = cli("cache", "export", "--output", "stats.xml", env=home)
    assert bad.returncode == 2
    assert ".json, .csv, .prom" in bad.stderr

    document(cli, "warm", synth_pages, "--set", "data.short_side=128", env=home)
    assert document(cli, "prune", *SMALL, env=home)["versions"] == []
    pruned = document(cli, "prune", *SMALL, "--set", "cache.keep_versions=1", "--dry-run", env=home)
    assert [v["version"] for v in pruned["versions"]] == []  # the stale one was used last, the current one is kept anyway
    assert document(cli, "clear", "--stale", "--dry-run", *SMALL, env=home)["versions"] == []  # another run may use it
    unused = (*SMALL, "--set", "cache.max_age=0.001s")
    cleared = document(cli, "clear", "--stale", "--dry-run", *unused, env=home)
    assert (cleared["removed"], len(cleared["versions"])) == (False, 1)
    assert [v["stale"] for v in document(cli, "status", *unused, env=home)["versions"]] == [True, False]
    assert cli("cache", "clear", "--stale", *unused, env=home).returncode == 1  # no answer to "remove them?"
    assert cli("cache", "clear", "--stale", "-y", *unused, env=home).returncode == 0
    (version,) = document(cli, "status", *SMALL, env=home)["versions"]
    assert version["current"]
    assert cli("cache", "clear", "--all", "-y", env=home).returncode == 0
    assert document(cli, "health", env=home, rc=1)["state"] == "absent"


@pytest.mark.slow
def test_f82_what_a_run_has_filled_is_not_stale_and_is_found_with_its_settings(
    cli: CLI, home: dict[str, str], synth_pages: Path, tmp_path: Path
):
    train = ("train", synth_pages, "--epochs", "1", "--workers", "0", "--run-dir", "mine", *SMALL)
    assert cli(*train, env=home).returncode == 0
    (version,) = document(cli, "status", env=home)["versions"]
    assert (version["current"], version["stale"]) == (False, False)
    assert "train.short_side: 96 -> 832" in version["differs"]
    assert list(version["sessions"]) == ["mine"]
    assert document(cli, "clear", "--stale", "--dry-run", env=home)["versions"] == []
    image = sorted((synth_pages / "train/images").iterdir())[0]
    explained = cli("cache", "explain", image, env=home).stdout
    assert f"kept in version {version['version']}" in explained
    assert "version.train.short_side: 96 -> 832" in explained
    assert "--run RUN" in cli("cache", "health", env=home).stdout
    for run in ("mine", tmp_path / "mine"):
        (version,) = document(cli, "status", "--run", run, env=home)["versions"]
        assert version["current"]
    assert cli("cache", "explain", image, "--run", "mine", env=home).stdout.startswith("image: hit")
    assert "--run" not in cli("cache", "health", "--run", "mine", env=home).stdout
    wrong = cli("cache", "status", "--run", "nowhere", env=home)
    assert wrong.returncode == 2
    assert "nowhere: no run folder" in wrong.stderr


@pytest.mark.slow
def test_a_version_of_an_older_layout_is_told_and_pruned(cli: CLI, home: dict[str, str], synth_pages: Path, tmp_path: Path):
    document(cli, "warm", synth_pages, *SMALL, env=home)
    (here,) = (tmp_path / "cache" / "diskcache").glob("v*/*")
    old = here.parent.rename(here.parents[1] / "v1") / here.name
    marker = json.loads((old / "version.json").read_text())
    (old / "version.json").write_text(json.dumps(marker | {"schema": 1}))
    (version,) = document(cli, "status", env=home)["versions"]
    assert version["stale"]
    assert version["stale_because"] == ["was made by an older ocrsdk (layout v1), and is not read any more"]
    assert version["usage"]["bytes"] > 8 * 96 * 96
    absent = document(cli, "health", env=home, rc=1)
    assert (absent["state"], absent["entries"], absent["findings"][0]["severity"]) == ("absent", 0, "note")
    assert document(cli, "warm", synth_pages, env=home)["writes"] == 8
    assert document(cli, "health", env=home)["state"] == "healthy"
    assert [v["version"] for v in document(cli, "prune", "--dry-run", env=home)["versions"]] == [old.name]
    (old / "version.json").write_text("{")
    assert document(cli, "health", env=home)["state"] == "healthy"
    (old / "version.json").write_text(json.dumps(marker | {"schema": 1}))
    assert [v["version"] for v in document(cli, "prune", env=home)["versions"]] == [old.name]
    assert not old.exists()
    assert len(document(cli, "status", env=home)["versions"]) == 1


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("cache", "clear"), ["--version V, --stale, --all, --rebuild"]),
        (("cache", "clear", "--version", "nope"), ["no cache version 'nope'", "ocrsdk cache status"]),
        pytest.param(("cache", "explain", "nope.jpg"), ["nope.jpg", "no such file"], marks=pytest.mark.slow),
        pytest.param(("cache", "warm", "nope"), ["nope", "no such folder"], marks=pytest.mark.slow),
        (("cache", "status", "--set", "cache.budget=much"), ["cache.budget"]),
        (("cache", "status", "--set", "cache.policy=imagee"), ["cache.policy"]),
    ],
)
def test_bad_input(cli: CLI, home: dict[str, str], tmp_path: Path, args: tuple[str, ...], words: list[str]):
    result = cli(*args, env=home)
    assert result.returncode == 2
    for word in words:
        assert word in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "cache").exists()
