"""Removals of mirrors together with their documents, as requested on the web page or by `kbsync remove`.

    requested ──▶ running ──▶ done: the mirror is gone from the config, and its entry here is deleted
                      └─────▶ failed: the mirror continues, and the page shows why

The daemon carries them out (`kbsync.daemon`), and answers the command's request in the inbox. Nothing else is
on disk: the config is edited last, so if the daemon is killed before that, it restarts with the mirror and
uploads its documents again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from kbsync.dataclass import dataclass
from kbsync.errors import UsageError
from kbsync.forget import Holdings
from kbsync.installation import Installation
from kbsync.state.mirrors import BindingRecord


@dataclass(frozen=True, slots=True)
class MirrorRemoval:
    """The removal of one mirror. `documents`: how many documents it deletes. `deleted`: how many of them are
    already deleted.

    `at`: when it began, in epoch seconds. `problem`: why it failed, or '' while it is running. `message`: the
    number of the command's request, or 0 if it was requested on the page.
    """

    mirror: str
    at: float
    message: int = 0
    documents: int = 0
    deleted: int = 0
    problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the JSON for the page."""
        counts = {"documents": self.documents, "deleted": self.deleted}
        return {"at": self.at, **counts, "problem": self.problem}


class RemovalQueue:
    """The removals of one daemon. Change it only in the mirrors' event loop."""

    def __init__(self) -> None:
        self.current: Mapping[str, MirrorRemoval] = {}
        """Requested, running and failed removals by mirror.

        Each change replaces the mapping, so any thread may read it.
        """
        self.has_requests = asyncio.Event()
        self._requested: list[str] = []

    def request(self, mirror: str, installation: Installation, message: int = 0) -> None:
        """Request the removal of a mirror in the config. Raises the same `UsageError` as `check`."""
        self.check(mirror, installation)
        self._put(MirrorRemoval(mirror, time.time(), message))
        self._requested.append(mirror)
        self.has_requests.set()

    def check(self, mirror: str, installation: Installation) -> None:
        """Raise `UsageError` if the mirror is being removed, if every other mirror in the config is, or if
        the daemon was limited to some mirrors.
        """
        if installation.only:
            # The daemon would continue with the mirror, because it refuses a config without one.
            command = installation.command_line(f"remove {mirror}")
            raise UsageError(f"kbsync was started with --mirror; stop kbsync, then run: {command}")
        configured = {each.name for each in installation.config.mirrors}
        running = {name for name, removal in self.current.items() if not removal.problem}
        if mirror in running:
            raise UsageError(f"{mirror} is already being removed")
        if running and not configured - running - {mirror}:
            why = "the other mirrors are being removed, and a config needs at least one mirror"
            raise UsageError(f"{why}; add another folder first")

    def take(self) -> Sequence[str]:
        """Remove and return the newly requested mirrors."""
        requested, self._requested = self._requested, []
        self.has_requests.clear()
        return requested

    def begin(self, mirror: str, documents: int) -> None:
        """Record how many documents the removal will delete."""
        self._put(replace(self.current[mirror], documents=documents))

    def report(self, mirror: str, deleted: int) -> None:
        """Record how many documents have been deleted."""
        self._put(replace(self.current[mirror], deleted=deleted))

    def fail(self, mirror: str, problem: str) -> int:
        """Record why the removal failed. The reason is kept until the mirror's next removal.

        Return the number of the command's request, or 0 if there is none.
        """
        self._put(replace(self.current[mirror], problem=problem))
        return self.current[mirror].message

    def end(self, mirror: str) -> int:
        """Record that the mirror has been removed. Return the number of the command's request, or 0."""
        message = self.current[mirror].message
        self.current = {name: removal for name, removal in self.current.items() if name != mirror}
        return message

    def _put(self, removal: MirrorRemoval) -> None:
        self.current = {**self.current, removal.mirror: removal}


def holdings_json(name: str, holdings: Holdings | None) -> dict[str, Any]:
    """Return the documents that removing a mirror would delete, and those that it would leave behind."""
    if holdings is None:
        return {"mirror": name, "documents": 0, "unsure": 0, "bases": []}
    owned, bases = holdings.owned, list[tuple[BindingRecord, int, bool]]()
    if holdings.binding is not None and owned.documents:
        bases.append((holdings.binding, owned.documents, True))
    bases += [(leftover.base, leftover.documents, True) for leftover in holdings.leftovers]
    bases += [(former, documents, False) for former, documents in owned.elsewhere]
    listed = [
        {"base": base.location, "documents": documents, "deleted": is_deleted}
        for base, documents, is_deleted in bases
    ]
    return {"mirror": name, "documents": holdings.documents, "unsure": owned.unsure, "bases": listed}
