"""``python -m tests.bench.scale``: what a data set of a million pages costs. Nothing else should run meanwhile.

The set is drawn: one label file with a line a page, three regions each, and images that are hard links to forty small files. Each
opening is a process of its own, so that its memory is its own, too.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.bench.timing import machine

SOURCES = 40
OPEN = """
import json, resource, sys, time
from pathlib import Path
from ocrsdk.data.folder import load_annotations
from ocrsdk.data.index import PageIndexes
start = time.perf_counter()
pages, report = load_annotations(Path(sys.argv[1]), verify="header", indexes=PageIndexes(Path(sys.argv[2])))
seconds = time.perf_counter() - start
assert report.images == len(pages)
print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))
"""
SERVE = """
import json, sys, psutil
from pathlib import Path
from ocrsdk import DetectionDataModule, EvalTransform, TrainDataset, TrainTransform, load_annotations
from ocrsdk.data.index import PageIndexes
pages, _ = load_annotations(Path(sys.argv[1]), verify="header", indexes=PageIndexes(Path(sys.argv[2])))
data = TrainDataset(pages, TrainTransform(crop=64, page=EvalTransform(64)))
module = DetectionDataModule(data, data, batch_size=8, workers=8)
batches = iter(module.train_dataloader())
for _ in range(40):
    next(batches)
process = psutil.Process()
def own(process):
    # what belongs to the process: pages of files that are mapped can be dropped at any time
    rollup = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
    sizes = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in rollup.splitlines()[1:]}
    return sizes["Pss_Anon"], sizes["Pss"]
workers = [own(child) for child in process.children()]
print(json.dumps([own(process)[0], sum(a for a, _ in workers), sum(p for _, p in workers)]))
"""


def draw(folder: Path, pages: int) -> None:
    """A set of so many pages."""
    import cv2

    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    sources = [folder.parent / f"{folder.name}-{number}.jpg" for number in range(SOURCES)]
    for source in sources:
        cv2.imwrite(str(source), rng.integers(0, 255, (64, 48, 3), dtype=np.uint8))
    with (folder / "Label.txt").open("w", encoding="utf-8") as labels:
        for number in range(pages):
            name = f"images/page_{number:07d}.jpg"
            os.link(sources[number % SOURCES], folder / name)
            boxes = [(2 + k, 3 + 20 * k, 40 + k, 15 + 20 * k) for k in range(3)]
            words = [
                {"transcription": f"WORD{number % 97}", "points": [[x, y], [r, y], [r, b], [x, b]], "difficult": False}
                for x, y, r, b in boxes
            ]
            labels.write(f"{name}\t{json.dumps(words)}\n")


def run(code: str, folder: Path, indexes: Path) -> list[float]:
    """What a process of its own prints."""
    command = [sys.executable, "-c", code, str(folder), str(indexes)]
    result: list[float] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return result


def main() -> None:
    """Draw, open twice, serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pages", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, help="Where the set is drawn, or was; a temporary folder by default.")
    given = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as temporary:
        root = given.folder or Path(temporary)
        memory = {}
        for pages in (1_000, given.pages):
            folder, indexes = root / str(pages), Path(temporary) / "indexes"
            if not folder.exists():
                draw(folder, pages)
            first, second = run(OPEN, folder, indexes), run(OPEN, folder, indexes)
            memory[pages] = run(SERVE, folder, indexes)
            took = [f"{seconds:.1f} s, {peak / 1e9:.2f} GB" for seconds, peak in (first, second)]
            print(f"{pages:>9,} pages: first opening {took[0]}; second {took[1]}")
        few, many = memory[1_000], memory[given.pages]
        names = ("main process, its own", "8 loader processes, their own", "8 loader processes, with their share")
        for name, a, b in zip(names, few, many, strict=True):
            print(f"{name:<40} {a / 1e6:8.1f} MB with 1,000 pages, {b / 1e6:8.1f} MB with all: {100 * (b / a - 1):+.1f} %")


if __name__ == "__main__":
    main()
