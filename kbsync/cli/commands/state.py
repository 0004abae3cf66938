"""`kbsync state backup`: a copy of the state that is consistent, whatever runs meanwhile."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import click

from kbsync.cli.context import choose, existing_state
from kbsync.cli.options import FILE, Choices, CommandGroup, examples, shared_options
from kbsync.cli.output import Output
from kbsync.config.places import is_inside
from kbsync.core.text import printable
from kbsync.errors import UsageError
from kbsync.permissions import hand_over


@click.group(cls=CommandGroup)
@shared_options
def command() -> None:
    """Back up the state."""


@command.command(epilog=examples("kbsync state backup /backups/kbsync-$(date +%F).db"))
@click.argument("file", type=FILE)
@shared_options
def backup(choices: Choices, file: Path) -> None:
    """Copy the state to FILE, a new file with mode 0600, even while kbsync runs."""
    import apsw

    from kbsync.state.db import state_errors

    installation = choose(choices, here=True, with_secrets=False)
    with closing(existing_state(installation)) as state:
        try:
            made = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            # The copy belongs to the user who asks; in the state directory it has to belong to its owner.
            if is_inside(file, installation.state_dir):
                hand_over(made, installation.state_dir)
            os.close(made)
        except FileExistsError:
            raise UsageError(f"{file} exists; name a new file") from None
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            raise UsageError(f"{file} cannot be created ({why}); name another file") from None
        try:
            with state_errors(file), closing(apsw.Connection(str(file))) as copy:
                state.backup(copy)
        except BaseException:
            file.unlink(missing_ok=True)
            raise
    if not choices.quiet:
        Output().line(f"wrote {printable(str(file))}")
