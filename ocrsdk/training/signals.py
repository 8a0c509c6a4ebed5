"""Stopping a run by signal: finish the step, save, leave."""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

_CAUGHT = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class StopSignals:
    """While active, the first SIGINT, SIGTERM or SIGHUP calls ``request_stop``; a second one interrupts at once.

    Outside the main thread it does nothing: Python delivers signals to the main thread alone.
    """

    def __init__(self, request_stop: Callable[[], None]) -> None:
        self._request_stop = request_stop
        self._previous: dict[int, object] = {}
        self.received: signal.Signals | None = None

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in _CAUGHT:
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)
        print(  # noqa: T201 - a log call is not safe inside a signal handler
            f"\n{self.received.name}: stopping after this step and saving a checkpoint (once more: stop at once)",
            file=sys.stderr,
            flush=True,
        )
        self._request_stop()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
