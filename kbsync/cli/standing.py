"""How the mirrors stand after a pass: what the exit code and the closing words are made of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from itertools import islice

from kbsync.assembly import Installation, glance
from kbsync.cli.exits import Code, worst
from kbsync.core.model import Status, UploadState
from kbsync.engine.once import PassEnd
from kbsync.state.mirrors import Halt, MirrorRecord
from kbsync.state.store import Tx

LISTED = 20
"""How many failed documents are named; `status --documents` names all."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A file or folder that failed, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Standing:
    """One mirror at the end of a pass. `tally` counts files by status; `failed` names the first of them.

    `shut`: folders that could not be listed. `trouble`: why the pass could not end, `busy`: files that were
    still being written.
    """

    name: str
    tally: dict[Status, int] = field(default_factory=dict)
    failed: tuple[Trouble, ...] = ()
    shut: tuple[Trouble, ...] = ()
    halt: Halt | None = None
    trouble: str = ""
    busy: tuple[str, ...] = ()

    def count(self, status: Status) -> int:
        """How many files have this status."""
        return self.tally.get(status, 0)

    @property
    def code(self) -> Code:
        """What this mirror alone says."""
        return worst(self._codes())

    def _codes(self) -> Iterator[Code]:
        if self.halt is not None or self.count(Status.HELD):
            yield Code.PERSON
        if self.trouble or self.busy or self.count(Status.PENDING) or self.count(Status.INDEXING):
            yield Code.PASSING
        if self.shut or self.count(Status.FAILED):
            yield Code.FAILED


def standings(installation: Installation, ends: dict[str, PassEnd]) -> list[Standing]:
    """How every mirror asked for stands."""
    state = glance(installation)
    if state is None:
        return [Standing(mirror.name) for mirror in installation.mirrors]
    with closing(state):
        names = [mirror.name for mirror in installation.mirrors]
        return [state.read(partial(_standing, name, ends.get(name))) for name in names]


def _standing(name: str, end: PassEnd | None, tx: Tx) -> Standing:
    record = tx.mirrors.named(name)
    trouble, busy = (end.trouble, end.busy) if end else ("", ())
    if record is None:
        return Standing(name, trouble=trouble, busy=busy)
    return Standing(
        name,
        tx.mirrors.tally(record.id),
        tuple(islice(_failed(tx, record), LISTED)),
        tuple(Trouble(f"{row.path}/".lstrip("/"), row.problem) for row in tx.folders.problems(record.id)),
        record.halt,
        trouble,
        busy,
    )


def _failed(tx: Tx, record: MirrorRecord) -> Iterator[Trouble]:
    for entry in tx.entries.of_status(record.id, Status.FAILED):
        yield Trouble(entry.path, _reason(tx, record, entry.path) or entry.verdict.reason)


def _reason(tx: Tx, record: MirrorRecord, path: str) -> str:
    """The target's own words for a document that it refused."""
    uploads = tx.uploads.at(record.id, record.binding or 0, path)
    return next((u.reason for u in reversed(uploads) if u.state is UploadState.FAILED), "")


def code_of_pass(standings: Sequence[Standing]) -> Code:
    """The exit code of a pass over these mirrors."""
    return worst(standing.code for standing in standings)
