"""Mirrors and the knowledge bases that they are bound to, small facts about them, and their pauses."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from kbsync.core.model import RootIdentity, Status
from kbsync.core.quiet_hours import QuietHours, current_period
from kbsync.dataclass import dataclass
from kbsync.state.db import Table, bind, unbind


@dataclass(frozen=True, slots=True)
class Halt:
    """Why a mirror is halted: the reason as defined in the contract, a sentence, and a command that may fix
    it.
    """

    reason: str
    detail: str
    fix: str


@dataclass(frozen=True, slots=True)
class MirrorRecord:
    """A mirror as stored. `root` is the folder of its last run.

    `hold_all`: whether the next pass asks before every deletion. `location`: the bound base, in the config's
    terms.
    """

    id: int
    name: str
    folder: str
    target: str
    binding: int | None
    root: RootIdentity | None
    halt: Halt | None
    hold_all: bool
    note: str
    last_pass: float | None
    last_deep: float | None
    location: str


@dataclass(frozen=True, slots=True)
class BindingRecord:
    """A binding: one knowledge base under one prefix. Every document belongs to a binding."""

    id: int
    target: str
    address: str
    base: str
    prefix: str

    @property
    def file(self) -> Path | None:
        """The file of a built-in knowledge base, or None for one hosted by a service."""
        if not self.address.startswith("file://"):
            return None
        return Path(os.fsdecode(unquote_to_bytes(self.address.removeprefix("file://"))))

    @property
    def folder(self) -> Path | None:
        """The folder of a built-in knowledge base, or None for one hosted by a service."""
        return None if self.file is None else self.file.parent

    @property
    def location(self) -> str:
        """Return the location as text for users."""
        # A LightRAG server has only one base, whose id is the address.
        base = "" if self.base == self.address else f" {self.base}"
        return str(self.folder or f"{self.target}{base} at {self.address}")


_SELECT = (
    "SELECT id, name, folder, target, binding, root_dev, root_ino, root_fs, root_is_mount, root_mount,"
    " halt_reason, halt_detail, halt_cure, hold_all, note, last_pass, last_deep, location FROM mirror "
)


def _read(row: tuple[Any, ...]) -> MirrorRecord:
    number, name, folder, target, binding, *columns = row
    dev, ino, fs, is_mount, mount, reason, detail, fix, hold_all, note, last_pass, last_deep, location = (
        columns
    )
    return MirrorRecord(
        id=number,
        name=name,
        folder=unbind(folder),
        target=target,
        binding=binding,
        root=None if ino is None else RootIdentity(dev, ino, fs, bool(is_mount), mount),
        halt=None if reason is None else Halt(reason, unbind(detail), unbind(fix)),
        hold_all=bool(hold_all),
        note=note or "",
        last_pass=last_pass,
        last_deep=last_deep,
        location=location,
    )


class Mirrors(Table):
    """Reads and writes mirror and binding rows on one connection."""

    def all(self) -> list[MirrorRecord]:
        """Return all mirrors that have ever been in the config, except forgotten ones, ordered by name."""
        return [_read(row) for row in self._db.execute(_SELECT + "ORDER BY name")]

    def get(self, mirror: int) -> MirrorRecord:
        """Return the mirror with this id, which must exist."""
        row = self._db.execute(_SELECT + "WHERE id = ?", (mirror,)).fetchone()
        assert row is not None, f"no mirror {mirror}"
        return _read(row)

    def named(self, name: str) -> MirrorRecord | None:
        """Return the mirror with this name."""
        row = self._db.execute(_SELECT + "WHERE name = ?", (bind(name),)).fetchone()
        return None if row is None else _read(row)

    def add(self, name: str, folder: str, target: str) -> MirrorRecord:
        """Add a mirror."""
        self._db.execute(
            "INSERT INTO mirror(name, folder, target) VALUES(?, ?, ?)", (name, bind(folder), target)
        )
        return self.get(self._db.last_insert_rowid())

    def attach(self, mirror: int, name: str, folder: str, target: str) -> None:
        """Store the name, folder and target that the mirror has in the config."""
        self._set(mirror, name=name, folder=bind(folder), target=target)

    def _set(self, mirror: int, **values: str | bytes | float | None) -> None:
        columns = ", ".join(f"{column} = ?" for column in values)
        self._db.execute(f"UPDATE mirror SET {columns} WHERE id = ?", (*values.values(), mirror))  # noqa: S608

    def set_root(self, mirror: int, root: RootIdentity) -> None:
        """Store the root's identity."""
        self._set(
            mirror,
            root_dev=root.dev,
            root_ino=root.ino,
            root_fs=root.fs_type,
            root_is_mount=root.is_mount,
            root_mount=root.mount,
        )

    def set_halt(self, mirror: int, halt: Halt | None) -> None:
        """Set or clear the reason why the mirror is waiting for the user."""
        if halt is None:
            self._set(mirror, halt_reason=None, halt_detail=None, halt_cure=None)
        else:
            detail, fix = bind(halt.detail), bind(halt.fix)
            self._set(mirror, halt_reason=halt.reason, halt_detail=detail, halt_cure=fix)

    def set_note(self, mirror: int, note: str) -> None:
        """Set a notice for the user that doesn't halt the mirror."""
        self._set(mirror, note=note)

    def set_hold_all(self, mirror: int, hold: bool) -> None:
        """Set whether every deletion needs approval, no matter how few there are."""
        self._set(mirror, hold_all=hold)

    def pass_ended(self, mirror: int, now: float, deep: bool) -> None:
        """Record when the whole folder was last compared."""
        self._set(mirror, last_pass=now)
        if deep:
            self._set(mirror, last_deep=now)

    def bind_to(
        self, mirror: int, target: str, address: str, base: str, prefix: str, location: str = ""
    ) -> int:
        """Bind the mirror to this base, which is at `location` in the config.

        If the binding is new, create it.
        """
        key = (target, address, base, prefix)
        number = self.binding_for(*key)
        if number is None:
            sql = "INSERT INTO binding(target, address, base, prefix) VALUES(?, ?, ?, ?)"
            self._db.execute(sql, key)
            number = self._db.last_insert_rowid()
        self._set(mirror, binding=number, location=location)
        return number

    def base_moved(self, target: str, base: str, address: str) -> None:
        """Record the new address of a base that is identified by its id alone."""
        for table in ("binding", "forgotten"):
            sql = f"UPDATE OR IGNORE {table} SET address = ? WHERE target = ? AND base = ?"  # noqa: S608
            self._db.execute(sql, (address, target, base))

    def set_prefix(self, binding: int, prefix: str) -> None:
        """Record that the names of the same documents now have a different prefix."""
        self._db.execute("UPDATE binding SET prefix = ? WHERE id = ?", (prefix, binding))

    def binding_for(self, target: str, address: str, base: str, prefix: str) -> int | None:
        """Return the binding for this base, if there is one."""
        row = self._db.execute(
            "SELECT id FROM binding WHERE target = ? AND address = ? AND base = ? AND prefix = ?",
            (target, address, base, prefix),
        ).fetchone()
        return None if row is None else int(row[0])

    def binding(self, binding: int) -> BindingRecord | None:
        """Return the binding with this id."""
        row = self._db.execute(
            "SELECT id, target, address, base, prefix FROM binding WHERE id = ?", (binding,)
        ).fetchone()
        return None if row is None else BindingRecord(*row)

    def remove_unused_bindings(self) -> None:
        """Forget bindings that no mirror and no upload uses."""
        # A leftover row would mark its base as adopted, so a mirror created again would send everything a
        # second time.
        rows = self._db.execute(
            "SELECT id FROM binding WHERE id NOT IN (SELECT binding FROM mirror WHERE binding IS NOT NULL)"
            " AND id NOT IN (SELECT DISTINCT binding FROM upload)"
        )
        for number in [int(row[0]) for row in rows]:
            Meta(self._db).forget(BindingFact, number)
            self._db.execute("DELETE FROM binding WHERE id = ?", (number,))

    def is_adopted(self, binding: int) -> bool:
        """Return whether the documents that already existed in the base were adopted."""
        row = self._db.execute("SELECT adopted FROM binding WHERE id = ?", (binding,)).fetchone()
        return bool(row and row[0])

    def set_adopted(self, binding: int, *, adopted: bool = True) -> None:
        """Set whether the documents that already existed in the base were adopted."""
        self._db.execute("UPDATE binding SET adopted = ? WHERE id = ?", (adopted, binding))

    def tally(self, mirror: int) -> dict[Status, int]:
        """Return how many files are in each status. This takes constant time."""
        rows = self._db.execute("SELECT status, n FROM tally WHERE mirror = ?", (mirror,))
        return {Status(status): n for status, n in rows}

    def remove(self, mirror: int) -> None:
        """Forget a mirror and all its rows."""
        self._db.execute(
            "DELETE FROM entry WHERE folder IN (SELECT id FROM folder WHERE mirror = ?)", (mirror,)
        )
        tables = "folder upload removal recipe_change hold deletion_log tally serving history"
        for table in tables.split():
            self._db.execute(f"DELETE FROM {table} WHERE mirror = ?", (mirror,))  # noqa: S608
        Meta(self._db).forget(MirrorFact, mirror)
        self._db.execute("DELETE FROM mirror WHERE id = ?", (mirror,))


class MirrorFact(StrEnum):
    """Facts about a mirror."""

    AUDIT = "audit"  # findings of the last audit
    AUDIT_REQUEST = "audit-request"  # the message that requests the next audit
    BASE_NAME = "base"  # the pending new name of its embedded base, after a rename of the mirror
    DECISION_TERMS = "terms"  # the terms under which its files were decided
    PAUSE = "pause"  # see `Pauses`
    POLLING = "polling"  # why the kbsync that last watched the folder polled it, or "" for events
    RESUMED = "resumed"  # when a user last ended a pause, if that was in quiet hours
    SCANS = "scans"  # "yes" if scanned pages were read when the mirror last ran
    NOTE = "note"  # the target's last notice that didn't halt the mirror
    SETTINGS = "settings"  # the part of the terms that the user sets


DAEMON = 0
"""The owner's id for facts about the daemon. No mirror or binding has this id, because their ids start at 1.
"""


class DaemonFact(StrEnum):
    """Facts about the daemon that uses the state."""

    REFUSED_CONFIG = "refused"  # why the daemon refused the current config


class BindingFact(StrEnum):
    """Facts about a binding."""

    LAG = "lag"  # the lag of the base's list
    REVISION = "revision"  # the highest known revision of the base
    TIMES = "times"  # whether the base's times agree with the clock
    WRITER = "writer"  # the states that last wrote to the base


class Meta(Table):
    """Small facts about the daemon and, by id, about mirrors and bindings.

    The latter are deleted together with the mirror or binding.
    """

    def get(self, fact: MirrorFact | BindingFact | DaemonFact, owner: int) -> str:
        """Return the fact, or ''."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (f"{fact}:{owner}",)).fetchone()
        return "" if row is None else str(row[0])

    def set(self, fact: MirrorFact | BindingFact | DaemonFact, owner: int, value: str) -> None:
        """Store the fact."""
        key = f"{fact}:{owner}"
        self._db.execute("INSERT OR REPLACE INTO meta(key, value) VALUES(?, ?)", (key, value))

    def forget(self, facts: type[MirrorFact] | type[BindingFact], owner: int) -> None:
        """Delete all facts about a mirror or a binding, because its id may be reused."""
        keys = ((f"{fact}:{owner}",) for fact in facts)
        self._db.executemany("DELETE FROM meta WHERE key = ?", keys)


MAX_PAUSE = 366 * 86400.0
"""Maximum length, in seconds, of a pause that ends automatically."""


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause of a mirror, with the times when it began and when it ends by itself, in epoch seconds.

    `until` is None if only a user can end it. `is_quiet`: whether quiet hours began it, rather than a user.
    """

    since: float
    until: float | None = None
    is_quiet: bool = False


class Pauses(Table):
    """Reads and writes pauses on one connection. A pause is deleted with its mirror.

    The row in the state is the only copy. Commands write it, whether or not kbsync is running; the daemon
    writes it when quiet hours begin. Each transaction that begins an upload or a deletion reads the row, so
    none begins once the pause is on disk.
    """

    def begin(self, mirror: int, pause: Pause) -> None:
        """Pause the mirror. This replaces any earlier pause."""
        Meta(self._db).set(MirrorFact.PAUSE, mirror, json.dumps(asdict(pause)))

    def current(self, mirror: int, now: float) -> Pause | None:
        """Return the mirror's pause, unless it is over at `now`.

        If the clock has been set back since the pause began, let the pause begin now, so that it doesn't last
        longer than requested.
        """
        pause = self.stored(mirror)
        if pause is None or pause.until is None:
            return pause
        if pause.since > now:
            pause = Pause(now, now + pause.until - pause.since, pause.is_quiet)
        return None if pause.until is not None and now >= pause.until else pause

    def stored(self, mirror: int) -> Pause | None:
        """Return the mirror's pause, even if it is over but hasn't been deleted yet."""
        known = Meta(self._db).get(MirrorFact.PAUSE, mirror)
        return Pause(**json.loads(known)) if known else None

    def end(self, mirror: int, now: float, quiet_hours: Iterable[QuietHours]) -> None:
        """End the mirror's pause, if there is one. This also ends the current `quiet_hours`."""
        meta = Meta(self._db)
        meta.set(MirrorFact.PAUSE, mirror, "")
        # Quiet hours added to the config later still begin, even if their period began before now.
        meta.set(MirrorFact.RESUMED, mirror, str(now) if current_period(quiet_hours, now) else "")

    def due(self, mirror: int, quiet: Pause | None, now: float) -> Pause | None:
        """Return the pause that should apply now.

        `quiet`: the current quiet hours, or None outside quiet hours. A user's pause takes precedence. Quiet
        hours that a user has ended don't begin again.
        """
        pause = self.current(mirror, now)
        if pause is not None and not pause.is_quiet:
            return pause
        resumed = Meta(self._db).get(MirrorFact.RESUMED, mirror)
        if quiet is None or quiet.until is None or not resumed:
            return quiet
        # A later time comes from a clock that ran ahead.
        return None if quiet.since <= float(resumed) < quiet.until else quiet

    def follow(self, mirror: int, quiet: Pause | None, now: float) -> None:
        """Apply the pause that is due.

        Delete one that is over, because setting back the clock would revive it.
        """
        pause = self.due(mirror, quiet, now)
        Meta(self._db).set(MirrorFact.PAUSE, mirror, json.dumps(asdict(pause)) if pause else "")
