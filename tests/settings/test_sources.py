"""Where settings come from, and what is said about wrong ones."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocrsdk import Settings
from ocrsdk.errors import SettingsError


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_flag_beats_environment_beats_file_beats_default(tmp_path: Path):
    config = write(tmp_path / "run.toml", "seed = 1\n[trainer]\nepochs = 1\nvalidations = 1\n[data]\nworkers = 1\n")
    settings, layers = Settings.load_with_sources(
        config,
        {"trainer.epochs": 3},
        {"OCRSDK_TRAINER__EPOCHS": "2", "OCRSDK_TRAINER__VALIDATIONS": "2", "HOME": "/"},
    )
    assert (settings.trainer.epochs, settings.trainer.validations, settings.data.workers) == (3, 2, 1)
    assert settings.data.batch_size == 8
    assert layers.source("trainer.epochs") == "command line"
    assert layers.source("trainer.validations") == "OCRSDK_TRAINER__VALIDATIONS"
    assert layers.source("data.workers") == f"{config}:6"
    assert layers.source("data.batch_size") == "default"


@pytest.mark.parametrize("suffix", ["toml", "yaml", "yml"])
def test_files(tmp_path: Path, suffix: str):
    texts = {"toml": 'name = "x"\n[model]\nbackbone = "resnet18"\n', "yaml": "name: x\nmodel:\n  backbone: resnet18\n"}
    config = write(tmp_path / f"run.{suffix}", texts.get(suffix, texts["yaml"]))
    settings = Settings.load(config, environ={})
    assert (settings.name, settings.model.backbone) == ("x", "resnet18")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[trainer]\n\nepohcs = 3\n", r"run\.toml:3: unknown setting 'trainer\.epohcs'\. Did you mean 'trainer\.epochs'"),
        ("[model]\nbackbone = 'resnet81'\n", r"run\.toml:2: model\.backbone = 'resnet81'.*Did you mean 'resnet18'"),
        ("[trainer]\nepochs = 'many'\n", r"run\.toml:2: trainer\.epochs = 'many'"),
        ("epochs = 3\n", r"run\.toml:1: unknown setting 'epochs'\. Did you mean 'trainer\.epochs'"),
        ("seed = 1\n\ntrainer = { epohcs = 3 }\n", r"run\.toml:3: unknown setting 'trainer\.epohcs'"),
        ("seed = 1\n[trainer]\n'epohcs' = 3\n", r"run\.toml:3: unknown setting 'trainer\.epohcs'"),
        ("seed = 1\nmodel = { backbone = 'resnet81' }\n", r"run\.toml:2: model\.backbone = 'resnet81'"),
        ("seed = 1\n\n[trainr]\n", r"run\.toml:3: unknown setting 'trainr'"),
        ("[data]\nbatch_size = 2\n[data.more]\n", r"run\.toml:3: unknown setting 'data\.more'"),
        ("seed = = 3\n", r"run\.toml: not valid TOML.*line 1"),
        (
            "seed: 1\ndata:\n  batch_size: 4\n  wrokers: 1\n",
            r"run\.yaml:4: unknown setting 'data\.wrokers'\. Did you mean 'data\.workers'",
        ),
        ("seed: 1\ntrainr: {}\n", r"run\.yaml:2: unknown setting 'trainr'"),
        ("seed: 1\ntrainer:\n  <<: {epohcs: 3}\n", r"run\.yaml:2: unknown setting 'trainer\.epohcs'"),
        ("seed: 1\nname: a\nseed: 2\n", r"run\.yaml:3: 'seed' is set in line 1 already; remove one"),
    ],
)
def test_a_wrong_file_is_refused_with_its_line(tmp_path: Path, text: str, expected: str):
    config = write(tmp_path / ("run.yaml" if expected.startswith(r"run\.yaml") else "run.toml"), text)
    with pytest.raises(SettingsError, match=expected):
        Settings.load(config, environ={})


def test_empty_tables_and_byte_order_marks_are_fine(tmp_path: Path):
    for text in ("[trainer]\n", "\ufeffseed = 0\n", "[trainer]\n[cache.options]\n"):
        assert Settings.load(write(tmp_path / "run.toml", text), environ={}) == Settings()


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("OCRSDK_CAHCE__DIR", "OCRSDK_CACHE__DIR"),
        ("OCRSDK_CACHE_DIR", "OCRSDK_CACHE__DIR"),
        ("OCRSDK_PLUGIN", "OCRSDK_PLUGINS"),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_right_one(variable: str, expected: str):
    with pytest.raises(SettingsError, match=f"{variable} is no setting. Did you mean '{expected}'"):
        Settings.load(environ={variable: "x"})


def test_a_wrong_value_in_the_environment_names_the_variable():
    with pytest.raises(SettingsError, match=r"OCRSDK_DATA__BATCH_SIZE: data\.batch_size = '0'"):
        Settings.load(environ={"OCRSDK_DATA__BATCH_SIZE": "0"})


def test_missing_file_and_unknown_format(tmp_path: Path):
    with pytest.raises(SettingsError, match="No such file"):
        Settings.load(tmp_path / "none.toml")
    with pytest.raises(SettingsError, match=r"ends in \.toml"):
        Settings.load(write(tmp_path / "a.ini", ""))


@pytest.mark.parametrize("where", ["file", "variable", "option", "python"])
def test_a_tilde_is_the_home_folder_wherever_it_is_written(tmp_path: Path, where: str):
    values = {"run_dir": "~/runs/x", "data.root": "~/data", "model.backbone_weights": "~/w.pth", "cache.dir": "~/c"}
    if where == "file":
        config = tmp_path / "a.yaml"
        config.write_text("run_dir: ~/runs/x\ndata: {root: ~/data}\nmodel: {backbone_weights: ~/w.pth}\ncache: {dir: ~/c}\n")
        found = Settings.load(config, environ={})
    elif where == "variable":
        found = Settings.load(environ={"OCRSDK_" + name.upper().replace(".", "__"): value for name, value in values.items()})
    elif where == "option":
        found = Settings.load(overrides=values, environ={})
    else:
        found = Settings(run_dir="~/runs/x", data={"root": "~/data"}, model={"backbone_weights": "~/w.pth"}, cache={"dir": "~/c"})
    home = Path.home()
    assert (found.run_dir, found.data.root) == (home / "runs/x", home / "data")
    assert (found.model.backbone_weights, found.cache.dir) == (home / "w.pth", home / "c")
    assert Settings().cache.dir.is_absolute()


def test_the_home_of_nobody_is_refused():
    with pytest.raises(SettingsError, match="home"):
        Settings.load(overrides={"run_dir": "~nobody-of-that-name/x"}, environ={})


def test_off_is_a_word_in_yaml(tmp_path: Path):
    config = tmp_path / "a.yaml"
    config.write_text("cache: {policy: off}\ntrainer: {val_loss: true, profile: yes}\nname: on\n")
    found = Settings.load(config, environ={})
    assert (found.cache.policy, found.trainer.val_loss, found.trainer.profile, found.name) == ("off", True, True, "on")


@pytest.mark.parametrize(("name", "text"), [("a.toml", "a = {}"), ("a.yaml", "a: {}")])
def test_f85_settings_of_any_depth_are_read_or_refused(tmp_path: Path, name: str, text: str):
    config = tmp_path / name
    config.write_text(text.replace("{}", "[" * 20_000 + "]" * 20_000) + "\n")
    with pytest.raises(SettingsError, match=f"{name}: .*deeper"):
        Settings.load(config, environ={})
    with pytest.raises(SettingsError, match="deeper"):
        Settings.load(overrides={"cache.options": "[" * 200_000}, environ={})
