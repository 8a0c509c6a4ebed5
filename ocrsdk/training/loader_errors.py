"""What went wrong in a loader process, in one line."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ocrsdk.errors import OcrsdkError, TrainingError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ocrsdk.data.loader import LoaderWatch

_DEAD = re.compile(r"DataLoader worker \(pid\(?s?\)? (\d+)[^)]*\)(?: is killed by signal: ([^.]*))?")


def loader_error(error: BaseException, watches: Sequence[LoaderWatch]) -> OcrsdkError | None:
    """The error to show instead of ``error``; None if it does not come from a loader process.

    Args:
        error: What training raised.
        watches: Of the loaders that were used.
    """
    if isinstance(error, OcrsdkError):
        return _raised_in_loader(error)
    if isinstance(error.__context__, OcrsdkError):  # which Lightning's own cleaning up has stumbled over
        return _raised_in_loader(error.__context__) or error.__context__
    found = _DEAD.search(str(error))
    dead = [pid for watch in watches for pid in watch.dead()]
    if found is not None:
        pid, signal = int(found[1]), found[2]
    elif isinstance(error, EOFError | ConnectionError) and dead:
        pid, signal = dead[0], None  # it died while it was sending
    else:
        return None
    page = next((page for watch in watches if (page := watch.work_of(pid))), None)
    where = f" while it worked on {page}" if page else ""
    for watch in watches:
        if (seconds := watch.frozen.get(pid)) is not None:
            return TrainingError(
                f"the loader process {pid} was stopped (SIGSTOP, or a debugger) for {seconds:.0f} s{where}, and was ended. "
                "The last good step is saved: --resume goes on"
            )
    why = f"was killed ({signal.strip().lower()})" if signal else "ended unexpectedly"
    return TrainingError(
        f"the loader process {pid} {why}{where}. If memory ran out, use fewer --workers or a smaller data.batch_size. "
        "The last good step is saved: --resume goes on"
    )


def _raised_in_loader(error: OcrsdkError) -> OcrsdkError | None:
    """The error as a loader process raised it, without the traceback that torch puts into its message; None if this process did."""
    text = str(error)
    if not text.startswith("Caught "):
        return None
    last = text.strip().splitlines()[-1]
    return type(error)(last.partition(": ")[2] or last)
