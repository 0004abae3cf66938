"""Runs kbsync and suspends it in the middle of its first change, as SIGSTOP does, without its knowledge.

Usage: DROWSY=n python -m tests.postgres.drowsy ARGUMENTS (kbsync's own). It stops before the statement that
    comes n after the one that locks its owner's row, at the latest before COMMIT; with `copy` in the middle
    of a COPY, with `never` not at all. Transactions may idle for one second instead of thirty.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

import psycopg
import pytest

from kbsync.__main__ import main
from kbsync.index.postgres import connections, store
from tests.postgres.base import between


def hurry() -> None:
    """Shorten half a minute to a second."""
    assert (connections.ASLEEP, store.ASLEEP) == (30, 30)
    connections._SET = connections._SET.replace("'30s'", "'1s'")
    store.ASLEEP = 1  # type: ignore[misc]


def fall_asleep() -> None:
    """Suspend all threads; this one runs for a moment longer, in which it must do nothing."""
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(0.2)


def doze(stop_at: int) -> None:
    """Stop before that statement, once."""
    per_thread = threading.local()
    is_over = False

    def step(_: Any, statement: str) -> None:
        nonlocal is_over
        if statement == store._FENCE:
            per_thread.count = 0
        elif statement.startswith("BEGIN"):
            per_thread.count = None
        elif getattr(per_thread, "count", None) is not None:
            per_thread.count += 1
        count = getattr(per_thread, "count", None)
        if not is_over and count is not None and (count == stop_at or statement == "COMMIT"):
            is_over = True
            fall_asleep()

    between(pytest.MonkeyPatch(), step)


def doze_in_a_copy() -> None:
    """Stop after the first row of a COPY was sent."""
    write_row = psycopg.Copy.write_row

    def write_and_stop(copy: psycopg.Copy, row: Any) -> None:
        write_row(copy, row)
        psycopg.Copy.write_row = write_row  # type: ignore[method-assign]
        fall_asleep()

    psycopg.Copy.write_row = write_and_stop  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    hurry()
    match os.environ.get("DROWSY", "never"):
        case "never":
            pass
        case "copy":
            doze_in_a_copy()
        case count:
            doze(int(count))
    sys.exit(main())
