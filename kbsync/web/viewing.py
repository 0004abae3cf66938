"""What pages read of the state: on a connection and a thread of their own, so that no mirror waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from kbsync.state.store import BlankGlance, Glance, Tx

T = TypeVar("T")


class View:
    """The state file as it is; an empty state where there is none yet, or it is being made anew."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._glance: Glance | None = None
        self._opened = 0
        self._thread = ThreadPoolExecutor(1, "kbsync-http-read")

    async def read(self, work: Callable[[Tx], T]) -> T:
        """`work` on one consistent state, off the loop. Raises `StateError`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._read, work)

    async def version(self) -> tuple[int, int]:
        """Differs from what it was when the state was written since. Raises `StateError`."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._version)

    def close(self) -> None:
        """Let go of the file, once a read under way has ended; the next read opens it again."""
        self._thread.submit(self._let_go).result()

    def _read(self, work: Callable[[Tx], T]) -> T:
        return self._current().read(work)

    def _version(self) -> tuple[int, int]:
        glance = self._current()
        return self._opened, glance.version

    def _current(self) -> Glance:
        if self._glance is not None and self._glance.is_there:
            return self._glance
        self._let_go()
        self._glance, self._opened = self._open(), self._opened + 1
        return self._glance

    def _open(self) -> Glance:
        if self._file.exists():
            glance = Glance(self._file)
            if glance.is_made:
                return glance
            glance.close()
        return BlankGlance()

    def _let_go(self) -> None:
        if self._glance is not None:
            self._glance.close()
            self._glance = None
