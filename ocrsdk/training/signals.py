"""Stopping a run by signal: finish the step, save, leave."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from pytorch_lightning import Callback

from ocrsdk.logs import is_json

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

_CAUGHT = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class StopSignals(Callback):
    """While the run trains, the first SIGINT, SIGTERM or SIGHUP calls ``request_stop``; a second one ends the process at once.

    The handlers replace Lightning's own, which raises in the middle of an epoch; they are set when training starts, after
    Lightning has set its. Outside the main thread nothing is done: Python delivers signals to the main thread alone.
    """

    def __init__(self, request_stop: Callable[[], None]) -> None:
        self._request_stop = request_stop
        self._previous: dict[int, Any] = {}
        self.received: signal.Signals | None = None

    def on_train_start(self, *_args: Any) -> None:
        """Take over."""
        if threading.current_thread() is threading.main_thread():
            for number in _CAUGHT:
                self._previous[number] = signal.signal(number, self._handle)

    def on_train_end(self, *_args: Any) -> None:
        """Give back."""
        self._restore()

    def on_exception(self, *_args: Any) -> None:
        """Give back."""
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None:
            if sys.stderr.isatty():
                os.write(2, b"\x1b[?25h\n")  # a progress bar has hidden the cursor
            os._exit(128 + number)  # an exception could get lost in compiled code; nothing on disk is half-written
        self.received = signal.Signals(number)
        text = f"{self.received.name}: stopping after this step and saving a checkpoint (once more: stop at once)"
        line = json.dumps({"event": text, "level": "warning"}) if is_json() else f"\n{text}"
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - a log call is not safe inside a signal handler
        self._request_stop()
