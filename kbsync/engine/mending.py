"""What a halted mirror has read again, since a person may have mended there what halts it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum


class Wish(Enum):
    """What is to be read again."""

    CONFIG = "config"
    """All of it: a person asked for something, and believes that the cause is gone."""
    SECRETS = "secrets"
    """What of this mirror is secret, and nothing else: its key was refused, and nobody asked."""


Ask = Callable[[Wish, asyncio.Event], None]
"""Has it read, and sets the event when that is done. A mirror that changed is told to stop before."""


def nothing_to_read(_wish: Wish, read: asyncio.Event) -> None:
    """Where no config stands behind a mirror."""
    read.set()
