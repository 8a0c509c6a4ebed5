"""What a run leaves behind in its process."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from ocrsdk import Pipeline
from tests.training.runs import settings


@pytest.mark.slow
def test_signals_are_given_back_and_evaluation_stays_on_the_device(tmp_path: Path, synth_pages: Path):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    pipeline = Pipeline(settings(tmp_path / "run", epochs=1))
    pipeline.fit(synth_pages)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    assert pipeline.evaluate(synth_pages).pages
