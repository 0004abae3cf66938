"""`kbsync state backup`: a copy of the state that is consistent, whatever runs meanwhile."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import click

from kbsync.cli.exits import Code
from kbsync.cli.options import FILE, Choices, examples, pass_choices, shared_options
from kbsync.cli.paper import Paper
from kbsync.core.printable import printable
from kbsync.errors import UsageError


@click.group()
@shared_options
def command() -> None:
    """Look after the state file."""


@command.command(epilog=examples("kbsync state backup /backups/kbsync-$(date +%F).db"))
@click.argument("file", type=FILE)
@shared_options
@pass_choices
def backup(choices: Choices, file: Path) -> int:
    """Copy the state into FILE (new, mode 0600), also while kbsync runs."""
    import apsw

    from kbsync.cli.choosing import choose, glanced
    from kbsync.state.connection import told

    with closing(glanced(choose(choices, with_secrets=False))) as state:
        _create(file)
        try:
            with told(file), closing(apsw.Connection(str(file))) as copy:
                state.backup(copy)
        except BaseException:
            file.unlink(missing_ok=True)
            raise
    if not choices.quiet:
        Paper().line(f"wrote {printable(str(file))}")
    return Code.MIRRORED


def _create(file: Path) -> None:
    try:
        os.close(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise UsageError(f"{file} exists; name a new file") from None
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise UsageError(f"{file} cannot be made ({why}); name another file") from None
