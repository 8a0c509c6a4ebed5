"""Where the time of a training run goes, and one line that says what to do about it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import psutil
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.profilers import Profiler

from ocrsdk.data.dataset import TrainDataset
from ocrsdk.data.targets import draw_targets
from ocrsdk.loggers.run_logger import RunLogger
from ocrsdk.logs import get_logger
from ocrsdk.training.memory import peak_memory

if TYPE_CHECKING:
    from torch.utils.data import Dataset

    from ocrsdk.cache.store import SampleCache
    from ocrsdk.training.values import RunValues
    from ocrsdk.types import Batch, Sample

PHASES = ("data wait", "to device", "forward", "backward", "optimizer")
"""Parts of every training batch, by exclusive time."""

_ACTIONS = {
    "train_dataloader_next": "data wait", "batch_to_device": "to device", "transfer_batch_to_device": "to device",
    "training_step": "forward", "backward": "backward", "optimizer_step": "optimizer", "lr_scheduler_step": "optimizer",
    "optimizer_zero_grad": "optimizer",
}  # fmt: skip


class PhaseProfiler(Profiler):
    """Sorts the actions that Lightning reports into phases; time inside of an inner action counts for that one alone.

    Args:
        wait_for_gpu: Let queued kernels end with their phase; else a GPU's work shows up wherever something waits for it.
    """

    def __init__(self, wait_for_gpu: bool = False) -> None:
        super().__init__()
        self.wait_for_gpu = wait_for_gpu
        self.paused = False
        self.seconds = dict.fromkeys(PHASES, 0.0)
        """Of the batch under way."""
        self._open: list[tuple[str, str]] = []
        self._since = 0.0

    def start(self, action_name: str) -> None:
        """Called by Lightning."""
        phase = _ACTIONS.get(action_name.rpartition(".")[2])
        if phase is not None and not self.paused:
            self._account()
            self._open.append((action_name, phase))

    def stop(self, action_name: str) -> None:
        """Called by Lightning."""
        if self._open and self._open[-1][0] == action_name:
            if self.wait_for_gpu and self._open[-1][1] != "data wait":
                torch.cuda.synchronize()
            self._account()
            self._open.pop()

    def _account(self) -> None:
        now = time.perf_counter()
        if self._open:
            self.seconds[self._open[-1][1]] += now - self._since
        self._since = now

    def take(self) -> dict[str, float]:
        """Seconds of each phase since the last call."""
        taken, self.seconds = self.seconds, dict.fromkeys(PHASES, 0.0)
        return taken


@dataclass(frozen=True)
class PhaseTime:
    """One phase over the run."""

    share: float
    """Of the time from the first batch to the end, 0 to 1."""
    p50: float
    """Milliseconds a batch; 0 for what does not happen in batches."""
    p95: float
    p99: float


@dataclass(frozen=True)
class ProfileReport:
    """What a profiled run was busy with."""

    phases: dict[str, PhaseTime]
    images_per_second: float
    """Median over the batches, waiting for data included."""
    sample: dict[str, float]
    """Milliseconds to make one training sample in one process: read (or hit), view, maps."""
    memory_tree_bytes: int
    """Resident memory of the process and its loader workers, at its highest; shared pages count once for each process."""
    memory_device_bytes: int
    """Peak of the GPU; 0 on a CPU."""
    cache_hit_rate: float | None
    verdict: str

    def as_dict(self) -> dict[str, object]:
        """JSON-ready."""
        return asdict(self)


class Profile(Callback):
    """Times the phases of each batch, logs their shares per epoch, and draws a conclusion at the end.

    Args:
        profiler: The one that the trainer reports to.
        dataset: Training samples, of which a few are made again at the end, in this process.
        cache: The run's cache.
        workers: Loader processes.
        cpus: CPUs that this process may use.
        device: ``cpu``, ``cuda`` or ``mps``.
        values: Of the run.
    """

    def __init__(
        self,
        profiler: PhaseProfiler,
        dataset: Dataset[Sample],
        cache: SampleCache,
        workers: int,
        cpus: int,
        device: str,
        values: RunValues,
    ) -> None:
        self.profiler, self.dataset, self.cache = profiler, dataset, cache
        self.workers, self.cpus, self.device, self.values = workers, cpus, device, values
        self.report: ProfileReport | None = None
        self._batches: list[dict[str, float]] = []
        self._rates: list[float] = []
        self._validation = 0.0
        self._memory = 0
        self._started = self._batch_ended = self._validation_started = 0.0
        self._logging_before = 0.0
        self._ended: float | None = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started = time.perf_counter()
        self._logging_before = _logging_seconds(trainer)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The first batch of an epoch has no predecessor."""
        self._ended = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: object, batch: Batch, batch_idx: int
    ) -> None:
        """Close the batch."""
        now = time.perf_counter()
        self._batches.append(self.profiler.take())
        if self._ended is not None:
            self._rates.append(len(batch.image) / (now - self._ended))
        self._ended = now
        if len(self._batches) % 50 == 1:
            self._memory = max(self._memory, _tree_memory())

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A phase of its own."""
        self.profiler.paused = True
        self._validation_started = time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """End it; the time from here to the end of the next batch is no batch's."""
        self.profiler.paused = False
        self._ended = None
        self._validation += time.perf_counter() - self._validation_started
        self._memory = max(self._memory, _tree_memory())

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the shares so far."""
        for name, phase in self._phases(trainer).items():
            metric = f"profile/{name.replace(' ', '_')}"
            self.values.epoch[metric] = phase.share
            if phase.p50:
                self.values.epoch.update({f"{metric}_{p}_ms": getattr(phase, p) for p in ("p50", "p95", "p99")})

    def _phases(self, trainer: Trainer) -> dict[str, PhaseTime]:
        wall = max(time.perf_counter() - self._started, 1e-9)
        found = {}
        for name in PHASES:
            values = np.array([batch[name] for batch in self._batches] or [0.0])
            p50, p95, p99 = (1000 * float(v) for v in np.percentile(values, [50, 95, 99]))
            found[name] = PhaseTime(float(values.sum()) / wall, p50, p95, p99)
        found["validation"] = PhaseTime(self._validation / wall, 0.0, 0.0, 0.0)
        found["logging"] = PhaseTime((_logging_seconds(trainer) - self._logging_before) / wall, 0.0, 0.0, 0.0)
        return found

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sum up the run."""
        phases = self._phases(trainer)
        sample = sample_times(self.dataset)
        counts = self.cache.counts() if self.cache.enabled else None
        self.report = ProfileReport(
            phases=phases,
            images_per_second=float(np.median(self._rates)) if self._rates else 0.0,
            sample=sample,
            memory_tree_bytes=max(self._memory, _tree_memory()),
            memory_device_bytes=peak_memory(self.device) if self.device == "cuda" else 0,
            cache_hit_rate=counts.hit_rate if counts is not None else None,
            verdict=verdict({n: phase.share for n, phase in phases.items()}, sample, self.workers, self.cpus, self.cache.enabled),
        )
        get_logger(__name__).info("profile", verdict=self.report.verdict)


def sample_times(dataset: Dataset[Sample], count: int = 8) -> dict[str, float]:
    """Milliseconds to make one sample, medians over a few: read (or hit), view, maps; of another dataset than ours: view alone."""
    times = []
    if not isinstance(dataset, TrainDataset):
        start = time.perf_counter()
        number = min(count, len(dataset))  # type: ignore[arg-type]
        for index in range(number):
            dataset[index]
        return {"read": 0.0, "view": 1000 * (time.perf_counter() - start) / max(1, number), "maps": 0.0}
    for index in range(min(count, len(dataset))):
        annotation = dataset.annotations[index]
        start = time.perf_counter()
        dataset.source.page(annotation, dataset.transform.preparation)
        page = time.perf_counter()
        sample = dataset[index]
        whole = time.perf_counter()
        draw_targets(sample.polygons, sample.ignore, sample.image.shape[0], sample.image.shape[1], dataset.targets)
        maps = time.perf_counter() - whole
        times.append((page - start, max(0.0, (whole - page) - (page - start) - maps), maps))
    read, view, maps = (1000 * float(v) for v in np.median(np.array(times), axis=0))
    return {"read": read, "view": view, "maps": maps}


def verdict(shares: dict[str, float], sample: dict[str, float], workers: int, cpus: int, cached: bool) -> str:
    """One line: what the run waits for, and what to try."""
    data, validation, logging = shares["data wait"], shares["validation"], shares["logging"]
    if data >= max(0.25, validation):
        total = sum(sample.values()) or 1.0
        largest = max(sample, key=lambda part: sample[part])
        doing = {"read": "reading pages", "view": "cutting and colouring views", "maps": "drawing maps"}[largest]
        tries = []
        if workers < cpus:
            tries.append(f"--workers {min(cpus, workers + 1 if workers else 2)}")
        if largest == "read":
            tries.append("a faster disk, or smaller images" if cached else "--cache diskcache")
        if largest != "read":
            tries.append("a smaller data.crop")
        share = sample[largest] / total
        return f"loader-bound: {data:.0%} waiting; {share:.0%} of making a sample is {doing}; try {' or '.join(tries)}"
    if validation >= 0.4:
        return f"validation-bound: {validation:.0%} of the time; try fewer trainer.validations, or a smaller data.image_size"
    if logging >= 0.05:
        return f"logging takes {logging:.0%} of the time; try a larger logging.every_n_steps, or fewer loggers"
    busy = {name: shares[name] for name in ("forward", "backward", "optimizer")}
    listed = ", ".join(f"{name} {share:.0%}" for name, share in busy.items())
    return f"compute-bound: {listed}; only {data:.0%} waiting; try --precision auto, or a smaller backbone or data.crop"


def _logging_seconds(trainer: Trainer) -> float:
    return trainer.logger.seconds if isinstance(trainer.logger, RunLogger) else 0.0


def _tree_memory() -> int:
    process = psutil.Process()
    total = 0
    for member in (process, *process.children(recursive=True)):
        try:
            total += member.memory_info().rss
        except psutil.NoSuchProcess:  # a worker that has just ended
            continue
    return total
