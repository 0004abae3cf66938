"""Logs on stderr: readable on a terminal, one JSON object per line elsewhere, with priorities under journald.

All lines of a stream have one format: if log lines are JSON, so are the report, the last error (`log_event`)
and the log lines of libraries. Log lines never contain secrets, because no module logs one. Text from a
folder or target is escaped, so that a file name can't forge a line or move a terminal's cursor. If writing
the log fails, the work continues.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, TextIO, cast

import structlog

from kbsync.core.text import printable, printable_lines
from kbsync.errors import lacks_memory, memory_message
from kbsync.terminal import PRIORITIES, is_journal, is_styled

DEBUG_LOGGER = "kbsync.debug"
"""A logger whose records have `event` and `fields` in addition to their text."""
_debug_log = logging.getLogger(DEBUG_LOGGER)

LEVELS = {"debug": 10, "info": 20, "warning": 30, "error": 40}
Fields = MutableMapping[str, Any]
KeepsEvent = Callable[[Fields], bool]
Renderer = Callable[[Any, str, Fields], str]


def configure(
    *,
    style: str | None,
    level: str,
    environ: Mapping[str, str] | None = None,
    stream: TextIO | None = None,
    keeps: KeepsEvent = lambda _fields: True,
    renderer: Renderer | None = None,
) -> None:
    """Set up logging.

    `style`: console or json, or None to choose according to where stderr goes. `keeps` may drop events that
    the level lets through. `renderer` replaces the renderer of the style.
    """
    stream = stream or sys.stderr
    style = style_of(style, stream)
    render: Any = renderer
    if render is None and style == "json":
        # Chinese names are easier to read than their escapes.
        encoding = (getattr(stream, "encoding", None) or "").lower().replace("-", "")
        render = structlog.processors.JSONRenderer(ensure_ascii=encoding != "utf8")
    elif render is None:
        colors = stream.isatty() and is_styled()
        render = structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=24, sort_keys=False)
    to_journal = is_journal(stream, os.environ if environ is None else environ)
    stamped = [] if to_journal else [structlog.processors.TimeStamper(fmt="iso", utc=True)]
    processors: list[Any] = [
        _Filter(keeps),
        structlog.processors.add_log_level,
        *stamped,
        structlog.processors.format_exc_info,
        _printable,
        *([] if style == "json" else [_without_empty]),
        render,
        *([_prioritised] if to_journal else []),
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Lossy(stream))),
        cache_logger_on_first_use=False,
    )
    logging.getLogger(DEBUG_LOGGER).setLevel(logging.DEBUG if level == "debug" else logging.WARNING)
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Relay)]:
        root.removeHandler(handler)
    root.addHandler(_Relay())


def style_of(style: str | None, stream: TextIO) -> str:
    """Return the requested style, or the one that suits `stream`."""
    return style or ("console" if stream.isatty() else "json")


def is_for_a_person(*log_options: str | None) -> bool:
    """Return whether stderr is a terminal and none of these options requests a log."""
    return sys.stderr.isatty() and not any(log_options)


def log_event(level: str, event: str, **fields: Any) -> None:
    """Log a line that neither the level nor `keeps` can drop, such as the result of a run."""
    config = structlog.get_config()
    log = structlog.wrap_logger(
        config["logger_factory"](),
        processors=[processor for processor in config["processors"] if not isinstance(processor, _Filter)],
        wrapper_class=structlog.make_filtering_bound_logger(0),
    )
    getattr(log, level)(event, **fields)


class _Lossy:
    """A stream that discards text that it can't write, because nobody reads it or the disk is full."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write as much of the text as possible."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush if possible."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


class _Relay(logging.Handler):
    """Forwards the logs of libraries, so that all log lines have one format."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log the record. Its `extra` may name the event. A lack of memory is logged without a traceback, if
        there is enough memory to log it.
        """
        try:
            self._forward(record)
        except Exception as error:
            # A library would print a traceback.
            if not lacks_memory(error):
                raise

    def _forward(self, record: logging.LogRecord) -> None:
        log = structlog.get_logger("kbsync")
        event = getattr(record, "event", "library.logged")
        if record.name == DEBUG_LOGGER:
            log.debug(event, **getattr(record, "fields", {}))
            return
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and (reason := memory_message(error)):
            fields: Fields = {"logger": record.name, "reason": reason}
        else:
            fields = {"logger": record.name, "detail": record.getMessage(), "exc_info": record.exc_info}
        if record.levelno >= logging.ERROR:
            log.error(event, **fields)
        else:
            log.warning(event, **fields)


def _printable(_logger: Any, _method: str, fields: Fields) -> Fields:
    # A traceback keeps its lines, indented: log lines must not begin with foreign text.
    escaped = {printable(key): _escape(value) for key, value in fields.items()}
    if isinstance(trace := fields.get("exception"), str):
        escaped["exception"] = printable_lines(trace).replace("\n", "\n  ")
    return escaped


def _without_empty(_logger: Any, _method: str, fields: Fields) -> Fields:
    """Return the fields that aren't empty, for text logs. JSON logs include every key."""
    return {key: value for key, value in fields.items() if value not in (None, "", [], {})}


def _escape(value: Any) -> Any:
    match value:
        case str():
            return printable(value)
        case Mapping():
            return {printable(str(key)): _escape(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_escape(item) for item in value]
    return value


class _Filter:
    """Drops unwanted events."""

    def __init__(self, keeps: KeepsEvent) -> None:
        self._wanted = keeps

    def __call__(self, _logger: Any, _method: str, fields: Fields) -> Fields:
        """Return the fields of a wanted event."""
        if not self._wanted(fields):
            raise structlog.DropEvent
        return fields


def _prioritised(_logger: Any, method: str, rendered: str) -> str:
    """Put a priority such as `<6>` before each line, as sd-daemon(3) requires."""
    priority = PRIORITIES.get("error" if method == "exception" else method, 6)
    return "\n".join(f"<{priority}>{line}" for line in rendered.splitlines())


# -- lines for `--log-level debug` ----------------------------------------------------------------------


def is_debugging() -> bool:
    """Return whether the log level is debug. At other levels, debug lines cost nothing."""
    return _debug_log.isEnabledFor(logging.DEBUG)


def log_debug(event: str, **fields: object) -> None:
    """Log a debug line."""
    if is_debugging():
        _debug_log.debug(event, extra={"event": event, "fields": fields})
