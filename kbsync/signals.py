"""Receives signals from the start, so that none is lost before the event loop runs, or delayed while it is
busy.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import signal
import socket
import sys
import termios
import threading
from collections.abc import Callable, Collection, Iterator

ENDING = (signal.SIGTERM, signal.SIGINT)

STOP_LATEST = 1.3
"""Maximum number of seconds until the process ends; it must end within two seconds of SIGTERM. A thread that
parses or embeds can't be stopped, but the journal makes it safe to end the process.
"""

ReceiveSignal = Callable[[int], None]
"""Called with a signal's number in a thread that only listens for signals."""


def find_terminal() -> int | None:
    """Return a standard stream that is a terminal. Return None if there is none, or if the process should
    outlive it.

    A process that was started with SIGHUP ignored, for example by `nohup`, should continue. A stream whose
    terminal has closed in the meantime is also returned, because the closing must end the process.
    """
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        return None
    for stream in (0, 1, 2):
        try:
            termios.tcgetattr(stream)
        except termios.error as error:
            # Unlike `os.isatty`, this finds a closed terminal, for which every request fails with EIO.
            # Anything else fails with ENOTTY or EBADF.
            if error.args[0] != errno.EIO:
                continue
        return stream
    return None


@contextlib.contextmanager
def hangup_with(terminal: int) -> Iterator[None]:
    """Send SIGHUP to this process when the terminal closes.

    The kernel sends it only to foreground processes, and not every shell forwards it to background ones.
    """
    watched, (writer, reader) = os.dup(terminal), socket.socketpair()

    def wait() -> None:
        poll = select.poll()
        # No events are needed: poll always reports a hangup.
        poll.register(watched, 0)
        poll.register(reader, select.POLLIN)
        if any(number == watched for number, _ in poll.poll()):
            os.kill(os.getpid(), signal.SIGHUP)

    waiting = threading.Thread(target=wait, name="kbsync-terminal", daemon=True)
    waiting.start()
    try:
        yield
    finally:
        writer.close()
        waiting.join()
        reader.close()
        os.close(watched)


@contextlib.contextmanager
def ending_cleanly() -> Iterator[None]:
    """Raise `SystemExit` for SIGTERM and SIGHUP inside the context, so that no unfinished file is left
    behind.

    Signals that have a handler or are ignored aren't affected, and neither are threads other than the main
    one.
    """

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    is_main = threading.current_thread() is threading.main_thread()
    ending = (signal.SIGTERM, signal.SIGHUP) if is_main else ()
    fatal = [number for number in ending if signal.getsignal(number) == signal.SIG_DFL]
    for number in fatal:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in fatal:
            signal.signal(number, signal.SIG_DFL)


class HardEnd:
    """Ends the process even if threads are still running, once `arm` has been called."""

    def __init__(self) -> None:
        self._code: int | None = None
        self._armed, self._over = threading.Event(), threading.Event()

    def arm(self, code: int) -> None:
        """End the process with this code after `STOP_LATEST` seconds, unless it has ended by then."""
        if self._code is None:
            self._code = code
            self._armed.set()

    def now(self) -> None:
        """If `arm` has been called, end the process now without waiting for threads, because everything has
        been recorded.
        """
        if self._code is not None:
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(OSError, ValueError):
                    stream.flush()
            os._exit(self._code)

    def __enter__(self) -> HardEnd:
        # Start the thread now, because `arm` couldn't start one after memory or processes have run out.
        threading.Thread(target=self._wait, name="kbsync-end", daemon=True).start()
        return self

    def _wait(self) -> None:
        self._armed.wait()
        if not self._over.wait(STOP_LATEST) and self._code is not None:
            os._exit(self._code)

    def __exit__(self, *_error: object) -> None:
        """Let the process continue."""
        self._over.set()
        self._armed.set()


class Signals:
    """Report signals with these `numbers` inside the block, in order, without any other effect.

    `at_once` is called even while the main thread is in a long call, such as one that opens a large state.
    Enter the block in the main thread, before other threads or an event loop listen for signals.
    """

    def __init__(self, numbers: Collection[int], at_once: ReceiveSignal = lambda _number: None) -> None:
        self._numbers = frozenset(numbers)
        self._at_once = at_once
        self._lock = threading.Lock()
        self._waiting: list[int] = []
        self._receive: ReceiveSignal | None = None
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Signals:
        reader, writer = socket.socketpair()
        writer.setblocking(False)
        listening = threading.Thread(target=self._listen, args=(reader,), name="kbsync-signals", daemon=True)
        listening.start()
        self._undo.callback(listening.join)
        self._undo.callback(writer.close)
        self._undo.callback(
            signal.set_wakeup_fd, signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        )
        for number in self._numbers:
            # The handler does nothing, because the wake-up descriptor already has the signal.
            before = signal.signal(number, lambda _number, _frame: None)
            self._undo.callback(signal.signal, number, before)
        # kbsync's processes start with these signals blocked. A signal that arrived in the meantime is
        # delivered here.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {*ENDING, signal.SIGHUP})
        return self

    def __exit__(self, *_error: object) -> None:
        self._undo.close()

    def _listen(self, reader: socket.socket) -> None:
        with reader:
            while numbers := reader.recv(64):
                for number in numbers:
                    if number in self._numbers:
                        self._at_once(number)
                        with self._lock:
                            (self._receive or self._waiting.append)(number)

    @contextlib.contextmanager
    def forward_to(self, receive: ReceiveSignal) -> Iterator[None]:
        """Pass signals to `receive` inside the context, beginning with those that arrived earlier."""
        with self._lock:
            for number in self._waiting:
                receive(number)
            self._waiting.clear()
            self._receive = receive
        try:
            yield
        finally:
            with self._lock:
                self._receive = None
