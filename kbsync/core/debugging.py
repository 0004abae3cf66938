"""What only who looks for a cause wants to read: the log has it at level debug, else it costs nothing."""

from __future__ import annotations

import logging

LOGGER = "kbsync.debug"
"""Its records carry `event` and `fields` beside their text."""

_log = logging.getLogger(LOGGER)


def is_debugging() -> bool:
    """Somebody wants to read it."""
    return _log.isEnabledFor(logging.DEBUG)


def tell(event: str, **fields: object) -> None:
    """One line of the log, where somebody wants to read it."""
    if is_debugging():
        _log.debug(event, extra={"event": event, "fields": fields})
