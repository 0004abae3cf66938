"""Runs a command line and turns whatever goes wrong into a sentence on stderr and an exit code."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Sequence

import click

from kbsync.cli.exits import Code, code_of, sentence_of
from kbsync.cli.paper import forgiving, speak, tell
from kbsync.cli.program import run


def enter(arguments: Sequence[str]) -> int:
    """The exit code. Nothing is raised but `SystemExit` of click's completion."""
    _have_all_streams()
    _bear_any_character()
    try:
        code = _run(arguments)
        failure = _flush()
        if failure is not None:
            tell(sentence_of(failure))
            return Code.PASSING
        return code
    finally:
        speak(None)


def _flush() -> OSError | None:
    """Everything is written, or the reason why results are not."""
    try:
        with forgiving(sys.stdout):
            sys.stdout.flush()
    except OSError as error:
        return error
    finally:
        with forgiving(sys.stderr):
            sys.stderr.flush()
    return None


def _run(arguments: Sequence[str]) -> int:
    try:
        return int(run(arguments) or 0)
    except click.UsageError as error:
        tell(_with_hint(error))
        return Code.USAGE
    except click.ClickException as error:
        tell(error.format_message())
        return Code.USAGE
    except (click.Abort, KeyboardInterrupt):
        return Code.INTERRUPTED
    except Exception as error:
        code = code_of(error)
        if code is None:
            tell("this is an error of kbsync itself; its traceback says where", error)
            return Code.BROKEN
        tell(sentence_of(error))
        return code


def _with_hint(error: click.UsageError) -> str:
    """On one line, also where click would set a list below it."""
    message = " ".join(error.format_message().split()).rstrip(".")
    return message if error.ctx is None else f"{message}; see: {error.ctx.command_path} --help"


def _have_all_streams() -> None:
    """One that was closed (`2>&-`) leads nowhere, and not into the next file that is opened."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115 (for the process's life)


def _bear_any_character() -> None:
    """A locale without a character a document has must not end the program."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(ValueError):
                stream.reconfigure(errors="backslashreplace")
