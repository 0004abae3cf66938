"""Looks whether the folder is still the one it was: it can vanish or be replaced without any event."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

from kbsync.source.aside import aside
from kbsync.source.health import Trouble, TroubleKind
from kbsync.source.roots import RootIdentity, opened_root, trouble

LOOK_SECONDS = 5.0


def device_and_inode(folder: Path) -> tuple[int, int]:
    """What tells the folder now at this path from another. Raises OSError, also if it may not be read."""
    with opened_root(folder) as fd:
        status = os.fstat(fd)
    return status.st_dev, status.st_ino


def trouble_of(folder: Path, error: OSError) -> Trouble:
    """What it means that looking at `folder` failed with `error`."""
    match error:
        case FileNotFoundError():
            return Trouble(TroubleKind.ROOT_MISSING, f"{folder} is missing")
        case NotADirectoryError():
            return Trouble(TroubleKind.ROOT_MISSING, f"{folder} is not a folder")
        case TimeoutError():
            return Trouble(TroubleKind.ROOT_SILENT, f"the file system of {folder} does not answer")
        case _:
            return Trouble(TroubleKind.ROOT_UNREADABLE, f"{folder} cannot be read: {trouble(error)}")


class RootLook:
    """Compares the folder with the one it was, again and again, with at most one question open.

    While `is_local` is set the answer is fetched at once (some microseconds); else from a thread,
    since a dead network mount never answers.
    """

    def __init__(self, folder: Path, look: Callable[[Path], tuple[int, int]]) -> None:
        self.is_local = False
        self._folder = folder
        self._look = look
        self._asked: asyncio.Task[tuple[int, int]] | None = None

    async def trouble(self, identity: RootIdentity | None) -> Trouble | None:
        """What is wrong with the folder now; None if it can be read and is that of `identity`, if given."""
        try:
            found = await self._answer()
        except OSError as error:
            return trouble_of(self._folder, error)
        if identity is None or found == (identity.dev, identity.ino):
            return None
        return Trouble(TroubleKind.ROOT_CHANGED, f"another folder lies at {self._folder} now")

    def give_up(self) -> None:
        """Wait no longer for an open question."""
        if self._asked is not None:
            self._asked.cancel()
            self._asked = None

    def _ask(self) -> asyncio.Task[tuple[int, int]]:
        asked = asyncio.create_task(aside(lambda: self._look(self._folder)))
        # An answer that comes when nobody waits any more is no error of the program.
        asked.add_done_callback(lambda task: task.cancelled() or task.exception())
        return asked

    async def _answer(self) -> tuple[int, int]:
        if self.is_local:
            return self._look(self._folder)
        patience = 0.0 if self._asked else LOOK_SECONDS
        asked = self._asked = self._asked or self._ask()
        await asyncio.wait([asked], timeout=patience)
        if not asked.done():
            raise TimeoutError
        self._asked = None
        return asked.result()
