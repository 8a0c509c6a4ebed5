"""What a run ran on: kept in the run folder and handed to loggers."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ocrsdk.data.workers import available_cpus

PACKAGES = ("ocrsdk", "torch", "pytorch-lightning", "numpy", "opencv-python-headless", "wandb")


def describe() -> dict[str, object]:
    """Versions, machine, and git state of the working folder; JSON-ready."""
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": available_cpus(),
        "packages": {name: found for name in PACKAGES if (found := _version(name)) is not None},
        "git": git_state(Path()),
    }


def git_state(folder: Path) -> dict[str, object] | None:
    """Commit, branch, and whether tracked files were changed; None outside of a repository."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "branch": _git(folder, "rev-parse", "--abbrev-ref", "HEAD"), "changed": bool(changed)}


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
