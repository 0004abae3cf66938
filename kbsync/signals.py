"""Signals from the first moment on: none is lost before the loop runs, and none waits for a busy loop."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Collection, Iterator

ENDING = (signal.SIGTERM, signal.SIGINT)

STOP_LATEST = 1.3
"""Seconds; SIGTERM has two in all. A thread that parses or embeds cannot be cut off, but the process can: the
journal is made for that."""

Tell = Callable[[int], None]
"""Gets the number of a signal, in a thread that only listens."""


def find_terminal() -> int | None:
    """The stream that is a terminal; None where this process has none or is to outlive it.

    A person who starts it with SIGHUP ignored, as `nohup` does, wants it to go on.
    """
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return None
    return next((stream for stream in (0, 1, 2) if os.isatty(stream)), None)


@contextlib.contextmanager
def hangup_with(terminal: int) -> Iterator[None]:
    """Within, this process gets SIGHUP when the terminal is closed.

    The kernel sends it to processes in the foreground only, and not every shell passes it on to the others.
    """
    watched, (near, far) = os.dup(terminal), socket.socketpair()

    def wait() -> None:
        poll = select.poll()
        # No events: poll reports a hangup in any case.
        poll.register(watched, 0)
        poll.register(far, select.POLLIN)
        if any(number == watched for number, _ in poll.poll()):
            os.kill(os.getpid(), signal.SIGHUP)

    waiting = threading.Thread(target=wait, name="kbsync-terminal", daemon=True)
    waiting.start()
    try:
        yield
    finally:
        near.close()
        waiting.join()
        far.close()
        os.close(watched)


class HardEnd:
    """Within, the process can be ended whatever its threads are doing; nothing happens before `arm`."""

    def __init__(self) -> None:
        self._code: int | None = None
        self._timer: threading.Timer | None = None

    def arm(self, code: int) -> None:
        """End the process with this code in `STOP_LATEST` seconds, unless it has ended by then."""
        if self._timer is None:
            self._code = code
            self._timer = threading.Timer(STOP_LATEST, os._exit, (code,))
            self._timer.daemon = True
            self._timer.start()

    def now(self) -> None:
        """End the process now if `arm` was called: all is recorded, and threads need not be waited for."""
        if self._code is not None:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            os._exit(self._code)

    def __enter__(self) -> HardEnd:
        return self

    def __exit__(self, *_error: object) -> None:
        """The process goes on."""
        if self._timer is not None:
            self._timer.cancel()


class Signals:
    """Within, signals of these `numbers` are only reported, in their order.

    `at_once` is called even while the main thread is in a long call, such as one that opens a large state.
    Enter it in the main thread, and before other threads or a loop listen for signals.
    """

    def __init__(self, numbers: Collection[int], at_once: Tell = lambda _number: None) -> None:
        self._numbers = frozenset(numbers)
        self._at_once = at_once
        self._lock = threading.Lock()
        self._waiting: list[int] = []
        self._tell: Tell | None = None
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Signals:
        near, far = socket.socketpair()
        far.setblocking(False)
        listening = threading.Thread(target=self._listen, args=(near,), name="kbsync-signals", daemon=True)
        listening.start()
        self._undo.callback(listening.join)
        self._undo.callback(far.close)
        self._undo.callback(
            signal.set_wakeup_fd, signal.set_wakeup_fd(far.fileno(), warn_on_full_buffer=False)
        )
        for number in self._numbers:
            # The handler does nothing: the wake-up descriptor has the signal already.
            before = signal.signal(number, lambda _number, _frame: None)
            self._undo.callback(signal.signal, number, before)
        return self

    def __exit__(self, *_error: object) -> None:
        self._undo.close()

    def _listen(self, near: socket.socket) -> None:
        with near:
            while heard := near.recv(64):
                for number in heard:
                    if number in self._numbers:
                        self._at_once(number)
                        with self._lock:
                            (self._tell or self._waiting.append)(number)

    @contextlib.contextmanager
    def told_to(self, tell: Tell) -> Iterator[None]:
        """Within, `tell` gets each signal, first those that came before."""
        with self._lock:
            for number in self._waiting:
                tell(number)
            self._waiting.clear()
            self._tell = tell
        try:
            yield
        finally:
            with self._lock:
                self._tell = None
