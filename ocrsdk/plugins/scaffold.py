"""``ocrsdk plugins new``: a package that works before a line is changed."""

from __future__ import annotations

import re
import sys
from importlib.resources import files
from string import Template
from typing import TYPE_CHECKING

from ocrsdk.errors import PluginError, nearest
from ocrsdk.plugins.doctor import everything
from ocrsdk.plugins.manager import HOOKS, Kind
from ocrsdk.version import api_version

if TYPE_CHECKING:
    from pathlib import Path

SCAFFOLDS: dict[str, Kind] = {
    "cache-backend": "cache backend", "precision-strategy": "precision strategy", "logger": "logger",
    "annotation-format": "annotation format",
}  # fmt: skip
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def scaffold(name: str, kind: str, folder: Path) -> list[Path]:
    """Write a package that passes its conformance suite as it is.

    Args:
        name: What users will type: lower case, digits, dashes.
        kind: A key of ``SCAFFOLDS``.
        folder: Where ``ocrsdk-<name>/`` goes.

    Returns:
        The files.

    Raises:
        PluginError: A bad name or kind, or the folder exists.
    """
    if kind not in SCAFFOLDS:
        raise PluginError(f"no kind {kind!r}. There are: {', '.join(SCAFFOLDS)}.{nearest(kind, SCAFFOLDS)}")
    if not _NAME.fullmatch(name):
        raise PluginError(f"{name!r} is no name for a plug-in: use lower case, digits and dashes, as in my-{kind.split('-')[0]}")
    if name in everything().classes(SCAFFOLDS[kind]):
        raise PluginError(f"the {SCAFFOLDS[kind]} name {name!r} is taken; choose another")
    root = folder / f"ocrsdk-{name}"
    if root.exists():
        raise PluginError(f"{root}: exists already; choose another name, or remove it")
    words = {
        "name": name, "package": f"ocrsdk-{name}", "module": f"ocrsdk_{name.replace('-', '_')}",
        "cls": "".join(part.capitalize() for part in name.split("-")), "kind": kind, "kind_words": SCAFFOLDS[kind],
        "hook": HOOKS[SCAFFOLDS[kind]], "api": str(api_version), "python": f"{sys.version_info.major}.{sys.version_info.minor}",
    }  # fmt: skip
    templates = files("ocrsdk.plugins") / "templates"
    written = []
    for target, source in (
        ("pyproject.toml", "pyproject.toml.tmpl"),
        ("README.md", f"{kind}/README.md.tmpl"),
        (f"{words['module']}.py", f"{kind}/module.py.tmpl"),
        (f"tests/test_{words['module']}.py", f"{kind}/test.py.tmpl"),
    ):
        path = root / target
        path.parent.mkdir(parents=True, exist_ok=True)
        text = templates.joinpath(source).read_text(encoding="utf-8")
        path.write_text(Template(text).substitute(words), encoding="utf-8")
        written.append(path)
    return written
