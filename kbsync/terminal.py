"""Detects what the terminal supports."""

from __future__ import annotations

import os


def is_styled() -> bool:
    """Return whether the terminal supports colors and NO_COLOR isn't set (see no-color.org)."""
    return not os.environ.get("NO_COLOR") and can_move_cursor()


def can_move_cursor() -> bool:
    """Return whether the terminal understands control sequences."""
    return os.environ.get("TERM") not in (None, "", "dumb")
