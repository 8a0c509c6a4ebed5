"""The strategy of a run is what is certified for exactly this run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from structlog.testing import capture_logs

from ocrsdk import Settings
from ocrsdk.precision import certificates
from ocrsdk.precision.make import make_strategy
from ocrsdk.runs.check import check_run
from ocrsdk.runs.precision import binding, choose_precision
from tests.precision.strategies import certificate


def test_auto_trains_with_what_is_certified_for_exactly_this(tmp_path: Path, synth_pages: Path):
    settings = Settings(
        precision={"strategy": "auto", "certificates": tmp_path}, trainer={"accelerator": "cpu"}, data={"root": synth_pages}
    )
    checked = check_run(settings, None)
    assert choose_precision(checked, "cpu").strategy.name == "fp32"
    bound = binding(checked, make_strategy("bf16", {"force": True}), "cpu")
    certificates.save(tmp_path, certificate(bound))
    chosen = choose_precision(checked, "cpu")
    assert (chosen.strategy.name, chosen.strategy.options.force) == ("bf16", True)
    assert chosen.certificate == certificate(bound)
    assert "1.80 times" in chosen.why
    certificates.revoke(tmp_path, bound)
    certificates.save(tmp_path, certificate(bound, seeds=2))
    assert choose_precision(checked, "cpu").strategy.name == "fp32"
    certificates.save(tmp_path, certificate(bound, speedup=0.9))
    assert choose_precision(checked, "cpu").strategy.name == "fp32"
    certificates.save(tmp_path, certificate(bound))
    certificates.save(tmp_path, certificate(replace(bound, strategy="fp16-safe", options={}, device="cuda NVIDIA H200")))
    with capture_logs() as logs:
        assert choose_precision(checked, "cpu").strategy.name == "bf16"
    assert logs == []
    label = next((synth_pages / "train/labels").iterdir())
    before = label.read_text()
    try:
        label.write_text(before + "1,1,30,1,30,12,1,12,more\n")
        assert choose_precision(check_run(settings, None), "cpu").strategy.name == "fp32"
    finally:
        label.write_text(before)
