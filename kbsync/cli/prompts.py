"""Asks the user questions on a terminal. Questions go to stderr, because stdout is for results."""

from __future__ import annotations

import contextlib
import io
import signal
import sys
from collections.abc import Iterator

import click

from kbsync.cli.output import print_message
from kbsync.core.text import printable
from kbsync.errors import UsageError

PROMPT = "> "
INTERRUPT_EVERY = 0.05
"""Seconds before kbsync repeats a signal that arrived but didn't end the wait for a key."""


def ask(question: str, default: str | None = None) -> str:
    """Return the user's input.

    Callers ask again after "" or treat it as the default. Raises `UsageError` at the end of input.
    """
    try:
        with _eof_as_error():
            return str(click.prompt(question, default=default, err=True)).strip()
    except EOFError:
        raise UsageError("end of input; nothing was changed") from None


def agrees(question: str) -> bool:
    """Return whether the user answers yes. An empty answer means no."""
    try:
        with _eof_as_error():
            return click.confirm(question, err=True)
    except EOFError:
        return False


def confirm(question: str, action: str, *, yes: bool) -> bool:
    """Return whether the user confirms, on the terminal or with `--yes`. Raises `UsageError` without a
    terminal.

    The caller prints the consequences first, even in a script, so that the script's log has them.
    """
    if not (yes or sys.stdin.isatty()):
        raise UsageError(f"not a terminal; pass --yes to {action}")
    if yes or agrees(question):
        return True
    print_message("nothing was changed")
    return False


def confirm_by_typing(
    action: str, name: str, typed: str | None, called: str = "name", metavar: str = "NAME"
) -> None:
    """Require the user to type the name, either now or with `--yes`.

    Raises `UsageError` if the name differs or there is no terminal. `called`: a noun for what the user
    must type, if it isn't a name. `metavar`: its placeholder in the help text of `--yes`.
    """
    printable_name = printable(name)
    if typed is None:
        if not sys.stdin.isatty():
            raise UsageError(f"not a terminal; to {action}, pass its {called} with --yes {metavar}")
        typed = ask(f"Type its {called}, {printable_name}")
    if typed.strip() != name.strip():
        raise UsageError(f"the {called} is {printable_name!r}, not {printable(typed)!r}; nothing was changed")


@contextlib.contextmanager
def _eof_as_error() -> Iterator[None]:
    # click raises Abort both for an interrupt and for the end of input; only the context tells them apart.
    try:
        with interruptible():
            yield
    except click.Abort as error:
        sys.stderr.write("\n")
        if not isinstance(error.__context__, EOFError):
            raise
        raise EOFError from None


def questions(first: str, *, on_stdout: bool) -> Iterator[str]:
    """Yield questions that aren't empty: `first`, then lines from the terminal or stdin.

    `on_stdout`: the prompt may go to stdout, like the answers. A signal that arrives during the wait for a
    key raises `KeyboardInterrupt` or `SystemExit`.
    """
    if first:
        yield first
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    lines = _typed_lines(on_stdout=on_stdout) if sys.stdin.isatty() else sys.stdin
    yield from filter(None, map(str.strip, lines))


def _typed_lines(*, on_stdout: bool) -> Iterator[str]:
    try:
        if on_stdout and sys.stdout.isatty():
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401 - input() edits the line with it
            while True:
                with interruptible():
                    line = input(PROMPT)
                yield line
        while True:
            sys.stderr.write(PROMPT)
            sys.stderr.flush()
            line = sys.stdin.readline()
            if not line:
                return
            yield line
    except EOFError:
        pass
    finally:
        sys.stderr.write("\n")


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Inside this context, let a signal end the wait for a key, no matter when the signal arrives.

    Python would notice a signal between the prompt and the wait only at the next key, and `input` drops
    exceptions raised while it flushes its prompt. So a timer interrupts the wait every `INTERRUPT_EVERY`
    seconds and raises the signal's exception again.
    """
    caught: BaseException | None = None
    is_over = False

    def end(number: int, _frame: object) -> None:
        nonlocal caught
        if number != signal.SIGALRM:
            caught = KeyboardInterrupt() if number == signal.SIGINT else SystemExit(128 + number)
        if caught is not None and not is_over:
            # The same exception again: `input` may call this while it is being raised, and then no object
            # may be created.
            raise caught

    ending = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    before = {number: signal.signal(number, end) for number in ending}
    timer = signal.setitimer(signal.ITIMER_REAL, INTERRUPT_EVERY, INTERRUPT_EVERY)
    try:
        yield
    finally:
        is_over = True
        signal.setitimer(signal.ITIMER_REAL, *timer)
        for number, handler in before.items():
            signal.signal(number, handler)
