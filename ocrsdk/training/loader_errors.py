"""What went wrong in a loader process, in one line."""

from __future__ import annotations

import multiprocessing
import re
from typing import TYPE_CHECKING

from ocrsdk.errors import OcrsdkError, TrainingError

if TYPE_CHECKING:
    from ocrsdk.data.datamodule import DetectionDataModule

_DEAD = re.compile(r"DataLoader worker \(pid\(?s?\)? (\d+)[^)]*\)(?: is killed by signal: ([^.]*))?")


def loader_error(error: BaseException, datamodule: DetectionDataModule) -> OcrsdkError | None:
    """The error to show instead of ``error``; None if it does not come from a loader process.

    Args:
        error: What training raised.
        datamodule: Whose loaders it used.
    """
    if isinstance(error, OcrsdkError):
        return raised_in_loader(error)
    found = _DEAD.search(str(error))
    if found is not None:
        pid, signal = int(found[1]), found[2]
    elif isinstance(error, EOFError | ConnectionError) and (dead := datamodule.dead_workers()):
        pid, signal = dead[0], None  # it died while it was sending
    else:
        return None
    page = datamodule.page_of(pid)
    where = f" while it worked on {page}" if page else ""
    why = f"was killed ({signal.strip().lower()})" if signal else "ended unexpectedly"
    return TrainingError(
        f"the loader process {pid} {why}{where}. If memory ran out, use fewer --workers or a smaller data.batch_size; "
        "checkpoints are untouched: --resume goes on"
    )


def raised_in_loader(error: OcrsdkError) -> OcrsdkError | None:
    """The error as a loader process raised it, without the traceback that torch puts into its message; None if this process did."""
    text = str(error)
    if not text.startswith("Caught "):
        return None
    last = text.strip().splitlines()[-1]
    return type(error)(last.partition(": ")[2] or last)


def end_loaders() -> None:
    """Kill what is left of the loader processes: they heed no SIGTERM, and one may wait for what a dead one held."""
    for process in multiprocessing.active_children():
        process.kill()
