"""A lock that is handed on: long work done in steps lets in, after each step, whoever waits."""

from __future__ import annotations

import threading
from types import TracebackType


class Turns:
    """Used with `with`. A thread that has it may take it again; one that wants it back waits its turn.

    `threading.RLock` goes to whoever asks first once it is free, which is nearly always the thread that has
    just let go of it.
    """

    def __init__(self) -> None:
        """Nobody has it."""
        self._waiting, self._held = threading.Lock(), threading.Lock()
        self._owner: int | None = None
        self._depth = 0

    def __enter__(self) -> None:
        """Wait for it."""
        if self._owner != threading.get_ident():
            with self._waiting:  # whoever had it before stands behind the one who has this
                self._held.acquire()
            self._owner = threading.get_ident()
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of it."""
        self._depth -= 1
        if not self._depth:
            self._owner = None
            self._held.release()
