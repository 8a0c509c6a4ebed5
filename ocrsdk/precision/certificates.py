"""Certificates: proof that a precision strategy kept the accuracy, for one model, data set, device and set of libraries."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from ocrsdk.errors import OcrsdkError
from ocrsdk.fingerprint import differences, fingerprint
from ocrsdk.logs import get_logger
from ocrsdk.plugins.manager import installed
from ocrsdk.precision.equivalence import MOST_MARGIN, passes

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


@dataclass(frozen=True)
class Binding:
    """What a certificate holds for; any difference makes it void."""

    __pydantic_config__: ClassVar = _STRICT

    strategy: str
    options: dict[str, Any]
    """All of the strategy's options, JSON-ready."""
    subject: dict[str, Any]
    """What is trained on what, JSON-ready. For a detector: ``model`` (name and backbone), ``loss`` (weights and constants, which
    decide how large numbers become) and ``data`` (``data.folder.data_fingerprint``)."""
    device: str
    versions: dict[str, str]
    """Distribution -> version, of everything that computes."""


@dataclass(frozen=True)
class Certificate:
    """The outcome of a check that was passed.

    Raises:
        ValueError: The numbers are not those of a check that was passed.
    """

    __pydantic_config__: ClassVar = _STRICT

    binding: Binding
    baseline: str
    difference: float
    """Hmean of the candidate minus that of the baseline, in points (hundredths)."""
    low: float
    high: float
    """90 % confidence interval of ``difference``."""
    margin: float
    seeds: int
    epochs: int | None
    """Of each run, if it is known."""
    speedup: float
    """Images a second, candidate over baseline."""
    memory_ratio: float
    """Peak memory, candidate over baseline."""
    created: str
    """UTC, ISO 8601."""

    def __post_init__(self) -> None:
        datetime.fromisoformat(self.created)
        if not (0 < self.margin <= MOST_MARGIN and self.low <= self.difference <= self.high):
            raise ValueError(f"no interval and margin of a check: {self.low} to {self.high}, {self.margin}")
        if not passes(self.low, self.high, self.margin):
            raise ValueError(f"the check was not passed: {self.low} to {self.high} points, with a margin of {self.margin}")
        if self.seeds < 2 or (self.epochs is not None and self.epochs < 1) or self.speedup <= 0 or self.memory_ratio < 0:
            raise ValueError("seeds, epochs, speedup or memory_ratio are those of no check")

    @property
    def strong(self) -> bool:
        """Whether it is proof enough to choose the strategy unasked: at least three seeds, a margin of at most one point."""
        return self.seeds >= 3 and self.margin <= 1.0

    def summary(self) -> str:
        """One line for people."""
        return (
            f"{self.difference:+.2f} points against {self.baseline} (90 % interval {self.low:+.2f} to {self.high:+.2f}, "
            f"margin {self.margin:g}, {self.seeds} seeds{f' x {self.epochs} epochs' if self.epochs else ''}, {self.created[:10]})"
        )


def versions_of(strategy: str) -> dict[str, str]:
    """Distribution -> version, of everything that computes under ``strategy``."""
    package, _, release = installed().distribution("precision strategy", strategy).partition(" ")
    return {**{name: version(name) for name in ("ocrsdk", "torch", "pytorch-lightning")}, package: release}


def save(folder: Path, certificate: Certificate) -> Path:
    """Write the certificate; an older one for the same binding is replaced, unless it is strong and this one is not.

    Raises:
        OcrsdkError: The folder cannot be written.
    """
    path = _path(folder, certificate.binding)
    if not certificate.strong and path.exists() and any(c.strong and c.binding == certificate.binding for c in read_all(folder)):
        get_logger(__name__).info("an earlier certificate, of a stronger check, stays", file=str(path))
        return path
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(asdict(certificate), indent=2) + "\n", encoding="utf-8")
        partial.replace(path)
    except OSError as error:
        raise OcrsdkError(f"{path}: cannot be written ({error.strerror}); set precision.certificates to another folder") from error
    return path


def check_folder(folder: Path) -> None:
    """Refuse, before hours of training, a folder in which no certificate could be kept.

    Raises:
        OcrsdkError: It cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        reason = "" if os.access(folder, os.W_OK) else "Permission denied"
    except OSError as error:
        reason = str(error.strerror)
    if reason:
        raise OcrsdkError(f"{folder}: cannot be written ({reason}); set precision.certificates to another folder")


def revoke(folder: Path, binding: Binding) -> None:
    """Take away the certificate for ``binding``, if there is one."""
    path = _path(folder, binding)
    if path.exists():
        path.unlink()
        get_logger(__name__).warning("an earlier certificate is revoked", file=str(path))


def _path(folder: Path, binding: Binding) -> Path:
    return folder / f"{binding.strategy}-{fingerprint(asdict(binding))}.json"


def read_all(folder: Path) -> list[Certificate]:
    """Every certificate in ``folder``, the newest first; any other file is named in a warning."""
    found = []
    for path in sorted(folder.glob("*.json")) if folder.is_dir() else ():
        try:
            found.append(TypeAdapter(Certificate).validate_json(path.read_bytes()))
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            reason = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
            get_logger(__name__).warning("not a certificate", file=str(path), reason=reason, remedy="run the check again")
        except OSError as error:
            get_logger(__name__).warning("not a certificate", file=str(path), reason=str(error), remedy="check its permissions")
    return sorted(found, key=lambda certificate: certificate.created, reverse=True)


def find(certificates: Iterable[Certificate], binding: Binding) -> Certificate | None:
    """The certificate that holds for exactly ``binding``."""
    return next((certificate for certificate in certificates if certificate.binding == binding), None)


def why_void(certificates: Iterable[Certificate], binding: Binding) -> str:
    """In what the closest certificate of the same strategy differs; empty if there is none of this strategy."""
    same = [certificate for certificate in certificates if certificate.binding.strategy == binding.strategy]
    changed = [differences(asdict(certificate.binding), asdict(binding)) for certificate in same]
    return "; ".join(sorted(changed, key=len)[0]) if changed else ""
