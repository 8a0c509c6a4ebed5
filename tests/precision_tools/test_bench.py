"""``ocrsdk bench precision``: real measuring processes, small."""

from __future__ import annotations

import json
import statistics

import psutil
import pytest

from ocrsdk.errors import OcrsdkError
from ocrsdk.precision_tools.bench import Cell, MeasuringProcess, cells
from tests.conftest import CLI


@pytest.mark.slow
def test_bench_of_precision(cli: CLI):
    args = ("--backbone", "mobilenet", "--size", "64", "--steps", "2", "--threads", "1")
    result = cli("bench", "precision", *args, "--no-cache", "--json")
    assert result.returncode == 0, result.stderr
    steps = json.loads(result.stdout)["steps"]
    assert [step["cell"]["strategy"] for step in steps] == ["fp32", "bf16", "fp16-safe"]
    for step in steps:
        assert step["first_loss"] == pytest.approx(steps[0]["first_loss"], rel=0.02)
        assert len(step["step_seconds"]) == 2
        assert step["images_per_second"] == pytest.approx(2 / statistics.mean(step["step_seconds"]))
        assert step["peak_memory_bytes"] > 0
        assert step["gemm_share"] > 0


def test_on_a_gpu_each_cell_is_alone_and_fp32_is_measured_with_tf32_too():
    groups = cells({"fp32": {}, "bf16": {}}, ("resnet50",), (640,), 8, "cuda")
    assert [[(cell.strategy, cell.options) for cell in group] for group in groups] == [
        [("fp32", {})], [("fp32", {"tf32": True})], [("bf16", {})]
    ]  # fmt: skip
    (together,) = cells({"fp32": {}, "bf16": {}}, ("resnet50",), (640,), 8, "cpu")
    assert [cell.options for cell in together] == [{}, {}]


@pytest.mark.slow
def test_a_measuring_process_that_is_killed_is_told():
    with MeasuringProcess.started(Cell("fp32", "mobilenet", 64, 2, "cpu")) as measuring:
        assert measuring.answer() > 0
        (child,) = (p for p in psutil.Process().children() if "ocrsdk.precision_tools.bench" in p.cmdline())
        child.kill()
        with pytest.raises(OcrsdkError, match="exit code -9; if memory ran out"):
            measuring.answer("step")
