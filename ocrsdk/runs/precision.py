"""Which precision strategy a run is trained with, and whether it has proved itself there."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ocrsdk.errors import PluginError, SettingsError
from ocrsdk.plugins.manager import call
from ocrsdk.precision.make import make_strategy

if TYPE_CHECKING:
    from pathlib import Path

    from ocrsdk.precision.base import PrecisionStrategy
    from ocrsdk.precision.certificates import Binding, Certificate
    from ocrsdk.runs.check import CheckedRun
    from ocrsdk.settings.schema import Settings


@dataclass(frozen=True)
class Precision:
    """The strategy that a run is trained with."""

    strategy: PrecisionStrategy
    certificate: Certificate | None
    """Proof of its accuracy for this model, data and device; a reference strategy needs none."""
    why: str
    """Why it was chosen, or why no certificate holds."""


def binding(checked: CheckedRun, strategy: PrecisionStrategy, device: str) -> Binding:
    """What a certificate for this run has to be bound to."""
    from ocrsdk.precision.certificates import Binding, versions_of
    from ocrsdk.precision.device import device_name
    from ocrsdk.runs.build import fingerprint_of

    settings = checked.settings
    return Binding(
        strategy=strategy.name,
        options=strategy.options.model_dump(mode="json") if strategy.options is not None else {},
        subject={
            "model": _model(settings), "loss": settings.loss.model_dump(mode="json"), "data": fingerprint_of(checked.data),
        },
        device=device_name(device),
        versions=versions_of(strategy.name),
    )  # fmt: skip


def _model(settings: Settings) -> dict[str, str]:
    return {"name": settings.model.name, "backbone": settings.model.backbone}


def choose_precision(checked: CheckedRun, device: str) -> Precision:
    """The strategy to train with, and the certificate that it holds."""
    from ocrsdk.precision.base import Certified
    from ocrsdk.precision.certificates import find, read_all, why_void
    from ocrsdk.precision.device import device_name

    given = checked.settings.precision
    strategy = checked.strategy
    call(strategy.check, device)
    if strategy.reference and not strategy.delegates:
        return Precision(strategy, None, "")
    held = read_all(given.certificates)
    why = ""
    if strategy.delegates:
        certified, here = [], (device_name(device), _model(checked.settings))
        for certificate in held:
            if not certificate.strong or (certificate.binding.device, certificate.binding.subject.get("model")) != here:
                continue
            try:
                candidate = make_strategy(certificate.binding.strategy, certificate.binding.options, device)
            except (PluginError, SettingsError):  # not installed any more, or not for this device
                continue
            if certificate.binding == binding(checked, candidate, device):
                certified.append(Certified(candidate, certificate.speedup))
        strategy, why = call(strategy.choose, certified)
        if strategy.reference:
            return Precision(strategy, None, why)
    wanted = binding(checked, strategy, device)
    proof = find(held, wanted)
    return Precision(strategy, proof, why or ("" if proof else why_void(held, wanted)))


def tell_precision(precision: Precision, config: Path | None) -> None:
    """Say once whether the number format has proved itself here.

    Args:
        precision: As it was chosen.
        config: The settings file of the run, for the command that would prove it.
    """
    from ocrsdk.logs import get_logger

    log, name = get_logger(__name__), precision.strategy.name
    if precision.strategy.reference:
        if precision.why:
            log.info("precision chosen", strategy=name, reason=precision.why)
    elif precision.certificate is not None:
        log.info(
            f"{name} is validated for this model, data and device", check=precision.certificate.summary(), reason=precision.why
        )
    else:
        details = {"closest_certificate_differs_in": precision.why} if precision.why else {}
        log.warning(
            f"{name} is not validated for this model on this device",
            remedy=f"ocrsdk precision check --config {shlex.quote(str(config or 'FILE'))} --candidate {name}",
            **details,
        )
