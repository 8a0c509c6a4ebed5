"""A secret is in memory, and nowhere on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import SecretBytes, SecretStr

import ocrsdk
from ocrsdk.settings.options import secret_names
from ocrsdk.settings.sources import variable_of
from tests.conftest import CLI
from tests.packages import install

SECRET = "correct-horse-battery"

PLUGIN = """
import ocrsdk
from pydantic import SecretStr
from ocrsdk.cache.null import NullCache

class Vault(NullCache):
    name = "vault"
    summary = "wants a password"
    class Options(ocrsdk.Options):
        password: SecretStr
        '''The password.'''
        user: str = "me"

class Post(ocrsdk.RowLogger):
    def log_metrics(self, metrics, step=None):
        pass

class PostFactory(ocrsdk.LoggerFactory):
    name = "post"
    summary = "wants a key"
    class Options(ocrsdk.Options):
        key: SecretStr | None = None
    def build(self, run):
        assert self.options.key.get_secret_value() == "SECRET"
        return Post(run.name)

@ocrsdk.hookimpl
def ocrsdk_register_cache_backends():
    return [Vault]

@ocrsdk.hookimpl
def ocrsdk_register_loggers():
    return [PostFactory]
""".replace("SECRET", SECRET)

PASSWORD, KEY = "cache.options.password", "logging.options.post.key"
SMALL = ("--set", "data.crop=64", "--set", "data.short_side=96", "--workers", "0")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    site = tmp_path / "site"
    site.mkdir()
    install(site, "vault", PLUGIN)
    return {"PYTHONPATH": str(site)}


def holding(folder: Path) -> list[str]:
    """Files below ``folder`` that hold the secret, packed ones included (checkpoints are stored, not compressed)."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix not in (".py", ".pyc")]
    return [str(path.relative_to(folder)) for path in files if SECRET.encode() in path.read_bytes()]


@pytest.mark.slow
def test_no_secret_reaches_the_disk_and_a_resume_asks_for_it_again(
    cli: CLI, tmp_path: Path, synth_pages: Path, env: dict[str, str]
):
    given = env | {variable_of(PASSWORD): SECRET, variable_of(KEY): SECRET}
    train = ("train", synth_pages, "--cache", "vault", "--logger", "post", "--epochs", "1", "--run-dir", "run", *SMALL)
    result = cli(*train, "--set", "cache.options.user=you", "-v", env=given)
    assert result.returncode == 0, result.stderr
    assert SECRET not in result.stdout + result.stderr
    assert holding(tmp_path) == []
    text = (tmp_path / "run" / "settings.yaml").read_text()
    assert f"# {PASSWORD} is a secret and is not kept; give it again: {variable_of(PASSWORD)}" in text
    assert '"user": "you"' in text

    more = ("train", "--resume", "run", "--epochs", "2")
    refused = cli(*more, env=env)
    assert refused.returncode == 2
    assert f"it is a secret, which is kept nowhere: set {variable_of(PASSWORD)}" in refused.stderr
    refused = cli(*more, env=env | {variable_of(PASSWORD): SECRET})
    assert refused.returncode == 2
    assert f"{KEY} is a secret, which is kept nowhere; give it again: {variable_of(KEY)}=" in refused.stderr
    result = cli(*more, env=given)
    assert result.returncode == 0, result.stderr
    assert holding(tmp_path) == []
    assert SECRET not in cli("logs", "sync", "run", "--to", "post", env=given).stderr


@pytest.mark.slow
def test_the_runs_of_a_check_get_it_through_their_environment(cli: CLI, tmp_path: Path, synth_pages: Path, env: dict[str, str]):
    given = env | {variable_of(PASSWORD): SECRET}
    sets = ("--set", "cache.backend=vault", "--set", "data.crop=64", "--set", "data.short_side=96", "--set", "data.workers=0")
    result = cli("precision", "check", synth_pages, "--candidate", "bf16", "--set", "precision.options.force=true", "--epochs", "1",
                 "--seeds", "1", "--out", "out", "--json", *sets, env=given)  # fmt: skip
    assert result.returncode == 3, result.stderr
    assert len(json.loads(result.stdout)["runs"]) == 2
    assert holding(tmp_path) == []


def test_a_secret_that_is_wrong_is_not_shown(cli: CLI, tmp_path: Path, env: dict[str, str]):
    result = cli("cache", "status", "--set", "cache.backend=vault", "--set", 'cache.options.password=["' + SECRET + '"]', env=env)
    assert result.returncode == 2
    assert SECRET not in result.stderr
    assert "cache.options.password: Input should be a valid string" in result.stderr


def test_secrets_in_unions_and_lists_are_found():
    class Connection(ocrsdk.Options):
        host: str = "a"
        token: SecretStr | None = None

    class Open(ocrsdk.Options):
        port: int = 1

    class Options(ocrsdk.Options):
        plain: Connection = Connection()
        perhaps: Connection | None = None
        many: tuple[Connection, ...] = ()
        named: dict[str, Connection] | None = None
        raw: SecretBytes | None = None
        opened: tuple[Open, ...] = ()

    assert secret_names(Options) == ["plain.token", "perhaps", "many", "named", "raw"]
