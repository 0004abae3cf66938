"""Detects what the terminal supports, and whether a stream is the journal."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TextIO


def is_styled() -> bool:
    """Return whether the terminal supports colors and NO_COLOR isn't set (see no-color.org)."""
    return not os.environ.get("NO_COLOR") and can_move_cursor()


def can_move_cursor() -> bool:
    """Return whether the terminal understands control sequences."""
    return os.environ.get("TERM") not in (None, "", "dumb")


PRIORITIES = {"critical": 2, "error": 3, "warning": 4, "info": 6, "debug": 7}
"""The journal's priority for each log level. A line for the journal begins with it, as in `<6>`
(sd-daemon(3)).
"""


def is_journal(stream: TextIO, environ: Mapping[str, str]) -> bool:
    """Return whether systemd connected this stream to the journal (`$JOURNAL_STREAM`, systemd.exec(5))."""
    device, _, inode = environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))
