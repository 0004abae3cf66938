"""Tests signals before the loop exists, and while the main thread is busy."""

from __future__ import annotations

import os
import signal
import threading

import apsw
import pytest

from kbsync.signals import Signals

NUMBER = signal.SIGUSR1
PATIENCE = 60.0


def test_signals_before_registration_are_delivered_once_and_first() -> None:
    arrived, received = threading.Semaphore(0), list[int]()
    with Signals([NUMBER, signal.SIGUSR2], lambda _number: arrived.release()) as signals:
        os.kill(os.getpid(), NUMBER)
        assert arrived.acquire(timeout=PATIENCE)
        with signals.forward_to(received.append):
            os.kill(os.getpid(), signal.SIGUSR2)
            assert arrived.acquire(timeout=PATIENCE)
        with signals.forward_to(received.append):
            pass
    assert received == [NUMBER, signal.SIGUSR2]


def test_signal_is_handled_during_a_long_call_in_the_main_thread() -> None:
    database = apsw.Connection(":memory:")
    numbers = iter([NUMBER])
    database.create_scalar_function(
        "begun", lambda: next((os.kill(os.getpid(), number) for number in numbers), 0), 0
    )
    endless = """WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000)
        SELECT count(*) FROM n WHERE begun() = 0"""
    with Signals([NUMBER], lambda _number: database.interrupt()), pytest.raises(apsw.InterruptError):
        database.execute(endless).fetchall()
    database.close()


def test_signal_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.set_wakeup_fd(-1), threading.active_count()
    with Signals([signal.SIGTERM]):
        pass
    assert (signal.getsignal(signal.SIGTERM), signal.set_wakeup_fd(-1), threading.active_count()) == before
