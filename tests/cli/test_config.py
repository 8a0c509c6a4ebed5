"""``ocrsdk config`` with wrong variables and files."""

from __future__ import annotations

import json
from pathlib import Path

from tests.commands import refused
from tests.conftest import CLI


def test_wrong_variables_and_files(cli: CLI, tmp_path: Path):
    message = refused(cli, tmp_path, "config", "show", env={"OCRSDK_CAHCE__DIR": "x"})
    assert "OCRSDK_CAHCE__DIR" in message
    assert "OCRSDK_CACHE__DIR" in message
    (tmp_path / "run.toml").write_text("seed = 1\n\n[trainer]\nepohcs = 3\n")
    message = refused(cli, tmp_path, "config", "show", "--config", "run.toml")
    assert "run.toml:4" in message
    assert "'trainer.epochs'" in message


def test_options_of_plug_ins_say_where_they_come_from(cli: CLI, tmp_path: Path):
    """One by one, as other settings do: a group is not "default" because its name is not on the command line."""
    (tmp_path / "run.toml").write_text('[precision]\nstrategy = "bf16"\n[precision.options]\nforce = true\n')
    result = cli(
        "config", "show", "--json", "--config", "run.toml", "--set", "logging.options.wandb.project=receipts",
        "--set", "cache.options.durability=fast", env={"OCRSDK_LOGGING__OPTIONS__WANDB__MODE": "offline"},
    )  # fmt: skip
    shown = json.loads(result.stdout)
    assert shown["logging.options.wandb.project"] == {"value": "receipts", "source": "command line"}
    assert shown["logging.options.wandb.mode"]["value"] == "offline"
    assert "OCRSDK_LOGGING__OPTIONS__WANDB__MODE" in shown["logging.options.wandb.mode"]["source"]
    assert shown["cache.options.durability"] == {"value": "fast", "source": "command line"}
    assert shown["precision.options.force"]["value"] is True
    assert "run.toml" in shown["precision.options.force"]["source"]
    assert shown["seed"]["source"] == "default"
