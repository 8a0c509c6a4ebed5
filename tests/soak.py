"""``make soak``: commands ended at random, and images damaged at random. Not part of the tests: half an hour.

A round starts a command in a session of its own, waits for a random time, and ends it: SIGTERM, SIGHUP, SIGINT, SIGKILL, or SIGSTOP
and then SIGKILL. Nothing that it started may be left after ten seconds, and it must end within thirty.
"""

from __future__ import annotations

import argparse
import collections
import io
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from ocrsdk.data.image import decode_image
from ocrsdk.data.synth import write_pages
from ocrsdk.errors import ImageError
from tests.commands import untrained
from tests.test_processes import gone
from tests.training.runs import SMALL

COMMANDS: dict[str, list[str]] = {
    "train": ["train", "pages", "--epochs", "100000", "--workers", "2", *SMALL],
    "check": ["precision", "check", "pages", "--candidate", "fp16-safe", "--epochs", "1000", "--set", "data.workers=2"],
    "bench": ["bench", "precision", "--size", "64", "--steps", "100000"],
    "warm": ["cache", "warm", "many", "--set", "data.workers=2"],
    "predict": ["predict", "good.ckpt", "many/train/images", "--set", "data.short_side=96"],
}
ENDINGS = ("TERM", "HUP", "INT", "KILL", "STOP")
KINDS: dict[str, dict[str, Any]] = {
    "PNG": {}, "JPEG": {}, "BMP": {}, "WEBP": {}, "TIFF": {"compression": "tiff_lzw"},
}  # fmt: skip


def one_kill(number: int, folder: Path) -> tuple[str, str]:
    """(what was ended, what went wrong, empty if nothing did)."""
    rng = random.Random(number)
    name, ending = rng.choice(list(COMMANDS)), rng.choice(ENDINGS)
    mark, home = uuid.uuid4().hex, folder / f"home-{number}"
    environment = {**os.environ, "MARK": mark, "XDG_CACHE_HOME": str(home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "ocrsdk", *COMMANDS[name]]
    if name == "train":
        command += ["--run-dir", str(home / "run")]
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    time.sleep(rng.uniform(0, 12))
    start = time.monotonic()
    process.send_signal(getattr(signal, f"SIG{ending}"))
    if ending == "STOP":
        time.sleep(rng.uniform(0, 1))
        process.kill()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return f"{name} {ending}", f"round {number}: did not end within 30 s"
    left = gone(mark, 10)
    for orphan in left:
        orphan.kill()
    took = time.monotonic() - start
    return f"{name} {ending}", f"round {number}: left {[o.pid for o in left]} after {took:.0f} s" if left else ""


def kills(count: int) -> int:
    """How many rounds went wrong."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for root, pages in (("pages", 6), ("many", 60)):
            for split, number, seed in (("train", pages, 0), ("val", 2, 1)):
                list(write_pages(folder / root / split, number, seed))
        torch.save(untrained(), folder / "good.ckpt")
        with ThreadPoolExecutor(2) as pool:
            results = list(pool.map(lambda number: one_kill(number, folder), range(count)))
    wrong = [problem for _, problem in results if problem]
    for what, times in sorted(collections.Counter(what for what, _ in results).items()):
        print(f"{times:4d} {what}")
    print(*wrong, f"{count} commands ended, {len(wrong)} with something left, or too late", sep="\n", flush=True)
    return len(wrong)


def images(count: int) -> int:
    """How many damaged files were answered with neither an image nor one line."""
    rng, noise = random.Random(0), np.random.default_rng(0)
    pictures = [np.kron(noise.integers(0, 256, (5, 7, 3)), np.ones((16, 16, 1))).astype(np.uint8) for _ in range(4)]
    answers: collections.Counter[str] = collections.Counter()
    wrong = 0
    for number in range(count):
        kind = rng.choice(list(KINDS))
        buffer = io.BytesIO()
        Image.fromarray(rng.choice(pictures)).save(buffer, kind, **KINDS[kind])
        content = bytearray(buffer.getvalue())
        how = rng.choice(("cut", "tail", "header", "anywhere"))
        if how == "cut":
            del content[rng.randrange(len(content)) :]
        elif how == "tail":
            content += rng.randbytes(rng.randrange(1, 5000))
        else:
            for _ in range(rng.randint(1, 4)):
                content[rng.randrange(min(len(content), 200) if how == "header" else len(content))] = rng.randrange(256)
        try:
            whole, found = decode_image(buffer.getvalue(), "whole"), decode_image(bytes(content), "x")
        except ImageError as error:
            answers[f"{how}: one line"] += 1
            bad = "\n" in str(error) or how == "tail"
        except Exception as error:  # noqa: BLE001 - this is what is looked for
            bad = True
            print(f"case {number}, {kind} {how}: {type(error).__name__}: {error}")
        else:
            answers[f"{how}: image"] += 1
            bad = how in ("cut", "tail") and not np.array_equal(whole, found)
        if bad:
            wrong += 1
            print(f"case {number}, {kind}: {how} was answered wrongly")
    print(
        *(f"{times:6d} {what}" for what, times in sorted(answers.items())), f"{count} images, {wrong} wrong", sep="\n", flush=True
    )
    return wrong


def main() -> int:
    """The exit code: 0 if nothing went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="commands to end  [default: 200]")
    parser.add_argument("--images", type=int, default=10_000, help="images to damage  [default: 10000]")
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # what this process ignores, as under nohup, its children do, too
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    return int(bool(images(given.images) + kills(given.kills)))


if __name__ == "__main__":
    sys.exit(main())
