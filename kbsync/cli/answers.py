"""What a person answers at a terminal. The questions go to stderr, as results go to stdout."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

import click

from kbsync.cli.prompting import interruptible


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
