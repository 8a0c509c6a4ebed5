"""What a check refuses, and what may happen to the pages under way."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from ocrsdk import Pipeline, Settings
from ocrsdk.errors import DataError, OcrsdkError


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"margin": math.inf}, "margin=inf: expected more than 0 and at most 10"),
        ({"margin": -1}, "margin=-1: expected more than 0"),
        ({"margin": math.nan}, "margin=nan: expected more than 0"),
        ({"seeds": 0}, "seeds=0: expected 1 or more"),
        ({"epochs": -3}, "epochs=-3: expected 1 or more"),
        ({"candidate": "auto"}, "auto stands for a choice of strategies"),
        ({"candidate": "fp32"}, "proves nothing against itself"),
        ({"candidate": "fp8"}, "no precision strategy named 'fp8'. Installed: auto, bf16, fp16-safe, fp32."),
        ({"candidate": "16-mixed"}, "What Lightning calls 16-mixed is called fp16-safe"),
    ],
)
def test_the_check_refuses_before_it_trains(synth_pages: Path, tmp_path: Path, options: dict[str, Any], said: str):
    pipeline = Pipeline(Settings(trainer={"accelerator": "cpu"}, precision={"certificates": tmp_path / "held"}))
    with pytest.raises(OcrsdkError, match=re.escape(said)):
        pipeline.check_precision(synth_pages, out=tmp_path / "out", **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_pages_that_change_under_way_end_the_check(synth_pages: Path, tmp_path: Path):
    pages = Path(shutil.copytree(synth_pages, tmp_path / "pages"))
    label = next((pages / "train/labels").iterdir())
    small = Settings(
        data={"crop": 64, "short_side": 96, "workers": 0},
        trainer={"accelerator": "cpu"},
        precision={"certificates": tmp_path / "held"},
    )

    def edit(*_: object) -> None:
        label.write_text(label.read_text() + "1,1,30,1,30,12,1,12,more\n")

    with pytest.raises(DataError, match="pages: changed while the check was under way"):
        Pipeline(small).precision.check(pages, "fp16-safe", seeds=1, epochs=1, out=tmp_path / "out", on_run=edit)


@pytest.mark.slow
def test_a_page_that_is_gone_at_the_end_costs_no_report(synth_pages: Path, tmp_path: Path):
    pages = Path(shutil.copytree(synth_pages, tmp_path / "pages"))
    small = Settings(
        data={"crop": 64, "short_side": 96, "workers": 0},
        trainer={"accelerator": "cpu"},
        precision={"certificates": tmp_path / "held"},
    )

    def remove(_: object, number: int, of: int) -> None:
        if number == of:
            shutil.rmtree(pages)

    report = Pipeline(small).precision.check(pages, "fp16-safe", seeds=1, epochs=1, out=tmp_path / "out", on_run=remove)
    assert report.ranges == []
    assert json.loads((tmp_path / "out/report.json").read_text())["outcome"] == "inconclusive"
