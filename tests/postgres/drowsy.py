"""Runs kbsync, suspended in the middle of its first change as by SIGSTOP, without noticing.

Usage: DROWSY=n python -m tests.postgres.drowsy ARGUMENTS (kbsync's own). It stops before the statement that
comes n after the one which locks its owner's row, at the latest before COMMIT; with `copy` in the middle of a
COPY, with `never` not at all. Transactions sleep for a second at most, and not for thirty.
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
    """What takes half a minute takes a second."""
    assert (connections.ASLEEP, store.ASLEEP) == (30, 30)
    connections._SET = connections._SET.replace("'30s'", "'1s'")
    store.ASLEEP = 1  # type: ignore[misc]


def fall_asleep() -> None:
    """All threads; this one goes on for a moment, in which it must not do anything."""
    os.kill(os.getpid(), signal.SIGSTOP)
    time.sleep(0.2)


def doze(at: int) -> None:
    """Stop before that statement, once."""
    own = threading.local()
    is_over = False

    def step(_: Any, statement: str) -> None:
        nonlocal is_over
        if statement == store._FENCE:
            own.count = 0
        elif statement.startswith("BEGIN"):
            own.count = None
        elif getattr(own, "count", None) is not None:
            own.count += 1
        count = getattr(own, "count", None)
        if not is_over and count is not None and (count == at or statement == "COMMIT"):
            is_over = True
            fall_asleep()

    between(pytest.MonkeyPatch(), step)


def doze_in_a_copy() -> None:
    """Stop where the first row of a COPY has been sent."""
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
        case at:
            doze(int(at))
    sys.exit(main())
