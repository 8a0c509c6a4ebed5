"""What logging, guards and plug-in packages cost."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from ocrsdk.cache.base import CacheLocation
from ocrsdk.loggers.base import RunInfo
from ocrsdk.loggers.factories import JsonlLoggerFactory, WandbLoggerFactory
from ocrsdk.loggers.run_logger import RunLogger
from ocrsdk.precision.base import PrecisionStrategy
from ocrsdk.precision.fp16_safe import FP16Safe
from ocrsdk.precision.fp32 import FP32
from ocrsdk.testing.cache import key, value
from ocrsdk.testing.precision import batches, loader, small_module, small_trainer
from tests.bench.timing import medians, per_call

ROW = {"train/loss": 3.123456789, "train/bce": 0.5, "train/l1": 0.1, "train/dice": 0.9, "train/grad_norm": 7.5, "train/lr": 0.004}


def logging() -> None:
    """Microseconds a row."""
    print("\nlogging, microseconds a row of 6 metrics and 5 columns")
    with tempfile.TemporaryDirectory() as folder:
        axes = {"samples": 8, "wall_time": 1.5}
        record = JsonlLoggerFactory().build(RunInfo(Path(folder), "r"))
        alone = per_call(lambda i: record.log_metrics({**ROW, **axes, "epoch": 1, "row": i}, i), 3000)
        writer = RunLogger("r", {"jsonl": record}, columns=lambda: axes)
        whole = per_call(lambda i: writer.log_metrics({**ROW, "epoch": 1}, i), 3000)
        sink = WandbLoggerFactory(WandbLoggerFactory.Options(mode="offline")).build(RunInfo(Path(folder), "r"))
        both = RunLogger("r", {"jsonl": record, "wandb": sink}, columns=lambda: axes)
        with_wandb = per_call(lambda i: both.log_metrics({**ROW, "epoch": 1}, i), 300)
        both.finalize("success")
    print(f"jsonl alone {alone:.0f} (goal <= 30), writer + jsonl {whole:.0f}, + wandb offline {with_wandb:.0f}")
    print(f"logging every step: {with_wandb / 1e5:.2%} of a step of 100 ms (goal <= 1 %)")


def guards() -> None:
    """Share of a training step."""
    print("\nnumeric guard: a step of mobilenet, 8 x 320 x 320, and what the guard adds where every step is logged")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for strategy in (FP32(), FP16Safe(FP16Safe.Options())) if device == "cuda" else (FP32(),):
        added, step = guard_share(strategy, device)
        print(f"{strategy.name} on {device}: {added:.0f} us of {step / 1000:.0f} ms, {added / step:.2%} (goal <= 1 %)")


def guard_share(strategy: PrecisionStrategy, device: str, side: int = 320, size: int = 8) -> tuple[float, float]:
    """Microseconds that the guard adds to a training step, and those of the step."""
    (batch,) = items = batches(1, side=side, size=size)
    module = small_module(strategy)
    trainer = small_trainer(strategy, module, device=device, epochs=1)
    trainer.fit(module, loader(items))
    watching = trainer.callbacks[:2]  # type: ignore[attr-defined]
    module.to(device)
    finish = torch.cuda.synchronize if device == "cuda" else lambda: None

    def step(_: int) -> None:
        here = batch.to(device)
        with trainer.precision_plugin.forward_context():
            output = module.model(here.image)
            total = module.loss(output.prob_logits, output.thresh_logits, here.targets).total
        total.backward()
        finish()

    def watch(_: int) -> None:
        for callback in watching:
            callback.on_train_batch_start(trainer, module, batch, 0)
            callback.on_before_optimizer_step(trainer, module, trainer.optimizers[0])
            callback.on_train_batch_end(trainer, module, None, batch, 0)
        finish()

    took = per_call(step, 3, 5)
    return per_call(watch, 50, 5), took


def plugin_packages() -> None:
    """LMDB and Valkey beside the bytes themselves; ``--help`` beside broken plug-ins."""
    sys.path += [str(path) for path in Path("plugins").iterdir()]
    from ocrsdk_lmdb import LmdbCache  # type: ignore[import-not-found]
    from ocrsdk_valkey import ValkeyCache  # type: ignore[import-not-found]

    size, files = 2_400_000, 20
    print(f"\nhits of {size / 1e6:.1f} MB by turns, {files} different values (every page is touched)")
    touch = memoryview(bytearray(size))
    with tempfile.TemporaryDirectory() as folder:
        cache = LmdbCache(CacheLocation(Path(folder), "0" * 16, {}, 10**9))
        cache.prepare()
        descriptors = []
        for i in range(files):
            cache.set(key(i), value(i, size))
            (Path(folder) / f"{i}.raw").write_bytes(value(i, size))
            descriptors.append(os.open(Path(folder) / f"{i}.raw", os.O_RDONLY))
        raw_turn, hit_turn, view_turn = (itertools.cycle(range(files)) for _ in range(3))

        def raw() -> None:
            os.preadv(descriptors[next(raw_turn)], [touch], 0)

        def hit() -> None:
            touch[:] = cache.get(key(next(hit_turn)))  # a copy, as a batch is made of it

        limit, took, view = (1000 * ms for ms in medians(raw, hit, lambda: cache.get(key(next(view_turn)))))
        print(
            f"raw read into a buffer {limit:.0f} us, lmdb into a buffer {took:.0f} us: {took / limit:.2f} (goal <= 1.5); "
            f"view {view:.0f} us"
        )
        cache.close()
    server, client = shutil.which("valkey-server") or shutil.which("redis-server"), shutil.which("redis-benchmark")
    client = shutil.which("valkey-benchmark") or client
    if server and client:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        process = subprocess.Popen([server, "--port", port, "--save", ""], stdout=subprocess.DEVNULL)
        time.sleep(1)
        command = [client, "-p", port, "-t", "set,get", "-n", "400", "-c", "1", "-d", str(size), "--csv"]
        out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        rate = float(next(line for line in out.splitlines() if line.startswith('"GET"')).split(",")[1].strip('"'))
        remote = ValkeyCache(CacheLocation(Path(), "0" * 16, {}, 10**9), ValkeyCache.Options(url=f"valkey://127.0.0.1:{port}/0"))
        remote.prepare()
        for i in range(20):
            remote.set(key(i), value(i, size))
        ours = 1e6 / per_call(lambda i: remote.get(key(i % 20)), 60)
        process.kill()
        print(f"valkey over loopback: {ours:.0f} hits/s, {client.rpartition('/')[2]} {rate:.0f}: {ours / rate:.0%} (goal >= 60 %)")
    from tests.packages import install

    with tempfile.TemporaryDirectory() as folder:
        for i in range(20):
            install(Path(folder), f"n{i}", "import time; time.sleep(60)" if i % 2 else "import no_such_module")
        environment = {**os.environ, "PYTHONPATH": folder}
        shown = [[sys.executable, "-m", "ocrsdk", "--help"], [sys.executable, "-c", "import typer"]]
        times: list[list[float]] = [[], []]
        for _ in range(9):
            for own, command in zip(times, shown, strict=True):
                before = os.times()
                subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
                after = os.times()
                own.append(1000 * (after.children_user + after.children_system - before.children_user - before.children_system))
    ours, floor = (statistics.median(own) for own in times)
    print(f"ocrsdk --help with 20 broken or slow plug-ins: {ours:.0f} ms CPU (goal <= 100); import typer alone: {floor:.0f} ms")
