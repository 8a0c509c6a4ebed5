"""How benchmarks take time."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any


def medians(*functions: Callable[[], object], seconds: float = 3.0) -> list[float]:
    """Median milliseconds of each function; they run by turns, after two runs to warm up."""
    for function in functions:
        function(), function()
    times: list[list[float]] = [[] for _ in functions]
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times[0]) < 5:
        for own, function in zip(times, functions, strict=True):
            start = time.perf_counter()
            function()
            own.append((time.perf_counter() - start) * 1000)
    return [statistics.median(own) for own in times]


def page_medians(pages: Sequence[Any], *sides: Callable[[Any], object]) -> list[float]:
    """Median milliseconds a page of each side: a turn is a pass over all pages, as in an epoch."""

    def over_all(side: Callable[[Any], object]) -> Callable[[], None]:
        def turn() -> None:
            for page in pages:
                side(page)

        return turn

    return [took / len(pages) for took in medians(*map(over_all, sides))]


def per_call(call: Callable[[int], object], count: int, rounds: int = 5) -> float:
    """Median microseconds a call, over rounds."""
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        for i in range(count):
            call(i)
        found.append((time.perf_counter() - start) / count * 1e6)
    return statistics.median(found)


def machine() -> str:
    """What figures were taken on."""
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}"
