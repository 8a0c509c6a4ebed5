"""``ocrsdk bench precision``: speed and memory of training steps, for each strategy, model and image size.

Every cell is measured in a process of its own, so that peak memory belongs to it alone; this module is that process's program.
On a CPU, whose speed moves from second to second, the processes that are compared make their steps by turns.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from subprocess import PIPE
from typing import IO, TYPE_CHECKING, Any, cast

from ocrsdk.errors import OcrsdkError, TrainingError
from ocrsdk.logs import configure
from ocrsdk.processes import python_module
from ocrsdk.settings.sources import child_environment

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping, Sequence

    from ocrsdk.precision.base import PrecisionStrategy
    from ocrsdk.settings.sections import Backbone


@dataclass(frozen=True)
class Cell:
    """One thing to measure."""

    strategy: str
    backbone: str
    size: int
    """Side of the square images in pixels."""
    batch: int
    device: str
    options: dict[str, Any] | None = None
    threads: int | None = None


@dataclass(frozen=True)
class Measured:
    """What a cell gave."""

    cell: Cell
    step_seconds: tuple[float, ...]
    """Of forward, loss, backward and update; no loading."""
    first_loss: float
    """Comparable between strategies: same weights, same batch."""
    peak_memory_bytes: int
    """Allocated on a GPU; else resident, less what the process had before the model was made."""
    flops: int
    """Floating-point operations of a step."""
    gemm_flops_per_second: float
    """Of a large matrix product in the same format."""
    device: str

    @property
    def images_per_second(self) -> float:
        """Of the median step."""
        return self.cell.batch / statistics.median(self.step_seconds)

    @property
    def gemm_share(self) -> float:
        """Operations a second of the median step over those of the matrix product: at most about 1."""
        return self.flops / statistics.median(self.step_seconds) / self.gemm_flops_per_second

    def ratio_to(self, other: Measured) -> float:
        """How many times as fast: the median over the steps that were made one after the other."""
        return statistics.median(theirs / own for theirs, own in zip(other.step_seconds, self.step_seconds, strict=True))

    def as_dict(self) -> dict[str, object]:
        """A JSON-ready form."""
        return {**asdict(self), "images_per_second": self.images_per_second, "gemm_share": self.gemm_share}


def cells(
    strategies: Mapping[str, dict[str, object]], backbones: Sequence[str], sizes: Sequence[int], batch: int, device: str,
    threads: int | None = None,
) -> list[list[Cell]]:  # fmt: skip
    """Every combination; the cells of one list are measured by turns.

    Args:
        strategies: Name to options.
        backbones: Names.
        sizes: Sides of the images in pixels.
        batch: Images in a step.
        device: ``cpu`` or ``cuda``. On a GPU, whose memory might not hold several, each cell is alone, and fp32 is measured with
            TF32, too.
        threads: CPU threads; all if None.
    """
    groups = []
    for backbone in backbones:
        for size in sizes:
            group = []
            for strategy, options in strategies.items():
                group.append(Cell(strategy, backbone, size, batch, device, options=options, threads=threads))
                if device == "cuda" and strategy == "fp32":
                    group.append(replace(group[-1], options={**options, "tf32": True}))
            groups += [[cell] for cell in group] if device == "cuda" else [group]
    return groups


def run(group: Sequence[Cell], steps: int) -> list[Measured]:
    """Measure each cell in a new process.

    Args:
        group: Cells that make their steps by turns.
        steps: Of each cell, after two that are not timed.

    Raises:
        OcrsdkError: A process ended; the message is the last line that it wrote.
    """
    with ExitStack() as stack:
        processes = [stack.enter_context(MeasuringProcess.started(cell)) for cell in group]
        losses = [process.answer() for process in processes]
        turns = [[process.answer("step") for process in processes] for _ in range(steps)]
        return [
            Measured(cell, times, loss, **process.answer("end"))
            for cell, process, loss, times in zip(group, processes, losses, zip(*turns, strict=True), strict=True)
        ]


class MeasuringProcess:
    """The other end of ``serve``."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[str]) -> None:
        self._process, self._errors = process, errors

    @classmethod
    @contextmanager
    def started(cls, cell: Cell) -> Iterator[MeasuringProcess]:
        """A new one, which ends with the context."""
        with (
            tempfile.TemporaryFile("w+", errors="replace") as errors,
            python_module(
                "ocrsdk.precision_tools.bench", [json.dumps(asdict(cell))], stdin=PIPE, stdout=PIPE, stderr=errors
            ) as process,
        ):
            yield cls(process, errors)

    def answer(self, command: str = "") -> Any:
        """What it says next, after ``command`` if there is one."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if command:
            with suppress(BrokenPipeError):  # why it ended is told below
                print(command, file=self._process.stdin, flush=True)
        if line := self._process.stdout.readline():
            return json.loads(line)
        code = self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().strip().splitlines()
        if code < 0 or not said:
            raise OcrsdkError(f"a measuring process ended with exit code {code}; if memory ran out: a smaller --batch or --size")
        raise OcrsdkError(said[-1].removeprefix("error: "))


def serve(cell: Cell) -> Iterator[object]:
    """What a cell's process says: the loss of its first step, the seconds of one for each ``step`` that it reads, then the rest.

    The update is plain SGD for all: number formats are compared, not what a strategy's own plug-in does in its update.
    """
    from ocrsdk.precision.device import tf32_allowed
    from ocrsdk.precision.make import make_strategy

    strategy = make_strategy(cell.strategy, cell.options or {}, cell.device)
    with tf32_allowed(strategy.tf32):
        yield from _answers(cell, strategy)


def _answers(cell: Cell, strategy: PrecisionStrategy) -> Iterator[object]:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from ocrsdk.models.dbnet import DBNet
    from ocrsdk.models.losses import DBLoss
    from ocrsdk.precision.device import device_name
    from ocrsdk.precision.make import trainer_kwargs
    from ocrsdk.training.memory import keep_freed_memory, peak_memory
    from ocrsdk.training.trainer import quiet_trainer
    from ocrsdk.types import TargetMaps

    if cell.device == "cpu":
        keep_freed_memory()
    if cell.threads:
        torch.set_num_threads(cell.threads)
    plugin = quiet_trainer(cell.device, trainer_kwargs(strategy, cell.device)).precision_plugin
    before = 0 if cell.device == "cuda" else peak_memory(cell.device)
    torch.manual_seed(0)
    model, loss = DBNet(cast("Backbone", cell.backbone)), DBLoss()
    strategy.prepare(model)
    model.train().to(cell.device).to_memory_format(cell.device)
    side = (cell.size, cell.size)
    image = torch.randint(0, 255, (cell.batch, 3, *side), dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    truth = (torch.rand(cell.batch, 1, *side) > 0.8).float()
    maps = TargetMaps(*(m.to(cell.device) for m in (truth, torch.ones_like(truth), torch.rand_like(truth) * 0.4 + 0.3, truth)))
    image = image.to(cell.device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    scaler = getattr(plugin, "scaler", None) or torch.amp.GradScaler(cell.device, enabled=False)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        with plugin.forward_context():
            output = model(image)
            total = loss(output.prob_logits, output.thresh_logits, maps).total
        scaler.scale(total).backward()
        scaler.step(optimizer)
        scaler.update()
        return float(total.detach())  # waits for a GPU

    first_loss = step()
    step()
    yield first_loss
    for command in sys.stdin:
        if command == "end\n":
            break
        yield _timed(step)
    peak = peak_memory(cell.device) - before
    with FlopCounterMode(display=False) as counter:
        step()
    dtype = _autocast_dtype(plugin, cell.device)
    n = 1024 if cell.device == "cpu" else 8192
    a, b = (torch.randn(n, n, device=cell.device, dtype=dtype) for _ in range(2))
    products, until = list[float](), time.perf_counter() + 1
    while len(products) < 5 or time.perf_counter() < until:
        products.append(_timed(lambda: float((a @ b)[0, 0])))
    gemm = min(products)
    flops, rate = counter.get_total_flops(), 2 * n**3 / gemm
    yield {"peak_memory_bytes": peak, "flops": flops, "gemm_flops_per_second": rate, "device": device_name(cell.device)}


def _timed(function: Any) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def _autocast_dtype(plugin: Any, device: str) -> Any:
    """The format in which products are computed inside of the plug-in's region."""
    import torch

    with plugin.forward_context():
        one = torch.ones(8, 8, device=device)
        return (one @ one).dtype


def cache_memory(data: Path | None, policies: Sequence[str] = ("off", "image", "sample", "maps")) -> Iterator[tuple[str, int]]:
    """(policy, peak resident bytes) of one training epoch with each cache policy, loading in the main process.

    Args:
        data: A data folder; generated pages if None.
        policies: Values of ``cache.policy``.
    """
    from ocrsdk.data.synth import write_pages

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        if data is None:
            data = root / "pages"
            for split, count, seed in (("train", 16, 0), ("val", 4, 1)):
                list(write_pages(data / split, count, seed))
        environment = child_environment()
        for policy in policies:
            command = [
                "train", str(data), "--epochs", "2", "--workers", "0", "--json",
                "--set", "trainer.accelerator=cpu",
                "--run-dir", str(root / policy), "--set", f"cache.policy={policy}", "--set", f"cache.dir={root / 'cache'}",
                "--set", f"trainer.val_loss={str(policy == 'maps').lower()}",
            ]  # fmt: skip
            with python_module("ocrsdk", command, environment, stdout=PIPE, stderr=PIPE) as child:
                answer, errors = child.communicate()
            if child.returncode:
                raise TrainingError(f"cache.policy={policy}: {(errors.strip().splitlines() or ['?'])[-1]}")
            yield policy, json.loads(answer)["peak_memory_bytes"]


if __name__ == "__main__":
    configure("warning")
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no answer
    try:
        for answer in serve(Cell(**json.loads(sys.argv[1]))):
            print(json.dumps(answer), file=answers, flush=True)
    except OcrsdkError as error:
        sys.exit(f"error: {error}")
