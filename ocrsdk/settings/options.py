"""``Options``: the base of every group of options, of the settings' sections as of plug-ins."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args

from pydantic import BaseModel, ConfigDict, Secret, SecretBytes, SecretStr, ValidationError

from ocrsdk.errors import SettingsError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic._internal._model_construction import ModelMetaclass
else:
    ModelMetaclass = type(BaseModel)

Model = TypeVar("Model", bound=BaseModel)


class AnswersInPython(ModelMetaclass):
    """Metaclass: a wrong value given in Python is a ``SettingsError`` that names the parameter and what it may be."""

    def __call__(cls, *args: object, **kwargs: object) -> object:  # noqa: N805 - a metaclass
        """Make an instance."""
        try:
            return super().__call__(*args, **kwargs)
        except ValidationError as error:
            name, found, message = problem(error, cast("type[BaseModel]", cls))
            raise SettingsError(f"{cls.__name__}({name}={found!r}): {message}") from None


class Options(BaseModel, metaclass=AnswersInPython):
    """A group of options: every name is known, every value is checked, nothing changes afterwards.

    Write the meaning of an option as a text below its field; it becomes the description in the settings' schema and in
    ``ocrsdk plugins info``. A password or key is a ``pydantic.SecretStr``: it is never written to disk.

    Raises:
        SettingsError: A name is unknown or a value is wrong.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False)

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As pydantic's, with the text below each field as its description."""
        describe(cls)
        return super().model_json_schema(*args, **kwargs)


def build(model: type[Model], values: Mapping[str, object]) -> Model:
    """An instance of ``model``.

    Raises:
        pydantic.ValidationError: A name is unknown or a value is wrong; for callers that know where the values stand.
    """
    made: Model = type(BaseModel).__call__(model, **values)
    return made


def problem(error: ValidationError, model: type[BaseModel]) -> tuple[str, object, str]:
    """(dotted name, value, what is wrong with it and what is allowed) of the first mistake."""
    first = error.errors()[0]
    name = ".".join(str(part) for part in first["loc"] if not isinstance(part, int))
    if first["type"] == "extra_forbidden":
        known = _fields_beside(model, first["loc"])
        hint = nearest(str(first["loc"][-1]), known)
        return name, first["input"], f"there is no such parameter.{hint} There are: {', '.join(known)}"
    choices = re.findall(r"'([^']+)'", str(first.get("ctx", {}).get("expected", "")))
    hint = nearest(str(first["input"]), choices) if choices else ""
    message = first["msg"]
    return name, first["input"], f"{message[:1].lower()}{message[1:]}.{hint}"


def _fields_beside(model: type[BaseModel], place: tuple[int | str, ...]) -> list[str]:
    for part in [part for part in place[:-1] if isinstance(part, str)]:
        info = model.model_fields.get(part)
        inner: Any = info.annotation if info is not None else None
        inner = next((argument for argument in (inner, *get_args(inner)) if _is_model(argument)), None)  # or a list of such
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _is_model(annotation: object) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def secret_names(model: type[BaseModel] | None) -> list[str]:
    """Dotted names of the options that hold a secret."""
    found = []
    for name, info in model.model_fields.items() if model is not None else ():
        inner: Any = info.annotation
        if _is_model(inner):
            found += [f"{name}.{secret}" for secret in secret_names(inner)]
        elif _mentions_secret(info.annotation):
            found.append(name)
    return found


def _mentions_secret(annotation: object) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, SecretStr | SecretBytes | Secret):
        return True
    if isinstance(annotation, type) and issubclass(
        annotation, BaseModel
    ):  # in a list or a union: the option is withheld as a whole
        return bool(secret_names(annotation))
    return any(_mentions_secret(argument) for argument in get_args(annotation))


_described: set[type[BaseModel]] = set()


def describe(model: type[BaseModel]) -> None:
    """Give each field the text below it as its description.

    Pydantic's ``use_attribute_docstrings`` does so when a class is made, and parses its file then: a tenth of the time that a light
    command takes.
    """
    if model in _described:
        return
    _described.add(model)
    for info in model.model_fields.values():
        for inner in (info.annotation, *get_args(info.annotation)):
            if _is_model(inner):
                describe(inner)
    for name, words in _texts(model):
        if name in model.model_fields and model.model_fields[name].description is None:
            model.model_fields[name].description = words
    model.model_rebuild(force=True)


def _texts(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    try:
        source = ast.parse(textwrap.dedent(inspect.getsource(model)))
    except (OSError, TypeError, SyntaxError):  # a bundle without sources
        return
    for statement, text in pairwise(source.body[0].body):  # type: ignore[attr-defined]
        match statement, text:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                yield name, inspect.cleandoc(words)
