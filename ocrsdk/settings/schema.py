"""``Settings``: all options of a run.

A value comes from, strongest first: an override (a command-line option), the environment (``OCRSDK_TRAINER__EPOCHS``), a TOML
or YAML file, the default. Unknown names are refused wherever they stand; ``sources`` reads and checks each source.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from ocrsdk.settings.options import AnswersInPython, describe
from ocrsdk.settings.sections import (
    RECIPES,
    AugmentSettings,
    CacheSettings,
    DataSettings,
    LocalPath,
    LoggingSettings,
    LossSettings,
    ModelSettings,
    OptimizerSettings,
    PostProcessSettings,
    PrecisionSettings,
    TargetSettings,
    TrainerSettings,
)
from ocrsdk.settings.sources import Layers, read_layers, validated

if TYPE_CHECKING:
    from collections.abc import Mapping


class Settings(BaseSettings, metaclass=AnswersInPython):
    """All settings of a run."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True, env_prefix="OCRSDK_")

    name: Annotated[str, Field(pattern=r"^[\w.+-]+$")] = "run"
    """Name of the run; part of its folder's name."""
    run_dir: LocalPath | None = None
    """The run folder; ``runs/<date>-<name>`` by default."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    """Everything random follows from it."""
    data: DataSettings = Field(default_factory=DataSettings)
    augment: AugmentSettings = Field(default_factory=AugmentSettings)
    targets: TargetSettings = Field(default_factory=TargetSettings)
    model: ModelSettings = Field(default_factory=ModelSettings)
    loss: LossSettings = Field(default_factory=LossSettings)
    optimizer: OptimizerSettings = Field(default_factory=OptimizerSettings)
    trainer: TrainerSettings = Field(default_factory=TrainerSettings)
    precision: PrecisionSettings = Field(default_factory=PrecisionSettings)
    cache: CacheSettings = Field(default_factory=CacheSettings)
    logging: LoggingSettings = Field(default_factory=LoggingSettings)
    postprocess: PostProcessSettings = Field(default_factory=PostProcessSettings)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is passed in: ``load`` reads the environment itself, so that a library user gets what the code says."""
        return (init_settings,)

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As pydantic's, with a description of every setting; these are there from the first call on, not before."""
        describe(cls)
        return super().model_json_schema(*args, **kwargs)

    @classmethod
    def load(
        cls,
        config: Path | None = None,
        overrides: Mapping[str, Any] | None = None,
        environ: Mapping[str, str] | None = None,
        place: str = "command line",
    ) -> Settings:
        """Read all sources.

        Args:
            config: A TOML or YAML file.
            overrides: Dotted names to values, e.g. ``{"trainer.epochs": 3}``.
            environ: The environment; ``os.environ`` by default.
            place: Where the overrides come from, for messages.

        Raises:
            SettingsError: A name is unknown or a value is wrong; names the file and line, the variable or the option.
        """
        return cls.load_with_sources(config, overrides, environ, place)[0]

    @classmethod
    def load_with_sources(
        cls,
        config: Path | None = None,
        overrides: Mapping[str, object] | None = None,
        environ: Mapping[str, str] | None = None,
        place: str = "command line",
    ) -> tuple[Settings, Layers]:
        """``load``, and the layers that say where each value came from."""
        layers = read_layers(cls, config, overrides or {}, environ, place)
        _let_recipe_win(layers)
        settings = validated(cls, layers)
        if "augment.recipe" in layers.places:
            for name in RECIPES[settings.augment.recipe]:
                layers.places.setdefault(f"augment.{name}", f"augment.recipe, {layers.places['augment.recipe']}")
        return settings, layers


def _let_recipe_win(layers: Layers) -> None:
    """A recipe that is asked for goes before the values of weaker sources, as those of an older run's settings."""
    strongest_first = (layers.overrides, layers.environment, layers.file)
    for at, layer in enumerate(strongest_first):
        if "augment.recipe" in layer:
            names = {f"augment.{name}" for values in RECIPES.values() for name in values}
            for weaker in strongest_first[at + 1 :]:
                for name in names & weaker.keys():
                    del weaker[name]
                    if not any(name in stronger for stronger in strongest_first[: at + 1]):
                        layers.places.pop(name, None)
            return
