"""Stopping a run by signal: finish the step, save, leave."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from pytorch_lightning import Callback

from ocrsdk.logs import is_json

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

_CAUGHT = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


_ONE_HANG_UP = 2.0
"""SIGHUPs within so many seconds are one."""
_PATIENCE = 10.0
"""A stop that has been asked for ends a wait for a batch that lasts longer than so many seconds."""


class StoppedWaitingError(BaseException):
    """Training was asked to stop, and no batch came; no ``Exception``, so that no handler for those swallows it."""


class StopSignals(Callback):
    """A first SIGINT, SIGTERM or SIGHUP makes the calls of ``request_stop``, a second one ends the process at once.

    Training then ends after the step under way; if it waits for a batch that does not come, with a ``StoppedWaitingError``. A
    signal that is ignored, as SIGHUP under ``nohup``, stays ignored.

    The handlers replace Lightning's own, which raises in the middle of an epoch; they are set when training starts, after
    Lightning has set its. The run takes place in the context of this object, which puts back what was there before either. Outside
    the main thread nothing is done: Python delivers signals to the main thread alone.

    Args:
        request_stop: What is called.
        waited: Seconds for which training has been waiting for a batch; 0 if it does not.
    """

    def __init__(self, request_stop: Sequence[Callable[[], None]], waited: Callable[[], float] = lambda: 0.0) -> None:
        self._request_stop, self._waited = request_stop, waited
        self._in_vain = False
        self._previous: dict[int, Any] = {}
        self.received: signal.Signals | None = None
        self._at = 0.0
        self._terminal = sys.stderr.isatty()

    def on_train_start(self, *_args: object) -> None:
        """Set the handlers."""
        if threading.current_thread() is threading.main_thread():
            for number in _CAUGHT:
                if signal.getsignal(number) != signal.SIG_IGN:
                    signal.signal(number, self._handle)

    def __enter__(self) -> None:
        """Remember the handlers that are there."""
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.getsignal(number) for number in _CAUGHT}
            threading.Thread(target=self._end_waits, name="ocrsdk-stop", daemon=True).start()  # a handler must not start one

    def __exit__(self, *_exception: object) -> None:
        """Put back the handlers that were there."""
        for number, handler in self._previous.items():
            if handler is not None:  # else it was not set from Python
                signal.signal(number, handler)
        self._previous.clear()

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._in_vain:  # sent by this object itself
            self._in_vain = False
            if self._waited() > 0:
                raise StoppedWaitingError
            return
        if self.received is not None:
            if number == signal.SIGHUP and time.monotonic() - self._at < _ONE_HANG_UP:
                return  # the shell and the system both tell of a closed terminal
            if self._terminal:
                with contextlib.suppress(OSError):
                    os.write(2, b"\x1b[?25h\n")  # a progress bar has hidden the cursor
            os._exit(128 + number)  # an exception could get lost in compiled code; nothing on disk is half-written
        self.received, self._at = signal.Signals(number), time.monotonic()
        for request in self._request_stop:
            request()
        if number == signal.SIGHUP and self._terminal:  # it is gone: whatever is still said must not cost the checkpoint
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for descriptor in (1, 2):
                os.dup2(nowhere, descriptor)
            return
        text = f"{self.received.name}: stopping after this step and saving a checkpoint (once more: stop at once)"
        line = json.dumps({"event": text, "level": "warning"}) if is_json() else f"\n{text}"
        with contextlib.suppress(OSError):
            os.write(2, f"{line}\n".encode())  # neither a log call nor print is safe inside a signal handler

    def _end_waits(self) -> None:
        """Interrupt the main thread when it was asked to stop and has waited for too long; an exception has to be raised there."""
        while self._previous:
            time.sleep(0.5)
            if self.received is not None and self._waited() > _PATIENCE and not self._in_vain:
                self._in_vain = True
                signal.pthread_kill(threading.main_thread().ident or 0, self.received)
