"""What is remembered of the clients of a base in memory."""

from __future__ import annotations

from dataclasses import dataclass

from kbsync.targets.memory.documents import Document


@dataclass(frozen=True, slots=True)
class Effect:
    """Something that changed at the base, at `time` of its clock.

    op: `put`, `update`, `ready`, `fail`, `delete`, `rename`, `reembed`, `reslice`, `replaced` (dropped by the
    base in favour of another); and what no client asked for: `added`, `lost`, `emptied`, `destroyed`,
    `recreated`.
    """

    op: str
    remote_id: str
    name: str
    digest: str
    time: float
    path: str = ""
    upload_id: int | None = None

    @classmethod
    def on(cls, document: Document, op: str, time: float) -> Effect:
        """What happened to `document`, as it is now."""
        one = document
        return cls(op, one.remote_id, one.name, one.digest, time, one.path, one.upload_id)


@dataclass(frozen=True, slots=True)
class Request:
    """A call that a client made, at `time` of the client's clock, about these names or ids."""

    op: str
    about: tuple[str, ...]
    time: float
