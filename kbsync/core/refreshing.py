"""When the page of a link document is fetched anew, and what became of that: steps of a row that serves.

Such a row is due (`next_look_at`) to be weighed, asked about or asked for; `looked_at` is when its page was
fetched last, `looks` counts failures in a row. The document serves all the while. A due time is never
further away than the interval, whatever the clock did, and time that a clock was set forward brings one
fetch and not many. A request that was cut off is looked for: where nothing shows that it arrived it is made
again, after pauses that grow with each such end, so that a program that ends again and again asks seldom.
Pure.
"""

from __future__ import annotations

from dataclasses import replace

from kbsync.core.lifecycle import Timing
from kbsync.core.model import Upload, UploadState

ASKING, ASKED, AGAIN = "refresh-asking", "refreshing", "refresh-failed"
"""Codes of a row: the request may be on its way, was accepted, or came to nothing and is to be repeated."""

WEIGHED = ""
SPREAD = 0.1
"""Part of an interval by which due times differ, so that pages listed together are not fetched together."""

PAUSE = 900.0
LONGEST_PAUSE = 86400.0


def is_under_way(upload: Upload) -> bool:
    """Its page is being fetched, or may be, for all we know."""
    return upload.state is UploadState.SERVING and upload.code in (ASKING, ASKED)


def is_due(upload: Upload, interval: float, now: float) -> bool:
    """Its page is to be fetched now. A time in the future is no time at all: the clock was set back."""
    return upload.code == AGAIN or now >= _last(upload, now) + interval


def put_off(upload: Upload, interval: float, rhythm: Timing) -> Upload:
    """Not due: looked at again when it is."""
    last = _last(upload, rhythm.now)
    wait = last + interval * (1 + SPREAD * rhythm.chance()) - rhythm.now
    return replace(upload, looked_at=last, next_look_at=rhythm.now + max(wait, 1.0), code=WEIGHED)


def never(upload: Upload) -> Upload:
    """Nobody wants it fetched anew."""
    return replace(upload, next_look_at=None, code=WEIGHED, reason="", looks=0)


def later(upload: Upload, rhythm: Timing) -> Upload:
    """It is about to be replaced: looked at again in a while, should that come to nothing."""
    return replace(upload, next_look_at=rhythm.now + PAUSE)


def ask(upload: Upload, rhythm: Timing) -> Upload:
    """On disk before the request: one that was cut off is looked for."""
    return replace(upload, code=ASKING, elapsed=0.0, next_look_at=rhythm.now + _first_look(rhythm))


def asked(upload: Upload, rhythm: Timing) -> Upload:
    """The request was accepted, or may have been."""
    now = rhythm.now
    return replace(upload, code=ASKED, looked_at=now, elapsed=0.0, next_look_at=now + _first_look(rhythm))


def wait_on(upload: Upload, rhythm: Timing) -> Upload:
    """It is being fetched."""
    wait = max(rhythm.limits.poll_longest, 1.0)
    return replace(upload, elapsed=upload.elapsed + wait, next_look_at=rhythm.now + wait)


def is_overdue(upload: Upload, rhythm: Timing) -> bool:
    """It has been fetched for longer than the target is given."""
    return upload.elapsed >= rhythm.limits.give_up


def fetched(upload: Upload, rhythm: Timing) -> Upload:
    """The page as it is now is searchable; weighed next, to find its due time."""
    return replace(upload, code=WEIGHED, reason="", looks=0, elapsed=0.0, next_look_at=rhythm.now)


def failed(upload: Upload, reason: str, rhythm: Timing, wait: float | None = None) -> Upload:
    """It was not fetched: repeated after pauses that grow to a day. `wait`: the target's wish in seconds."""
    pause = min(LONGEST_PAUSE, PAUSE * 2.0 ** min(upload.looks, 10))
    due = rhythm.now + max(pause, wait or 0.0)
    return replace(upload, code=AGAIN, reason=reason, looks=upload.looks + 1, elapsed=0.0, next_look_at=due)


def wakened(upload: Upload, now: float) -> Upload:
    """To be weighed, as after a new setting."""
    return replace(upload, next_look_at=now)


def words_of(upload: Upload) -> str:
    """What a person should know of its last fetch; "" where all is well."""
    return upload.reason if upload.code in (ASKING, ASKED, AGAIN) else ""


def _first_look(rhythm: Timing) -> float:
    """Seconds after a request; a state that is shown earlier may be the old one."""
    return max(rhythm.limits.poll_first, rhythm.limits.reembed_grace)


def _last(upload: Upload, now: float) -> float:
    """When its page was fetched last, and never in the future."""
    known = [at for at in (upload.looked_at, upload.accepted_at) if at is not None]
    return min(now, max(known, default=now))
