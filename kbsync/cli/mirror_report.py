"""How the mirrors are: what exit codes and closing words are made of."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any

from kbsync import __version__
from kbsync.cli.context import read_state
from kbsync.cli.exit_codes import ORDER, Code, worst
from kbsync.config.model import MirrorConfig
from kbsync.core.model import FileChoice, Status, UploadState
from kbsync.engine.halts import BAD_CONFIG, PASSING
from kbsync.engine.status import OUT_OF_DATE, MirrorStatus, mirror_status, never_ran
from kbsync.installation import Installation
from kbsync.state import lock
from kbsync.state.mirrors import MirrorRecord
from kbsync.state.read_only import Tx

if TYPE_CHECKING:
    from kbsync.once import PassEnd


LISTED = 20
"""How many documents of one kind are named; `status --documents` names all."""

LOOKED_AT = 1000
"""How many failed documents are looked at to see which have one reason: a look has to stay quick."""


@dataclass(frozen=True, slots=True)
class FailedPath:
    """A file or folder (`/` at its end) that failed, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class MirrorReport:
    """One mirror with the first of what failed and what is held, each with what about it; of the former many.

    `trouble`: why its pass could not end; `busy`: files that were still being written. `rate`: documents a
    second that became searchable of late. `rescan`: seconds after which a running kbsync compares
    the folder again. `is_worked_on`: some kbsync holds the state; None where that cannot be told. `at`: epoch
    seconds of this look.
    """

    status: MirrorStatus
    failed: tuple[FailedPath, ...] = ()
    held: tuple[tuple[str, str], ...] = ()
    trouble: str = ""
    busy: tuple[str, ...] = ()
    rate: float = 0.0
    rescan: float = 0.0
    is_worked_on: bool | None = None
    at: float = 0.0

    @property
    def waiting(self) -> int:
        """Documents that are not as searchable as they will be."""
        return self.status.documents.pending + self.status.documents.indexing

    @property
    def has_passed(self) -> bool:
        """The folder was compared as a whole at least once."""
        return self.status.last_pass is not None

    @property
    def since_pass(self) -> float:
        """Seconds since the folder was last compared as a whole; 0.0 before the first time."""
        last = self.status.last_pass
        return 0.0 if last is None else max(0.0, self.at - last)

    @property
    def is_in_first_pass(self) -> bool:
        """No pass has ended, and nothing but time is needed."""
        return bool(self.is_worked_on) and not self.has_passed and self.status.halt is None

    @property
    def is_unattended(self) -> bool:
        """Nobody works on it, which is sure."""
        return self.is_worked_on is False

    @property
    def code(self) -> Code:
        """The exit code of a pass that left this mirror so."""
        waits = self.trouble or self.busy or self.waiting or self.is_troubled
        return worst([self.settled_code, Code.PASSING if waits else Code.MIRRORED])

    @property
    def checked_code(self) -> Code:
        """The same; a mirror that never had a pass is not there yet."""
        return worst([self.code, Code.MIRRORED if self.has_passed else Code.PASSING])

    @property
    def is_troubled(self) -> bool:
        """It halted over what passes: its target does not answer, and the like."""
        return self.status.halt is not None and self.status.halt.reason in PASSING

    @property
    def settled_code(self) -> Code:
        """The same, leaving aside what still waits for its turn."""
        documents, halt = self.status.documents, self.status.halt
        needs_person = (halt is not None and not self.is_troubled) or documents.held
        return worst(
            [
                Code.USAGE if halt is not None and halt.reason == BAD_CONFIG else Code.MIRRORED,
                Code.PERSON if needs_person else Code.MIRRORED,
                Code.FAILED if documents.failed else Code.MIRRORED,
            ]
        )


def mirror_reports(
    installation: Installation, ends: Mapping[str, PassEnd] | None = None
) -> list[MirrorReport]:
    """How every mirror asked for stands; `ends`: how its pass ended."""
    is_worked_on = lock.holding(installation.state_dir)  # before what it does is seen: it may end meanwhile
    reports = []
    for mirror in installation.mirrors:
        look = partial(
            _mirror_report, installation=installation, mirror=mirror, end=(ends or {}).get(mirror.name)
        )
        found = read_state(installation, look)
        reports.append(replace(found, rescan=mirror.rescan, is_worked_on=is_worked_on, at=time.time()))
    return reports


def status_json(installation: Installation) -> dict[str, Any]:
    """`status --json` without documents."""

    def status(mirror: MirrorConfig) -> dict[str, Any]:
        return read_state(installation, lambda tx: status_in(tx, installation, mirror).to_json())

    return {"version": __version__, "mirrors": [status(mirror) for mirror in installation.mirrors]}


def status_in(
    tx: Tx, installation: Installation, mirror: MirrorConfig, *, documents: bool = False
) -> MirrorStatus:
    """The mirror's status; its `items` may be read while `tx` lasts."""
    record = tx.mirrors.named(mirror.name)
    if record is None:
        return never_ran(mirror.name, str(mirror.folder), mirror.target.type, documents=documents)
    return mirror_status(
        tx,
        record,
        now=time.time(),
        documents=documents,
        cure=installation.cure,
        at_work=lock.is_held(installation.state_dir),
    )


def _mirror_report(
    tx: Tx, installation: Installation, mirror: MirrorConfig, end: PassEnd | None
) -> MirrorReport:
    record, status = tx.mirrors.named(mirror.name), status_in(tx, installation, mirror)
    trouble, busy = ("", ()) if end is None else (end.trouble, end.busy)
    if record is None:
        return MirrorReport(status, trouble=trouble, busy=busy)
    is_working = status.documents.pending or status.documents.indexing
    rate = tx.uploads.rate(record.id, record.binding or 0, time.time()) if is_working else 0.0
    failed, held = islice(_failed(tx, record), LOOKED_AT), islice(_held(tx, record), LISTED)
    return MirrorReport(status, tuple(failed), tuple(held), trouble, busy, rate)


def _held(tx: Tx, record: MirrorRecord) -> Iterator[tuple[str, str]]:
    for entry in tx.entries.of_status(record.id, Status.HELD):
        uploads = tx.uploads.at(record.id, record.binding or 0, entry.path)
        is_asked = any(u.wanted_recipe for u in uploads)
        yield entry.path, "held as it is, though settings changed" if is_asked else "its deletion is held"


def _failed(tx: Tx, record: MirrorRecord) -> Iterator[FailedPath]:
    for folder in tx.folders.problems(record.id):
        if not folder.shut:
            yield FailedPath(f"{folder.path}/", folder.problem)
    for entry in tx.entries.of_status(record.id, Status.FAILED):
        # Why the file was refused, or the target's own words.
        uploads = tx.uploads.at(record.id, record.binding or 0, entry.path)
        # The latest attempt speaks: those before may have failed over something else.
        words = next((u.reason for u in reversed(uploads) if u.state is UploadState.FAILED), "")
        reason = entry.verdict.reason if entry.verdict.choice is FileChoice.REFUSED else words
        serves = any(u.state.serves for u in uploads)
        yield FailedPath(entry.path, f"{reason}; {OUT_OF_DATE}" if serves else reason)


def worst_first(reports: Sequence[MirrorReport]) -> list[MirrorReport]:
    """In the order of their exit codes; those of one code as they were."""
    order = [*ORDER, Code.MIRRORED]
    return sorted(reports, key=lambda each: order.index(each.checked_code))
