"""Pauses of mirrors, started by users or quiet hours.

The row in the state is the only copy. Commands write it, whether or not kbsync is running; the daemon writes
it when quiet hours begin. Each transaction that begins an upload or a deletion reads it, so none begins once
the pause is on disk.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict

from kbsync.core.quiet_hours import QuietHours, current_period
from kbsync.dataclass import dataclass
from kbsync.state.db import Table
from kbsync.state.inbox import Meta, MirrorFact

MAX_PAUSE = 366 * 86400.0
"""Maximum length, in seconds, of a pause that ends by itself."""


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause: when it began and when it ends by itself, in epoch seconds. `until` None: only a user ends
    it. `is_quiet`: quiet hours, not a user, began it."""

    since: float
    until: float | None = None
    is_quiet: bool = False


class Pauses(Table):
    """Reads and writes pauses on one connection. A pause is deleted with its mirror."""

    def begin(self, mirror: int, pause: Pause) -> None:
        """Pause the mirror; replaces an earlier pause."""
        Meta(self._db).set(MirrorFact.PAUSE, mirror, json.dumps(asdict(pause)))

    def current(self, mirror: int, now: float) -> Pause | None:
        """Return the mirror's pause, unless it is over at `now`.

        If the clock was set back since it began, it begins now: it must not take longer than requested.
        """
        pause = self.stored(mirror)
        if pause is None or pause.until is None:
            return pause
        if pause.since > now:
            pause = Pause(now, now + pause.until - pause.since, pause.is_quiet)
        return None if pause.until is not None and now >= pause.until else pause

    def stored(self, mirror: int) -> Pause | None:
        """Return the mirror's pause, even if it is over but not deleted yet."""
        known = Meta(self._db).get(MirrorFact.PAUSE, mirror)
        return Pause(**json.loads(known)) if known else None

    def end(self, mirror: int, now: float, quiet_hours: Iterable[QuietHours]) -> None:
        """End the mirror's pause, if there is one; its current `quiet_hours` are over, too."""
        meta = Meta(self._db)
        meta.set(MirrorFact.PAUSE, mirror, "")
        # Quiet hours that the config gets later begin, even if their period began before now.
        meta.set(MirrorFact.RESUMED, mirror, str(now) if current_period(quiet_hours, now) else "")

    def due(self, mirror: int, quiet: Pause | None, now: float) -> Pause | None:
        """Return the pause that should apply now. `quiet`: the current quiet hours; None outside of quiet
        hours.

        A user's pause takes precedence. Quiet hours that a user has ended don't begin again.
        """
        pause = self.current(mirror, now)
        if pause is not None and not pause.is_quiet:
            return pause
        resumed = Meta(self._db).get(MirrorFact.RESUMED, mirror)
        return None if quiet is None or (resumed and float(resumed) >= quiet.since) else quiet

    def follow(self, mirror: int, quiet: Pause | None, now: float) -> None:
        """Apply the pause that is due. Deletes one that is over: a clock set back would revive it."""
        pause = self.due(mirror, quiet, now)
        Meta(self._db).set(MirrorFact.PAUSE, mirror, json.dumps(asdict(pause)) if pause else "")
