"""What the terminal can do."""

from __future__ import annotations

import os


def is_styled() -> bool:
    """The terminal can show colours, and nobody has asked for none (no-color.org)."""
    return not os.environ.get("NO_COLOR") and can_move_cursor()


def can_move_cursor() -> bool:
    """The terminal understands control sequences."""
    return os.environ.get("TERM") not in (None, "", "dumb")
