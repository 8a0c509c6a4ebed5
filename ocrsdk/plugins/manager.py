"""Find, load and look up plug-ins; a broken one is remembered and shown, and never takes anything else down.

pluggy's own ``load_setuptools_entrypoints`` stops at the first broken plug-in, drops duplicate names in silence, and one
raising hook aborts the call for all. So entry points are loaded one by one, and each hook implementation is called alone.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import time
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from types import FunctionType
from typing import TYPE_CHECKING, Literal, ParamSpec, TypeVar, cast

import pluggy

from ocrsdk.errors import OcrsdkError, PluginError, nearest
from ocrsdk.plugins import hookspecs
from ocrsdk.version import api_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from ocrsdk.plugins.base import Plugin

Kind = Literal["cache backend", "precision strategy", "logger", "annotation format"]
State = Literal["ok", "failed", "disabled"]

HOOKS: dict[Kind, str] = {
    "cache backend": "ocrsdk_register_cache_backends",
    "precision strategy": "ocrsdk_register_precision_strategies",
    "logger": "ocrsdk_register_loggers",
    "annotation format": "ocrsdk_register_annotation_formats",
}
BASES: dict[Kind, str] = {
    "cache backend": "ocrsdk.cache.base:CacheBackend",
    "precision strategy": "ocrsdk.precision.base:PrecisionStrategy",
    "logger": "ocrsdk.loggers.base:LoggerFactory",
    "annotation format": "ocrsdk.formats.base:AnnotationFormat",
}
"""Base classes by name: what is loaded for one kind is not loaded for another."""
BUILTIN = "ocrsdk.plugins.builtin"

P = ParamSpec("P")
T = TypeVar("T")


@dataclass
class PluginRecord:
    """One entry point of the group ``ocrsdk``, and what became of it."""

    name: str
    distribution: str
    version: str
    state: State = "ok"
    reason: str = ""
    """Why it failed or is disabled."""
    load_ms: float = 0.0
    changes: list[str] = field(default_factory=list)
    """Parts of ocrsdk that its import replaced, as ``ocrsdk.models.losses.DBLoss.forward``; they act on everybody."""
    provides: list[tuple[Kind, str, str]] = field(default_factory=list)
    """(kind, name, summary) of each class that it registered."""

    def fail(self, reason: str) -> None:
        """Mark as failed; the first reason stands."""
        if self.state == "ok":
            self.state, self.reason = "failed", reason


class Plugins:
    """The plug-ins of one environment.

    Args:
        points: Entry points to load, in order.
        disabled: Entry-point or distribution names that are not imported. ``{"*"}`` leaves only the built-ins.
    """

    def __init__(self, points: Iterable[EntryPoint], disabled: frozenset[str] = frozenset()) -> None:
        self._manager = pluggy.PluginManager(hookspecs.GROUP)
        self._manager.add_hookspecs(hookspecs)
        self._classes: dict[Kind, dict[str, type[Plugin]]] = {}
        self.records: list[PluginRecord] = []
        self._registered: dict[str, PluginRecord] = {}
        for point in points:
            self._load(point, disabled)

    def _load(self, point: EntryPoint, disabled: frozenset[str]) -> None:
        distribution, release = _distribution(point)
        record = PluginRecord(point.name, distribution, release)
        is_builtin = point.value == BUILTIN
        twin = self._registered.get(point.name)
        self.records.append(record)
        if {point.name, distribution} & disabled or ("*" in disabled and not is_builtin):
            record.state, record.reason = "disabled", "by OCRSDK_DISABLED_PLUGINS or OCRSDK_PLUGINS=off"
            return
        if twin:
            record.fail(f"the entry-point name {point.name!r} is taken by {twin.distribution} {twin.version}")
            return
        start = time.perf_counter()
        before = _own_functions()
        try:
            with contextlib.redirect_stdout(sys.stderr):  # a print at import must not spoil --json
                module = point.load()
            needed = getattr(module, "ocrsdk_api_version", api_version)
            if needed != api_version:
                raise PluginError(f"needs API version {needed} of ocrsdk, this is {api_version}")
            self._manager.register(module, point.name)
            self._registered[point.name] = record
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - also SystemExit: a plug-in may call sys.exit at import
            record.fail(_reason(error))
        else:
            unknown = [
                impl.function.__name__
                for caller in self._manager.get_hookcallers(module) or []
                if not caller.has_spec()
                for impl in caller.get_hookimpls()
                if impl.plugin_name == point.name
            ]
            if unknown:
                self._manager.unregister(name=point.name)
                del self._registered[point.name]
                record.fail(f"implements unknown hook {unknown[0]}.{nearest(unknown[0], HOOKS.values())}")
        now = _own_functions()
        record.changes = sorted(name for name, function in before.items() if now.get(name) is not function)
        record.load_ms = (time.perf_counter() - start) * 1000

    def classes(self, kind: Kind) -> dict[str, type[Plugin]]:
        """Name -> class of everything registered for ``kind``; each hook is called once."""
        if kind not in self._classes:
            found: dict[str, type[Plugin]] = {}
            self._classes[kind] = found
            for impl in getattr(self._manager.hook, HOOKS[kind]).get_hookimpls():
                record = self._registered[impl.plugin_name]
                start = time.perf_counter()
                try:
                    with contextlib.redirect_stdout(sys.stderr):
                        classes = list(_checked(run_hook(impl), kind))
                except KeyboardInterrupt:
                    raise
                except BaseException as error:  # noqa: BLE001 - as above
                    record.fail(_reason(error))
                    continue
                finally:
                    record.load_ms += (time.perf_counter() - start) * 1000
                for cls in classes:
                    if cls.name in found:
                        record.fail(f"the {kind} name {cls.name!r} is taken by {found[cls.name].__module__}")
                    else:
                        found[cls.name] = cls
                        record.provides.append((kind, cls.name, cls.summary))
        return self._classes[kind]

    def look_up(self, kind: Kind, name: str) -> type[Plugin]:
        """The class registered for ``kind`` under ``name``.

        Raises:
            PluginError: There is none; the message lists what there is and what failed to load.
        """
        found = self.classes(kind)
        if name in found:
            return found[name]
        failed = [r for r in self.records if r.state == "failed"]
        broken = ""
        if failed:
            listed = "; ".join(f"{r.distribution} {r.version} ({r.reason})" for r in failed)
            broken = f" {len(failed)} plug-in{'s' * (len(failed) > 1)} failed to load: {listed}."
        installed = ", ".join(sorted(found)) or "none"
        raise PluginError(
            f"no {kind} named {name!r}. Installed: {installed}.{nearest(name, found)}{broken} See: ocrsdk plugins list"
        )

    def make(self, kind: Kind, name: str, options: Mapping[str, object], where: str, *arguments: object) -> Plugin:
        """An instance of the plug-in called ``name``.

        Args:
            kind: What it is.
            name: What users type.
            options: Its options, unchecked.
            where: The settings key that holds them, for errors.
            arguments: What its constructor takes before the options.

        Raises:
            PluginError: There is none, or it failed.
            SettingsError: An option is unknown or wrong.
        """
        cls = self.look_up(kind, name)
        make: Callable[..., Plugin] = cls
        return call(make, *arguments, cls.check_options(options, where))

    def distribution(self, kind: Kind, name: str) -> str:
        """``ocrsdk-lmdb 0.2``: the package that registered ``name``."""
        for record in self.records:
            if any(provided[:2] == (kind, name) for provided in record.provides):
                return f"{record.distribution} {record.version}"
        return "unknown"


def _distribution(point: EntryPoint) -> tuple[str, str]:
    """Name and version of the package; damaged metadata has neither."""
    try:
        return (point.dist.name or "unknown", point.dist.version or "") if point.dist else ("unknown", "")
    except Exception:  # noqa: BLE001 - whatever broken metadata raises
        return "unknown", ""


def run_hook(impl: pluggy.HookImpl, **arguments: object) -> object:
    """Call one hook implementation with those of ``arguments`` that it asks for: an older plug-in does not know newer ones."""
    return impl.function(*(arguments[name] for name in impl.argnames))


def _own_functions() -> dict[str, object]:
    """Name -> function of everything loaded of ocrsdk; a plug-in that replaces one changes it for everybody."""
    found: dict[str, object] = {}
    for name, module in list(sys.modules.items()):
        if not name.startswith("ocrsdk.") or module is None:
            continue
        for attribute, value in list(vars(module).items()):
            if isinstance(value, FunctionType) and value.__module__ == name:
                found[f"{name}.{attribute}"] = value
            elif isinstance(value, type) and value.__module__ == name:
                members = vars(value).items()
                found.update((f"{name}.{attribute}.{m}", f) for m, f in members if isinstance(f, FunctionType))
    return found


def call(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call a plug-in: its class, to make an instance, or a method of one. This is the one seam between ocrsdk and plug-ins.

    What it raises becomes an error that names it and its package; errors of ours pass.

    Raises:
        PluginError: The plug-in failed.
    """
    try:
        return function(*args, **kwargs)
    except (OcrsdkError, KeyboardInterrupt):
        raise
    except (Exception, SystemExit) as error:
        owner = getattr(function, "__self__", function)
        cls = cast("type[Plugin]", owner if isinstance(owner, type) else type(owner))
        kind = kind_of(cls)
        raise PluginError(
            f"the {kind} {cls.name!r} of {installed().distribution(kind, cls.name)} failed: {_reason(error)}. "
            "Report it to its authors; to do without it choose another"
        ) from error


def kind_of(cls: type[Plugin]) -> Kind:
    """The kind that a class is of."""
    return next(kind for kind in BASES if issubclass(cls, _base(kind)))


def _reason(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _checked(result: object, kind: Kind) -> Iterable[type[Plugin]]:
    if not isinstance(result, list | tuple):
        raise TypeError(f"{HOOKS[kind]} returned {type(result).__name__}, expected a list of classes")
    for cls in result:
        if not (isinstance(cls, type) and issubclass(cls, _base(kind))):
            raise TypeError(f"{HOOKS[kind]} returned {cls!r}, which is no subclass of {_base(kind).__name__}")
        for attribute in ("name", "summary"):
            if not isinstance(getattr(cls, attribute, None), str):
                raise TypeError(f"{cls.__name__} has no {attribute}")
        if cls.Options is not None:
            from pydantic import BaseModel

            if not (isinstance(cls.Options, type) and issubclass(cls.Options, BaseModel)):
                raise TypeError(f"{cls.__name__}.Options is no pydantic model")
            cls.Options.model_json_schema()  # it has to be shown
        yield cls


def _base(kind: Kind) -> type[Plugin]:
    module, _, name = BASES[kind].partition(":")
    return cast("type[Plugin]", getattr(importlib.import_module(module), name))


@cache
def installed() -> Plugins:
    """The plug-ins of this environment, loaded on the first call, the built-ins first."""
    off = "*" if os.environ.get("OCRSDK_PLUGINS", "on").lower() in ("off", "0", "false", "no") else ""
    names = [*os.environ.get("OCRSDK_DISABLED_PLUGINS", "").split(","), off]
    points = sorted(entry_points(group=hookspecs.GROUP), key=lambda p: p.value != BUILTIN)
    return Plugins(points, frozenset(name.strip() for name in names if name.strip()))
