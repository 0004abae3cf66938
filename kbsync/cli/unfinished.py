"""Why a mirror lags behind its folder though nothing failed: nobody works on it, or it takes its time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kbsync.cli.paper import counted
from kbsync.cli.standing import Standing
from kbsync.config.durations import write_duration
from kbsync.core.printable import printable
from kbsync.core.spans import lasting
from kbsync.installation import Installation

LONGEST_PAUSE = 7200.0
"""Seconds between passes that say nothing: the timer that comes with kbsync makes one every hour."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What `--check` wants said: all that makes it fail. `max_age`: seconds, None where nothing may wait."""

    max_age: float | None = None


def unfinished(installation: Installation, stand: Standing, demand: Demand | None) -> Iterator[str]:
    """What a person should know of this mirror, with the command that helps."""
    name, run = stand.status.name, f"run: {installation.cure('--once')}"
    sentences = _sentences(stand, demand, run) if stand.has_passed else _before(stand, demand, run)
    for sentence in sentences:
        yield printable(f"{name}: {sentence}")


def _before(stand: Standing, demand: Demand | None, run: str) -> Iterator[str]:
    """No pass has ended; a halt tells for itself why."""
    if stand.is_in_first_pass:
        if demand is not None:
            yield "no pass has ended yet; the first one is under way"
    elif stand.status.halt is None:
        yield f"no pass has ended yet; {run}"
    elif stand.is_forsaken:
        yield f"no pass has ended yet and no kbsync is running; {run}"


def _sentences(stand: Standing, demand: Demand | None, run: str) -> Iterator[str]:
    max_age = None if demand is None else demand.max_age
    is_old = max_age is not None and stand.since_pass > max_age
    if stand.is_forsaken and stand.waiting:
        yield f"{_waiting(stand)} and no kbsync is running; {run}"
    elif stand.is_forsaken and not is_old and stand.since_pass > max(2 * stand.rescan, LONGEST_PAUSE):
        yield f"last pass {lasting(stand.since_pass)} ago and no kbsync is running; {run}"
    elif demand is not None and max_age is None and stand.waiting and stand.status.halt is None:
        yield f"{_waiting(stand)}, {_longest(stand)}"
    if max_age is not None:
        yield from _aged(stand, max_age, run)


def _aged(stand: Standing, max_age: float, run: str) -> Iterator[str]:
    """What is older than `max_age` seconds; beside a running kbsync no command helps."""
    limit, every = write_duration(max_age), write_duration(stand.rescan)
    if stand.since_pass > max_age:
        then = f"the running kbsync makes one every {every} (rescan)" if stand.is_worked_on else run
        yield f"last pass {lasting(stand.since_pass)} ago, older than {limit}; {then}"
    if stand.status.oldest_pending_s > max_age:
        yield f"{_waiting(stand)}, {_longest(stand)}, more than {limit}"


def _waiting(stand: Standing) -> str:
    return f"{counted(stand.waiting, 'document')} {'waits' if stand.waiting == 1 else 'wait'}"


def _longest(stand: Standing) -> str:
    return f"for {lasting(stand.status.oldest_pending_s)} at the longest"
