"""Which precision strategy a run is trained with, and whether it has proved itself there."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ocrsdk.plugins import manager as plugins
from ocrsdk.errors import PluginError, SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from ocrsdk.precision.certificates import Binding, Certificate
    from ocrsdk.precision.base import PrecisionStrategy
    from ocrsdk.runs.results import CheckedRun
    from ocrsdk.settings.schema import Settings


@dataclass(frozen=True)
class Precision:
    """The strategy that a run is trained with."""

    strategy: PrecisionStrategy
    certificate: Certificate | None
    """Proof of its accuracy for this model, data and device; a reference strategy needs none."""
    why: str
    """Why it was chosen, or why no certificate holds."""


def precision_strategy(name: str, options: dict[str, Any], device: str) -> PrecisionStrategy:
    """The strategy called ``name``, if it runs on ``device``.

    Raises:
        PluginError: There is none, or the device cannot run it.
        SettingsError: An option is wrong.
    """
    cls = plugins.precision_strategy(name)
    given = cls.check_options(options, "precision.options")
    with plugins.blamed("precision strategy", name):
        strategy = cls(given)
        strategy.check(device)
    return strategy


def trainer_kwargs(strategy: PrecisionStrategy, device: str) -> dict[str, Any]:
    """What the strategy gives to Lightning's trainer, checked against the contract.

    Raises:
        PluginError: It is something else.
    """
    with plugins.blamed("precision strategy", strategy.name):
        kwargs = strategy.trainer_kwargs(device)
        if not isinstance(kwargs, dict) or not kwargs.keys() <= {"precision", "plugins"}:
            raise TypeError(f"trainer_kwargs returned {kwargs!r}, expected a dict with precision or plugins alone")
    if kwargs.get("precision") in ("16-mixed", 16, "16") and device != "cuda":
        raise PluginError(
            f"the precision strategy {strategy.name!r} asks Lightning for 16-mixed, which on {device} would be bf16 without a loss "
            "scale. Use: --precision fp16-safe, which is fp16 here too, or --precision bf16"
        )
    return kwargs


def binding(checked: CheckedRun, strategy: PrecisionStrategy, device: str) -> Binding:
    """What a certificate for this run has to be bound to."""
    from importlib.metadata import version

    from ocrsdk.precision.certificates import Binding, data_fingerprint
    from ocrsdk.training.device import device_name

    settings = checked.settings
    package, _, release = plugins.installed().distribution("precision strategy", strategy.name).partition(" ")
    versions = {name: version(name) for name in ("ocrsdk", "torch", "pytorch-lightning")}
    return Binding(
        strategy=strategy.name,
        options=strategy.options.model_dump(mode="json") if strategy.options is not None else {},
        model=_model(settings),
        loss=settings.loss.model_dump(mode="json"),
        data=data_fingerprint(checked.train.annotations, checked.val.annotations),
        device=device_name(device),
        versions={**versions, package: release},
    )


def _model(settings: Settings) -> dict[str, str]:
    return {"name": settings.model.name, "backbone": settings.model.backbone}


def choose_precision(checked: CheckedRun, device: str) -> Precision:
    """The strategy to train with, and the certificate that it holds."""
    from ocrsdk.precision.certificates import find, read_all, why_void
    from ocrsdk.precision.base import Certified
    from ocrsdk.training.device import device_name

    given = checked.settings.precision
    strategy = precision_strategy(given.strategy, given.options, device)
    if strategy.reference and not strategy.delegates:
        return Precision(strategy, None, "")
    held = read_all(given.certificates.expanduser())
    why = ""
    if strategy.delegates:
        certified, here = [], (device_name(device), _model(checked.settings))
        for certificate in held:
            if not certificate.strong or (certificate.binding.device, certificate.binding.model) != here:
                continue
            try:
                candidate = precision_strategy(certificate.binding.strategy, certificate.binding.options, device)
            except (PluginError, SettingsError):  # not installed any more, or not for this device
                continue
            if certificate.binding == binding(checked, candidate, device):
                certified.append(Certified(candidate, certificate.speedup))
        strategy, why = strategy.choose(certified)
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
