"""Certificates: whole, passed, and held for exactly one model, data set, device and set of libraries."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from ocrsdk.errors import OcrsdkError
from ocrsdk.precision import certificates
from ocrsdk.precision.certificates import Binding
from tests.precision.strategies import certificate

SUBJECT = {"model": {"name": "dbnet"}, "loss": {"k": 50.0}, "data": "abc"}

BOUND = Binding("bf16", {"force": True}, SUBJECT, "cpu AVX2", {"torch": "2.13.0"})


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("options", {"force": False}, "options.force: true -> false"),
        ("subject", {**SUBJECT, "model": {"name": "dbnet++"}}, 'subject.model.name: "dbnet" -> "dbnet++"'),
        ("subject", {**SUBJECT, "loss": {"k": 49.0}}, "subject.loss.k: 50.0 -> 49.0"),
        ("subject", {**SUBJECT, "data": "xyz"}, 'subject.data: "abc" -> "xyz"'),
        ("device", "cuda NVIDIA", 'device: "cpu AVX2" -> "cuda NVIDIA"'),
        ("versions", {"torch": "2.14.1"}, 'versions.torch: "2.13.0" -> "2.14.1"'),
    ],
)
def test_any_difference_voids_a_certificate_and_is_named(tmp_path: Path, name: str, value: object, told: str):
    certificates.save(tmp_path, certificate(BOUND))
    held = certificates.read_all(tmp_path)
    assert certificates.find(held, BOUND) == certificate(BOUND)
    other = replace(BOUND, **{name: value})
    assert certificates.find(held, other) is None
    assert certificates.why_void(held, other) == told
    certificates.save(tmp_path, certificate(BOUND, difference=0.1))
    assert [c.difference for c in certificates.read_all(tmp_path)] == [0.1]


def test_a_weaker_check_replaces_no_stronger_one(tmp_path: Path):
    certificates.save(tmp_path, certificate(BOUND))
    certificates.save(tmp_path, certificate(BOUND, seeds=2))
    certificates.save(tmp_path, certificate(BOUND, margin=10.0))
    assert certificates.read_all(tmp_path) == [certificate(BOUND)]
    certificates.save(tmp_path, weaker := certificate(replace(BOUND, subject={**SUBJECT, "data": "other"}), seeds=2))
    certificates.save(tmp_path, certificate(BOUND, seeds=5))
    assert {(c.seeds, c.binding.subject["data"]) for c in certificates.read_all(tmp_path)} == {(5, "abc"), (2, "other")}
    assert not weaker.strong


def test_a_failed_check_takes_an_earlier_certificate_away(tmp_path: Path):
    certificates.save(tmp_path, certificate(BOUND))
    certificates.revoke(tmp_path, replace(BOUND, subject={**SUBJECT, "data": "other"}))
    assert certificates.read_all(tmp_path)
    certificates.revoke(tmp_path, BOUND)
    assert certificates.read_all(tmp_path) == []


def test_damaged_certificates_are_named_and_prove_nothing(tmp_path: Path):
    path = certificates.save(tmp_path, certificate(BOUND))
    path.write_text(path.read_text()[:-40])
    (tmp_path / "other.json").write_text('{"a": 1}')
    with capture_logs() as logs:
        assert certificates.read_all(tmp_path) == []
    assert [entry["file"] for entry in logs] == [str(path), str(tmp_path / "other.json")]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"difference": "abc"}, "difference: Input should be a valid number"),
        ({"margin": None}, "margin: Input should be a valid number"),
        ({"seeds": "3"}, "seeds: Input should be a valid integer"),
        ({"created": 5}, "created: Input should be a valid string"),
        ({"created": "yesterday"}, "Invalid isoformat string"),
        ({"binding": {"subject": "abc"}}, "binding.subject: Input should be an object"),
        ({"binding": {"options": [1]}}, "binding.options: Input should be an object"),
        ({"binding": {"strategy": ["bf16"]}}, "binding.strategy: Input should be a valid string"),
        ({"more": 1}, "more: "),
        ({"difference": -11.8, "low": -50.0, "high": 0.0}, "the check was not passed: -50.0 to 0.0 points"),
        ({"difference": 5.0}, "no interval and margin of a check"),
        ({"margin": 60.0}, "no interval and margin of a check"),
        ({"speedup": math.inf}, "speedup: Input should be a finite number"),
        ({"seeds": 1}, "are those of no check"),
    ],
)
def test_a_certificate_is_whole_and_passed_or_it_is_none(tmp_path: Path, changes: dict[str, object], told: str):
    path = certificates.save(tmp_path, certificate(BOUND))
    content = json.loads(path.read_text())
    bound = {**content["binding"], **changes.pop("binding", {})}  # type: ignore[dict-item]
    path.write_text(json.dumps({**content, **changes, "binding": bound}))
    with capture_logs() as logs:
        assert certificates.read_all(tmp_path) == []
    (entry,) = logs
    assert told in entry["reason"]


def test_a_folder_that_can_hold_no_certificate_is_refused_before_training(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(OcrsdkError, match=r"file: cannot be written \(File exists\); set precision.certificates"):
        certificates.check_folder(tmp_path / "file")
