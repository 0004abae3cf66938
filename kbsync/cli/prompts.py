"""Questions from a terminal or from lines, and signals that end even the wait for a key.

What a person answers at a terminal. The questions go to stderr, as results go to stdout.
"""

from __future__ import annotations

import contextlib
import io
import signal
import socket
import sys
import threading
from collections.abc import Iterator

import click

PROMPT = "> "
AGAIN = 0.05
"""Seconds after which a signal that ended nothing is sent once more."""

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def questions(first: str, *, is_seen: bool) -> Iterator[str]:
    """Those that are not empty, `first` before all. `is_seen`: the prompt may go where answers go.

    Raises `KeyboardInterrupt` and `SystemExit` out of a wait for a key, the terminal as it was.
    """
    if first:
        yield first
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    lines = _typed(is_seen=is_seen) if sys.stdin.isatty() else sys.stdin
    yield from filter(None, map(str.strip, lines))


def _typed(*, is_seen: bool) -> Iterator[str]:
    """Lines of a terminal, with its line editing where what is said goes to one too."""
    try:
        if is_seen and sys.stdout.isatty():
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401 - input() edits with it
            while True:
                with interruptible():
                    line = input(PROMPT)
                yield line
        while _prompted() and (line := sys.stdin.readline()):
            yield line
    except EOFError:
        pass
    finally:
        sys.stderr.write("\n")


def _prompted() -> bool:
    sys.stderr.write(PROMPT)
    sys.stderr.flush()
    return True


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Within, a signal is sent again until it ended the wait.

    readline looks for none between what it shows and the wait for the next key, so one could be lost; and
    `input` forgets what was raised while it flushed what it shows.
    """
    over, main = threading.Event(), threading.get_ident()

    def end(number: int, _frame: object) -> None:
        if not over.is_set():
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    def send_again(near: socket.socket) -> None:
        number = near.recv(1)
        while number and not over.wait(AGAIN):
            signal.pthread_kill(main, number[0])

    near, far = socket.socketpair()
    far.setblocking(False)
    sender = threading.Thread(target=send_again, args=(near,), name="kbsync-signals", daemon=True)
    with contextlib.ExitStack() as undo:
        undo.enter_context(near)
        for number in _ENDING:
            undo.callback(signal.signal, number, signal.signal(number, end))
        undo.callback(sender.join)
        undo.enter_context(far)
        undo.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(far.fileno(), warn_on_full_buffer=False))
        undo.callback(over.set)
        sender.start()
        yield


class NoAnswer(Exception):
    """The input ended (Ctrl-D); nothing is agreed to by that."""


def typed(question: str, default: str | None = None) -> str:
    """What is typed; "" is asked again or stands for the default. Raises `NoAnswer` at the end of input."""
    with _telling_the_end():
        return str(click.prompt(question, default=default, err=True))


def agreed(question: str) -> bool:
    """Whether a person said yes; no answer is a no."""
    try:
        with _telling_the_end():
            return click.confirm(question, err=True)
    except NoAnswer:
        return False


@contextlib.contextmanager
def _telling_the_end() -> Iterator[None]:
    """click has one error for an interrupt and for the end of the input: what came before it tells them.

    In a loop the first interrupt would be kept for later, and the question go on.
    """
    try:
        with interruptible():
            yield
    except click.Abort as error:
        if not isinstance(error.__context__, EOFError):
            raise
        sys.stderr.write("\n")
        raise NoAnswer from None
