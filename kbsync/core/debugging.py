"""Lines for `--log-level debug`; at any other level they cost nothing."""

from __future__ import annotations

import logging

LOGGER = "kbsync.debug"
"""Its records carry `event` and `fields` beside their text."""

_log = logging.getLogger(LOGGER)


def is_debugging() -> bool:
    """The log is at level debug."""
    return _log.isEnabledFor(logging.DEBUG)


def tell(event: str, **fields: object) -> None:
    """One line of the log, at level debug."""
    if is_debugging():
        _log.debug(event, extra={"event": event, "fields": fields})
