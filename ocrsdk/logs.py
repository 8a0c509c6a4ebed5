"""Log lines for people: structlog, imported on the first call so that ``--help`` never pays for it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger


_pending: tuple[str, bool] | None = None
"""What ``configure`` asked for, until a logger is needed: a command that logs nothing does not wait for structlog."""


def get_logger(name: str) -> FilteringBoundLogger:
    """A structlog logger bound to ``name``; it follows whatever ``configure`` or the host program has set up."""
    import structlog

    global _pending
    if _pending is not None:
        _configure(*_pending)
        _pending = None
    logger: FilteringBoundLogger = structlog.get_logger(logger_name=name)
    return logger


def configure(level: str = "info", json: bool = False) -> None:
    """Set up log output on stderr. Only the CLI calls this: a library leaves logging to its host.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        json: One JSON object a line instead of the console form.
    """
    global _pending
    _pending = (level, json)


def _configure(level: str, json: bool) -> None:
    import logging

    import structlog

    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso" if json else "%H:%M:%S", utc=json),
    ]
    if json:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]
    else:
        processors += [_drop_logger_name, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=False,
    )


def _drop_logger_name(_logger: Any, _method: str, event: Any) -> Any:
    event.pop("logger_name", None)
    return event
