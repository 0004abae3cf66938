"""`kbsync state`: backs up the state, or deletes files that were set aside as damaged."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import click

from kbsync.cli.context import choose, list_damaged, open_state
from kbsync.cli.options import FILE, Choices, CommandGroup, examples, shared_options
from kbsync.cli.output import Output, print_message
from kbsync.cli.prompts import confirm
from kbsync.config.places import is_inside
from kbsync.core.text import format_count, format_size, printable
from kbsync.errors import UsageError, system_reason
from kbsync.permissions import hand_over


@click.group(cls=CommandGroup)
@shared_options
def command() -> None:
    """Back up the state or discard damaged files."""


@command.command(epilog=examples("kbsync state backup /backups/kbsync-$(date +%F).db"))
@click.argument("file", type=FILE)
@shared_options
def backup(choices: Choices, file: Path) -> None:
    """Copy the state to FILE, a new file with mode 0600, even while kbsync runs."""
    import apsw

    from kbsync.state.db import state_errors

    installation = choose(choices, here=True, with_secrets=False)
    with open_state(installation, must_exist=True) as state:
        try:
            descriptor = os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            # The copy belongs to this user, but in the state directory it must belong to the state's owner.
            if is_inside(file, installation.state_dir):
                hand_over(descriptor, installation.state_dir)
            os.close(descriptor)
        except FileExistsError:
            raise UsageError(f"{file} exists; choose a new file") from None
        except OSError as error:
            why = system_reason(error)
            raise UsageError(f"{file} cannot be created ({why}); choose another file") from None
        try:
            with state_errors(file), closing(apsw.Connection(str(file))) as copy:
                state.backup(copy)
        except BaseException:
            file.unlink(missing_ok=True)
            raise
    if not choices.quiet:
        Output().line(f"wrote {printable(str(file))}")


@command.command(epilog=examples("kbsync state discard", "kbsync state discard --yes     in a script"))
@click.option("--yes", is_flag=True, help="Do not ask.")
@shared_options
def discard(choices: Choices, yes: bool) -> None:
    """Delete files that were set aside as damaged, after showing them.

    kbsync keeps them for inspection. They may contain the text of files deleted since then.
    """
    installation = choose(choices, here=True, with_secrets=False)
    files = list_damaged(installation)
    for file in files:
        print_message(f"{file}: {format_size(file.stat().st_size)}")
    count = format_count(len(files), "file")
    if files and not confirm(f"Delete {count}?", f"delete {count}", yes=yes):
        return
    for file in files:
        for suffix in ("", "-wal", "-shm"):
            file.with_name(file.name + suffix).unlink(missing_ok=True)
    if not choices.quiet:
        Output().line(f"{count} deleted" if files else "nothing was set aside")
