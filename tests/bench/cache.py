"""The cache's part of ``make bench``: beside the bare read of the same bytes, and beside stock diskcache."""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import diskcache
import numpy as np

from ocrsdk.cache.base import CacheLocation
from ocrsdk.cache.disk.backend import DiskCache
from ocrsdk.cache.encoding import decode_arrays, encode_arrays
from ocrsdk.cache.frame import pack, unpack
from ocrsdk.cache.keys import EntryKey
from ocrsdk.cache.stats import Counter
from ocrsdk.cache.store import SampleCache
from tests.bench.timing import medians


def opened(folder: Path, counted: bool = True, **options: object) -> SampleCache:
    location = CacheLocation(folder, "0" * 16, {}, 10**12)
    backend = DiskCache(location, DiskCache.Options(**options))
    backend.prepare()
    return SampleCache(backend, Counter(folder / "stats" if counted else None, "bench"))


def arrays() -> dict[str, np.ndarray]:
    """A 640 x 640 sample as uint8: image and three maps, 2.35 MiB."""
    rng = np.random.default_rng(0)
    maps = {name: rng.integers(0, 255, (640, 640)).astype(np.uint8) for name in ("prob", "thresh", "mask")}
    return {"image": rng.integers(0, 255, (640, 640, 3)).astype(np.uint8), **maps}


def entry(i: int) -> EntryKey:
    return EntryKey(f"image:{i}", {"kind": "image", "i": i})


def alone(side: str, folder: Path, entries: int = 20) -> float:
    """Median microseconds of a hit in this process, which does nothing else."""
    cache, stock = opened(folder / "c"), diskcache.Cache(str(folder / "stock"))
    keys = [entry(i) for i in range(entries)]

    def hit(i: int) -> object:
        return stock.get(str(i)) if side == "stock" else decode_arrays(cache.get(keys[i]).value)

    times = []
    for turn in range(30 * entries):
        start = time.perf_counter()
        assert hit(turn % entries)
        times.append(time.perf_counter() - start)
    return 1e6 * statistics.median(times[2 * entries :])


def hits(folder: Path, entries: int = 20) -> None:
    rng = np.random.default_rng(0)
    keys = [entry(i) for i in range(entries)]
    cache, uncounted = opened(folder / "c"), opened(folder / "u", counted=False)
    stock = diskcache.Cache(str(folder / "stock"))
    for i, key in enumerate(keys):
        sample = {name: rng.permuted(array) for name, array in arrays().items()}
        data = encode_arrays(sample)
        for each in (cache, uncounted):
            each.set(key, data)
        stock.set(str(i), sample)
        (folder / f"{i}.raw").write_bytes(pack(key.digest, data))
    buffer = [memoryview(bytearray((folder / "0.raw").stat().st_size))]

    def bare(i: int) -> None:
        fd = os.open(folder / f"{i}.raw", os.O_RDONLY)
        os.readv(fd, buffer)
        os.close(fd)

    def unchecked(i: int) -> None:
        decode_arrays(memoryview(uncounted.backend.get(keys[i].digest))[64:])

    def uncounted_hit(i: int) -> None:
        decode_arrays(unpack(keys[i].digest, uncounted.backend.get(keys[i].digest)))

    def uncounted_hit_object(i: int) -> None:
        decode_arrays(uncounted.get(keys[i]).value)

    def hit(i: int) -> None:
        decode_arrays(cache.get(keys[i]).value)

    print(f"\ncache, {entries} samples of 640 x 640 uint8, 2.35 MiB each, warm; each pair by turns")

    def turns(call: Callable[[int], object]) -> Callable[[], object]:
        number = itertools.cycle(range(entries))
        return lambda: call(next(number))

    def show(name: str, other: Callable[[int], object], ours: Callable[[int], object], goal: str, share: bool = False) -> None:
        theirs, mine = (median * 1000 for median in medians(turns(other), turns(ours)))
        figure = f"{1 - theirs / mine:.0%} of a hit" if share else f"{theirs / mine:.2f}"
        print(f"  {name} {theirs:.0f} us, hit {mine:.0f} us: {figure} (goal {goal})")

    show("bare readv", bare, hit, ">= 0.5")
    show("stock diskcache with pickle, memory warm,", lambda i: stock.get(str(i)), hit, "none")
    times: dict[str, list[float]] = {"stock": [], "ours": []}
    for _ in range(3):
        for side, own in times.items():
            command = [sys.executable, "-m", "tests.bench.cache", side, str(folder)]
            own.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    theirs, mine = (statistics.median(own) for own in times.values())
    print(f"  each in new processes, as in loaders: stock {theirs:.0f} us, hit {mine:.0f} us: {theirs / mine:.2f} (goal >= 2)")
    show("without checksum", unchecked, uncounted_hit, "<= 30 %", share=True)
    show("without counting", uncounted_hit_object, hit, "<= 3 %", share=True)

    number = iter(range(10**9))
    durable, fast = opened(folder / "d"), opened(folder / "f", durability="fast")

    def writer(target: SampleCache):
        def write() -> None:
            i = next(number)
            target.set(EntryKey(f"image:{i}", {"i": i}), data)

        return write

    slow, quick = medians(writer(durable), writer(fast), seconds=4)
    print(f"  durable set {slow:.2f} ms, non-durable {quick:.2f} ms: {slow / quick:.2f}x (goal <= 2x)")


def readers(folder: Path) -> None:
    """One and two processes that read for two seconds."""
    key = EntryKey("image:x", {"kind": "image"})
    cache = opened(folder / "r")
    cache.set(key, encode_arrays(arrays()))
    cache.close()

    def rate(count: int) -> float:
        pipes = []
        for _ in range(count):
            read, write = os.pipe()
            if os.fork() == 0:
                done, end = 0, time.perf_counter() + 2
                while time.perf_counter() < end:
                    decode_arrays(cache.get(key).value)
                    done += 1
                os.write(write, str(done).encode())
                os._exit(0)
            pipes.append(read)
        total = sum(int(os.read(pipe, 20)) for pipe in pipes)
        for _ in range(count):
            os.wait()
        return total / 2

    one, two = rate(1), rate(2)
    print(f"  1 reader {one:,.0f}/s, 2 readers {two:,.0f}/s: {two / one:.2f}x (goal >= 1.7x on two free cores)")


def growth(folder: Path, entries: int) -> None:
    """Small values, as training gets and sets them: at 1,000 entries and at ``entries``; and what a status costs."""
    cache = opened(folder / "g")
    number, rng = iter(range(10**9)), np.random.default_rng(0)
    value = encode_arrays({"image": np.zeros((5, 5, 3), np.uint8)})

    def key(i: int) -> EntryKey:
        made = EntryKey(f"image:{i}", {"i": i})
        assert made.digest  # made of the sample, not of the cache
        return made

    def fill(count: int) -> None:
        index = cache.backend.opened()
        with index.transact():
            for _ in range(count):
                k = key(next(number))
                index.set(k.digest, pack(k.digest, value))

    def costs(size: int) -> tuple[float, float]:
        chosen = [key(int(i)) for i in rng.integers(0, size, 3000)]
        gets, sets = [], []
        for k in chosen:  # warm, as in every epoch but the first
            cache.get(k)
        for k in chosen:
            start = time.perf_counter()
            found = decode_arrays(cache.get(k).value)  # key to arrays, as above
            gets.append(time.perf_counter() - start)
            assert found
        for _ in range(1000):
            k = key(next(number))
            start = time.perf_counter()
            cache.set(k, value)
            sets.append(time.perf_counter() - start)
        return statistics.median(gets) * 1e6, statistics.median(sets) * 1e6

    fill(1000)
    small = costs(1000)
    fill(entries - 3000)
    large = costs(entries - 3000)
    start = time.perf_counter()
    cache.backend.versions()
    took = time.perf_counter() - start
    print(
        f"  small values, 1,000 -> {entries:,} entries: get {small[0]:.0f} -> {large[0]:.0f} us ({large[0] / small[0] - 1:+.0%}), "
        f"set {small[1]:.0f} -> {large[1]:.0f} us ({large[1] / small[1] - 1:+.0%}; goal < +20 %), status {took:.2f} s (goal <= 2 s)"
    )


def validation_epoch(folder: Path, data: Path) -> None:
    from ocrsdk.data.dataset import EvalDataset
    from ocrsdk.data.folder import load_annotations
    from ocrsdk.data.source import SampleSource
    from ocrsdk.data.transforms import EvalTransform

    annotations, _ = load_annotations(data / "val", verify="header")
    plain = EvalDataset(annotations, EvalTransform())
    kept = EvalDataset(annotations, EvalTransform(), SampleSource(opened(folder / "v")))

    def epoch(dataset: EvalDataset):
        return lambda: [dataset[i].image.shape for i in range(len(dataset))]

    slow, fast = medians(epoch(plain), epoch(kept), seconds=6)
    pages = len(annotations)
    print(f"  validation epoch of {pages} pages: {slow:.0f} ms, with a warm cache {fast:.0f} ms: {slow / fast:.1f}x (goal >= 8x)")


def run(data: Path | None, entries: int = 1_000_000) -> None:
    with tempfile.TemporaryDirectory(prefix="ocrsdk-bench-") as name:
        folder = Path(name)
        hits(folder)
        readers(folder)
        growth(folder, entries)
        if data is not None and (data / "val").is_dir():
            validation_epoch(folder, data)


if __name__ == "__main__":
    print(alone(sys.argv[1], Path(sys.argv[2])))
