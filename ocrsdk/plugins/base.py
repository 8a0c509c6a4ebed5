"""What the kinds of plug-in classes share: a name, a summary, checked options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from ocrsdk.errors import SettingsError, nearest
from ocrsdk.settings.options import build, secret_names
from ocrsdk.settings.sources import variable_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel


class Plugin:
    """Base of cache backends, precision strategies, loggers and annotation formats.

    A subclass sets ``name`` and ``summary``. If it takes options, it nests a class ``Options(ocrsdk.Options)``; the validated
    object is then ``self.options``.
    """

    name: ClassVar[str]
    """What users type: lower case, digits and dashes."""
    summary: ClassVar[str]
    """One line for ``ocrsdk plugins list``."""
    Options: ClassVar[type[BaseModel] | None] = None
    """The class of its options; None for a plug-in without."""

    def __init__(self, options: BaseModel | None = None) -> None:
        self.options: Any = options if options is not None or self.Options is None else self.Options()

    @classmethod
    def check_options(cls, given: Mapping[str, object], where: str) -> BaseModel | None:
        """The validated ``Options`` of ``given``; None for a class without options.

        Args:
            given: Option names and values, as they stand in the settings.
            where: The settings key that holds them, for the error.

        Raises:
            SettingsError: An option is unknown, missing or has a wrong value.
        """
        known = list(cls.Options.model_fields) if cls.Options else []
        for key in given:
            if key not in known:
                listed = f"Its options: {', '.join(known)}.{nearest(key, known)}" if known else "It has no options."
                raise SettingsError(f"{where}.{key}: {cls.name!r} has no such option. {listed}")
        if cls.Options is None:
            return None
        from pydantic import ValidationError

        try:
            return build(cls.Options, given)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            secret = key in secret_names(cls.Options)
            if first["type"] == "missing":
                remedy = (
                    f"it is a secret, which is kept nowhere: set {variable_of(f'{where}.{key}')}" if secret else "it is required"
                )
                raise SettingsError(f"{where}.{key} of {cls.name!r} is not given; {remedy}") from None
            found = "" if secret else f" (found {first['input']!r})"
            raise SettingsError(f"{where}.{key}: {first['msg']}{found}") from None
