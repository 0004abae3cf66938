"""Tests signals before the loop exists, and while the main thread is busy."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

import apsw
import pytest

from kbsync.signals import HardEnd, Signals
from tests.share import long

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


BUSY_WITHOUT_MEMORY = """
import resource, signal, time
from kbsync.signals import HardEnd, Signals
from tests.share import long
with HardEnd() as end, Signals([signal.SIGTERM], lambda number: end.arm(128 + number)):
    # No new thread gets a stack.
    resource.setrlimit(resource.RLIMIT_AS, (2**20, resource.RLIM_INFINITY))
    print("busy", flush=True)
    while True:
        time.sleep(0.1)
"""


@long
def test_busy_process_ends_although_it_can_start_no_thread() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY_WITHOUT_MEMORY], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"busy\n"
        process.terminate()
        try:
            assert process.wait(PATIENCE) == 128 + signal.SIGTERM
        finally:
            process.kill()


@pytest.mark.parametrize("is_armed", [True, False])
def test_process_continues_once_its_work_is_over(monkeypatch: pytest.MonkeyPatch, is_armed: bool) -> None:
    ends = list[int]()
    monkeypatch.setattr(os, "_exit", ends.append)
    with HardEnd() as end:
        [waiting] = [thread for thread in threading.enumerate() if thread.name == "kbsync-end"]
        if is_armed:
            end.arm(143)
    waiting.join(PATIENCE)
    assert not waiting.is_alive()
    assert ends == []
