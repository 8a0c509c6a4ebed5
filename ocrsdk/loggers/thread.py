"""A thread for each logger: one that is slow or hangs does not hold up the training."""

from __future__ import annotations

import contextvars
import os
import queue
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_WAITING = 10_000
"""Rows that may wait for a logger; one that falls further behind is switched off."""


class LoggerThread:
    """Makes the calls of one logger, in order; its caller never waits unless it asks to.

    A call that raises ends the thread: what was not done is counted, the error is kept. A call that hangs is left alone.

    Args:
        name: The logger's.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.failure: Exception | None = None
        """What the logger raised."""
        self.given = 0
        """Rows handed over."""
        self.done = 0
        """Rows that the logger has taken."""
        self._calls: queue.SimpleQueue[tuple[Callable[[], Any], int, _Answer | None]] = queue.SimpleQueue()
        self._since: float | None = None
        self._off = False
        self._answer: _Answer | None = None
        """Of the call under way, if somebody waits for it."""
        self._between = threading.Lock()
        """Held during a call, and over a fork, so that no child inherits a lock that the logger's library holds."""
        self._thread: threading.Thread | None = None
        _threads.add(self)

    def put(self, call: Callable[[], object], rows: int = 0) -> None:
        """Hand over a call; ``rows`` of them are rows."""
        self.given += rows
        self._put(call, rows, None)

    def _put(self, call: Callable[[], object], rows: int, answer: _Answer | None) -> None:
        if self._off or self.failure is not None:
            return
        self._calls.put((call, rows, answer))
        if self._thread is None:
            context = contextvars.copy_context()
            self._thread = threading.Thread(target=context.run, args=(self._work,), name=f"ocrsdk logger {self.name}", daemon=True)
            self._thread.start()

    def ask(self, call: Callable[[], object], seconds: float, patience: float | None = None) -> tuple[bool, object]:
        """Hand over a call and wait for it, after everything that was handed over before.

        Args:
            call: What is to be done.
            seconds: Wait at most so long.
            patience: Give up when a call before it takes longer than so many seconds.

        Returns:
            Whether it was made, and its result.
        """
        return self.wait(self.begin(call), seconds, patience)

    def begin(self, call: Callable[[], object]) -> _Answer:
        """Hand over a call whose answer is waited for later."""
        answer = _Answer()
        self._put(call, 0, answer)
        return answer

    def wait(self, answer: _Answer, seconds: float, patience: float | None = None) -> tuple[bool, object]:
        """Wait for the answer of ``begin``, as ``ask`` does."""
        deadline = time.monotonic() + seconds
        while self.failure is None and not self._off and not answer.event.is_set():
            left = deadline - time.monotonic()
            if left <= 0 or (patience is not None and self._answer is not answer and self.busy_for > patience):
                break
            answer.event.wait(min(left, 0.05))
        return answer.made, answer.result

    @property
    def busy_for(self) -> float:
        """Seconds that the call under way has taken; 0 between calls."""
        since = self._since
        return time.monotonic() - since if since is not None else 0.0

    @property
    def missed(self) -> int:
        """Rows that were handed over and not taken."""
        return self.given - self.done

    def switch_off(self) -> None:
        """Make no further call."""
        self._off = True

    def _work(self) -> None:
        while True:
            call, rows, answer = self._calls.get()
            if self._off:
                return
            self._answer = answer
            with self._between:
                self._since = time.monotonic()
                try:
                    result = call()
                except Exception as error:  # noqa: BLE001 - whatever a logger raises must not cost the run
                    self.failure = error
                    return
                finally:
                    self._since = None
                    if answer is not None and self.failure is not None:
                        answer.event.set()
            self.done += rows
            if answer is not None:
                answer.result = result
                answer.made = True
                answer.event.set()


class _Answer:
    """What somebody waits for."""

    def __init__(self) -> None:
        self.event, self.made, self.result = threading.Event(), False, None


_threads: weakref.WeakSet[LoggerThread] = weakref.WeakSet()
_FORK_WAITS = 1.0
"""Seconds that a fork waits for a call under way to end."""
_held: list[threading.Lock] = []


def _before_fork() -> None:
    deadline = time.monotonic() + _FORK_WAITS
    for thread in list(_threads):
        if thread._between.acquire(timeout=max(0.0, deadline - time.monotonic())):
            _held.append(thread._between)


def _after_fork() -> None:
    while _held:
        _held.pop().release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_held.clear)
