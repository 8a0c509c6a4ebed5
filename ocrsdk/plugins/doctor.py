"""What ``ocrsdk plugins info`` and ``doctor`` tell about plug-ins."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import TYPE_CHECKING, Any, Literal

from ocrsdk.errors import PluginError, nearest
from ocrsdk.plugins.manager import HOOKS, installed
from ocrsdk.version import api_version

if TYPE_CHECKING:
    from ocrsdk.plugins.base import Plugin
    from ocrsdk.plugins.manager import PluginRecord, Plugins

CV2 = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")
"""Distributions that all bring the one module ``cv2``; with two of them, uninstalling either breaks it."""
SLOW_MS = 1000

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Check:
    """One thing that the doctor looked at."""

    level: Level
    what: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        """JSON-ready."""
        return asdict(self)


@dataclass(frozen=True)
class PluginInfo:
    """One plug-in, or one package that failed to bring any."""

    name: str
    kind: str
    summary: str
    package: str
    state: str
    reason: str
    remedy: str
    load_ms: float
    changes: list[str]
    options: dict[str, Any] | None
    """JSON schema; None without options."""

    def as_dict(self) -> dict[str, object]:
        """JSON-ready."""
        return asdict(self)


def everything() -> Plugins:
    """The plug-ins of this environment, every hook called."""
    plugins = installed()
    for kind in HOOKS:
        plugins.classes(kind)
    return plugins


def info(name: str) -> list[PluginInfo]:
    """All plug-ins called ``name``: by what users type, by entry point or by package.

    Raises:
        PluginError: There is none.
    """
    plugins = everything()
    found = []
    for record in plugins.records:
        whole = name in (record.name, record.distribution)
        for kind, provided, summary in record.provides:
            if whole or provided == name:
                cls = plugins.classes(kind)[provided]
                found.append(_info(record, provided, kind, summary, option_schema(cls)))
        if whole and not record.provides:
            found.append(_info(record, record.name, "-", "", None))
    if not found:
        known = [n for r in plugins.records for n in (r.name, r.distribution, *(p[1] for p in r.provides))]
        raise PluginError(f"no plug-in named {name!r}.{nearest(name, known)} See: ocrsdk plugins list")
    return found


def _info(record: PluginRecord, name: str, kind: str, summary: str, options: dict[str, object] | None) -> PluginInfo:
    package = f"{record.distribution} {record.version}"
    remedy = remedy_of(record) if record.state == "failed" else ""
    return PluginInfo(
        name, kind, summary, package, record.state, record.reason, remedy, round(record.load_ms, 1), record.changes, options
    )


def option_schema(cls: type[Plugin]) -> dict[str, object] | None:
    """The JSON schema of a plug-in's options."""
    return cls.Options.model_json_schema() if cls.Options is not None else None


def remedy_of(record: PluginRecord) -> str:
    """What to type about a plug-in that failed."""
    off = f"leave it out: OCRSDK_DISABLED_PLUGINS={record.name}"
    if missing := re.search(r"No module named '([\w]+)", record.reason):
        return f"pip install {missing[1].replace('_', '-')}; or {off}"
    if "API version" in record.reason:
        return f"pip install --upgrade ocrsdk {record.distribution}; or {off}"
    if "is taken by" in record.reason:
        return f"uninstall one of the two; or {off}"
    return f"pip install --upgrade {record.distribution}; or {off}"


def doctor() -> list[Check]:
    """Look for what breaks installations."""
    checks = []
    cv2 = [name for name in CV2 if _version(name) is not None]
    if len(cv2) > 1:
        remedy = f"pip uninstall -y {' '.join(cv2)} && pip install --force-reinstall opencv-python-headless"
        checks.append(Check("error", f"{' and '.join(cv2)} are both installed and share the module cv2", remedy))
    elif not cv2:
        checks.append(Check("error", "no OpenCV is installed", "pip install opencv-python-headless"))
    else:
        checks.append(Check("ok", f"OpenCV: {cv2[0]} {_version(cv2[0])}"))
    records = everything().records
    for record in records:
        checks += _checks_of(record)
    for package in sorted({"ocrsdk", *(record.distribution for record in records)}):
        checks += [
            Check("error", f"{package} needs {needed}, found {found or 'nothing'}", f"pip install '{needed}'")
            for needed, found in conflicts(package)
        ]
    checks.append(
        Check("ok", f"API version {api_version}, {sum(r.state == 'ok' for r in records)} of {len(records)} plug-ins loaded")
    )
    return checks


def _checks_of(record: PluginRecord) -> list[Check]:
    package = f"{record.distribution} {record.version}"
    if record.state == "failed":
        return [Check("error", f"{package} ({record.name}): {record.reason}", remedy_of(record))]
    if record.state == "disabled":
        return [Check("warning", f"{package} ({record.name}) is disabled {record.reason}")]
    found = []
    off = f"OCRSDK_DISABLED_PLUGINS={record.name}"
    if record.changes:
        found.append(Check("warning", f"{package} replaces {', '.join(record.changes)} for everybody", off))
    if record.load_ms > SLOW_MS and record.distribution != "ocrsdk":  # ours include the import of PyTorch, if they come first
        found.append(Check("warning", f"{package} takes {record.load_ms / 1000:.1f} s to load", off))
    if not record.provides:
        found.append(Check("warning", f"{package} ({record.name}) provides nothing"))
    return found


def conflicts(package: str) -> list[tuple[str, str | None]]:
    """(requirement, installed version) of each requirement of ``package`` that is not met."""
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        wanted = [Requirement(text) for text in requires(package) or []]
    except PackageNotFoundError:
        return []
    except InvalidRequirement as error:
        return [(str(error).splitlines()[0], "metadata that cannot be read")]
    found = []
    for requirement in wanted:
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            have = _version(requirement.name)
            if have is None or not requirement.specifier.contains(have, prereleases=True):
                found.append((f"{requirement.name}{requirement.specifier}", have))
    return found


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
