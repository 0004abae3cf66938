"""The list of a base, which may lag behind what the base holds."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from kbsync.targets.memory.agenda import Agenda
from kbsync.targets.memory.documents import Document, Ghost


class Listing:
    """Which documents the list shows. A lag is given in seconds and in complete reads; the later counts."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self._ghosts: list[Ghost] = []

    def hide(self, document: Document, seconds: float, reads: int) -> None:
        """A new document is not listed yet."""
        document.hidden_until = self._agenda.now + seconds
        document.hidden_reads = reads

    def keep(self, document: Document, seconds: float, reads: int) -> None:
        """A deleted document is still listed."""
        self._ghosts.append(Ghost(document, self._agenda.now + seconds, reads))

    def read(self, documents: Collection[Document]) -> Sequence[Document]:
        """What of `documents` is listed now, and what is listed though deleted; counts as one read."""
        now = self._agenda.now
        shown = [d for d in documents if d.hidden_reads <= 0 and now >= d.hidden_until]
        self._ghosts = [ghost for ghost in self._ghosts if ghost.reads > 0 or now < ghost.until]
        shown += [ghost.document for ghost in self._ghosts]
        for document in documents:
            document.hidden_reads -= 1
        for ghost in self._ghosts:
            ghost.reads -= 1
        return shown

    def clear(self) -> None:
        """Nothing that was deleted is listed any more."""
        self._ghosts.clear()
