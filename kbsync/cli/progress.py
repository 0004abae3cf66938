"""What is seen of a pass while it runs: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NoReturn

import structlog

from kbsync import logs
from kbsync.cli.paper import is_styled
from kbsync.contract.mirroring import TellsRoom
from kbsync.core.model import Status
from kbsync.core.sizes import sized

if TYPE_CHECKING:
    from tqdm import tqdm

    from kbsync.passes import Runs, Watcher
    from kbsync.state.store import Tx

PATIENCE = 0.4
"""Seconds a pass may take without a bar: most take less, and a bar that only flickers tells nothing."""

OFTEN, SELDOM = 0.25, 15.0
"""Seconds between two looks, for a terminal and for a log."""


@dataclass(frozen=True, slots=True)
class Reached:
    """How far all mirrors are: files that are settled (searchable or failed), of those that are wanted.

    `left`: bytes that the account with the least room still takes, where one tells.
    """

    settled: int
    wanted: int
    left: int | None = None


def watcher(*, quiet: bool) -> Watcher | None:
    """What shows progress on stderr; None where nobody wants to see it."""
    if quiet:
        return None
    return _bar if sys.stderr.isatty() and is_styled() else _lines


async def _look(runs: Runs) -> Reached:
    numbers = [run.mirror for run in runs.runs.values() if run.mirror]
    reached = await runs.store.read(lambda tx: _reached(tx, numbers))
    return replace(reached, left=min(_rooms(runs), default=None))


def _rooms(runs: Runs) -> Iterator[int]:
    for run in runs.runs.values():
        target = run.parts.target if run.parts is not None else None
        if isinstance(target, TellsRoom) and target.bytes_left is not None:
            yield target.bytes_left


def _reached(tx: Tx, mirrors: Iterable[int]) -> Reached:
    settled = open_ones = 0
    for mirror in mirrors:
        tally = tx.mirrors.tally(mirror)
        settled += sum(tally.get(status, 0) for status in (Status.READY, Status.FAILED, Status.HELD))
        open_ones += sum(tally.get(status, 0) for status in (Status.PENDING, Status.INDEXING))
    return Reached(settled, settled + open_ones)


async def _bar(runs: Runs) -> None:
    """A bar with rate and time left, gone when the pass is over."""
    await asyncio.sleep(PATIENCE)
    first = await _look(runs)
    with _drawn(", ".join(runs.runs), first) as bar:
        while True:
            now = await _look(runs)
            bar.total, bar.n = now.wanted or None, now.settled
            bar.set_postfix_str("" if now.left is None else f"{sized(now.left)} of space left", refresh=False)
            bar.refresh()
            await asyncio.sleep(OFTEN)


def _drawn(name: str, first: Reached) -> tqdm[NoReturn]:
    """A bar that is drawn when it is told to, by whoever tells it: it needs no thread and no lock."""
    from tqdm import tqdm

    tqdm.monitor_interval = 0
    tqdm.set_lock(threading.RLock())
    return tqdm(
        desc=name,
        total=first.wanted or None,
        initial=first.settled,
        unit="",
        leave=False,
        bar_format="{desc} |{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}{postfix}]",
        dynamic_ncols=True,
        nrows=2,  # one is needed; a terminal that does not tell has 0
        file=sys.stderr,
    )


async def _lines(runs: Runs) -> None:
    """A line in the log's own format now and then; a short pass has none."""
    log = structlog.wrap_logger(
        structlog.PrintLogger(sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logs.LEVELS["info"]),
    )
    began, first = time.monotonic(), await _look(runs)
    while True:
        await asyncio.sleep(SELDOM)
        now = await _look(runs)
        rate = _rate(now.settled - first.settled, time.monotonic() - began)
        room = {} if now.left is None else {"bytes_left": now.left}
        log.info("pass.progressed", settled=now.settled, wanted=now.wanted, rate=rate, **room)


def _rate(done: int, seconds: float) -> str:
    return f"{done / seconds:.1f}/s" if done > 0 and seconds > 0 else ""
