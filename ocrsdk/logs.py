"""Log lines for people and for machines: structlog, imported on the first call so that ``--help`` never pays for it."""

from __future__ import annotations

import json
import os
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TextIO

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping

    from structlog.typing import FilteringBoundLogger

Format = Literal["console", "json"]

_SECRET = re.compile(r"api_?key|token|secret|password|authorization|credential", re.IGNORECASE)
_CREDENTIALS = re.compile(r"(?<=://)[^\s@/]*:\S*@|(?<=://)[^\s@/]+@")
_LEAST_SECRET = 8
"""Shorter values of such variables are too common to be struck out everywhere."""


@dataclass(frozen=True)
class _Output:
    level: str
    format: Format


_output = _Output("info", "console")
_pending = False
"""``configure`` was called and structlog is not loaded yet: a command that logs nothing does not wait for it."""


def get_logger(name: str) -> FilteringBoundLogger:
    """A structlog logger bound to ``name``; it follows whatever ``configure`` or the host program has set up."""
    import structlog

    global _pending
    if _pending:
        _pending = False
        _configure(_output)
    if structlog.is_configured():
        logger: FilteringBoundLogger = structlog.get_logger(logger_name=name)
    else:  # by itself, structlog would write to stdout
        logger = structlog.wrap_logger(_Lines(sys.stderr), logger_name=name)
    return logger


def configure(level: str = "info", format: Format = "console") -> None:
    """Set up log output on stderr. Only the CLI calls this: a library leaves logging to its host.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
        format: ``console`` for people; ``json``, one object a line, for machines.
    """
    global _pending, _output
    _output, _pending = _Output(level, format), True


def is_json() -> bool:
    """Whether stderr belongs to machines: everything on it has to be a JSON line."""
    return _output.format == "json"


def is_quiet() -> bool:
    """Whether only warnings and errors are wanted."""
    return _output.level in ("warning", "error")


def bind(**context: object) -> None:
    """Add columns to every later line of this process: the run, the rank, the loader worker."""
    import structlog

    structlog.contextvars.bind_contextvars(**context)


def route_libraries() -> None:
    """Bring ``logging`` and ``warnings`` of all libraries into the same stream; call it once they are imported."""
    import logging

    logging.captureWarnings(True)
    root = logging.getLogger()
    root.handlers = [_Router()]
    root.setLevel(logging.INFO if _output.level == "debug" else logging.WARNING)
    for name in ("pytorch_lightning", "lightning_fabric", "lightning"):  # they bring their own handlers
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [], True
        logger.setLevel(root.level)


def _Router() -> logging.Handler:  # noqa: N802 - a class that is made on first use
    import logging

    class Router(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = record.getMessage().strip()
            if record.name == "py.warnings":  # "file:line: Category: text" and the source line below
                text = text.splitlines()[0].split(": ", 1)[-1]
            get_logger(record.name).log(record.levelno, text)

    return Router()


def _configure(output: _Output) -> None:
    import logging

    import structlog

    lines, is_json = _Lines(sys.stderr), output.format == "json"
    processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso" if is_json else "%H:%M:%S", utc=is_json),
        strike_secrets,
    ]
    if is_json:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False, default=str)]
    else:
        processors += [_for_people, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), pad_event_to=0)]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[output.level.upper()]),
        logger_factory=lambda *_: lines,
        cache_logger_on_first_use=False,
    )


class _Lines:
    """Writes each line at once. structlog's own writers have a lock, which a fork inherits taken: the child would wait for ever."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        self._stream.write(line + "\n")
        self._stream.flush()

    debug = info = warning = error = critical = write


def _for_people(_logger: object, _method: str, event: Any) -> object:
    """Fields that are the same on every line of a usual run are not shown."""
    event.pop("logger_name", None)
    event.pop("run", None)
    if event.get("rank") == 0:
        event.pop("rank")
    return event


def strike_secrets(_logger: object, _method: str, event: Any) -> object:
    """A structlog processor: ``without_secrets``."""
    return without_secrets(event)


def without_secrets(table: Mapping[str, object]) -> dict[str, object]:
    """A copy with ``***`` for what must not be shown.

    That is: values of keys that name a secret; anywhere, secrets of the environment and credentials in addresses.
    """
    known = [
        value
        for name, value in os.environ.items()
        if _SECRET.search(name) and len(value) >= _LEAST_SECRET and not os.path.exists(value)  # noqa: PTH110 - of any text
    ]

    def struck(key: str, value: object) -> object:
        if _SECRET.search(key) and value and isinstance(value, str | dict | list | tuple):
            return "***"
        if isinstance(value, dict):
            return {k: struck(str(k), v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [struck(key, item) for item in value]
        if isinstance(value, str):
            for secret in known:
                value = value.replace(secret, "***")
            value = _CREDENTIALS.sub("***@", value)
        return value

    return {key: struck(key, value) for key, value in table.items()}


def json_text(document: object, indent: int | None = None) -> str:
    """``document`` with letters of all scripts as they are; all ASCII if it holds a file name that is no text."""
    text = json.dumps(document, ensure_ascii=False, indent=indent)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(document, indent=indent)
    return text
