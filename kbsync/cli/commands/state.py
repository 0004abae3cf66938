"""`kbsync state`: backs up the state, or deletes files that were set aside because they were damaged."""

from __future__ import annotations

import os
from contextlib import closing, suppress
from pathlib import Path

import click

from kbsync.cli.context import choose, list_damaged, open_state
from kbsync.cli.options import FILE, Choices, CommandGroup, examples, shared_options
from kbsync.cli.output import Output, print_message
from kbsync.cli.prompts import confirm
from kbsync.config.places import is_inside
from kbsync.core.text import format_count, format_size, printable
from kbsync.errors import TOO_MANY_OPEN_FILES, StateError, UsageError, system_reason
from kbsync.permissions import hand_over
from kbsync.signals import ending_cleanly


@click.group(cls=CommandGroup)
@shared_options
def command() -> None:
    """Back up the state or discard damaged files."""


@command.command(epilog=examples("kbsync state backup /backups/kbsync-$(date +%F).db"))
@click.argument("file", type=FILE)
@shared_options
def backup(choices: Choices, file: Path) -> None:
    """Copy the state to the new file FILE, even while kbsync runs.

    FILE gets mode 0600."""
    import apsw

    from kbsync.state.db import open_file, state_errors

    installation = choose(choices, here=True, with_secrets=False)
    exists = UsageError(f"{file} exists; choose a new file")
    # Under its own name only once it is complete: a killed command must leave nothing that looks like a copy.
    unfinished = file.parent / f".kbsync-backup-{os.urandom(4).hex()}"
    with open_state(installation, must_exist=True) as state, ending_cleanly():
        if os.path.lexists(file):
            raise exists
        try:
            descriptor = os.open(unfinished, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600)
            # The copy belongs to this user, but in the state directory it must belong to the state's owner.
            if is_inside(file, installation.state_dir):
                hand_over(descriptor, installation.state_dir)
            os.close(descriptor)
            with state_errors(file), closing(open_file(unfinished)) as copy:
                copy.pragma("journal_mode", "off")  # an unfinished copy is deleted
                try:
                    state.backup(copy)
                except apsw.FullError:
                    raise StateError(
                        f"{file}: the disk is full; free some space, or choose another file"
                    ) from None
            _rename_to_new(unfinished, file)
        except FileExistsError:
            raise exists from None
        except OSError as error:
            if error.errno in TOO_MANY_OPEN_FILES:
                raise
            why = system_reason(error)
            raise UsageError(f"{file} cannot be created ({why}); choose another file") from None
        finally:
            with suppress(OSError):
                unfinished.unlink()
    if not choices.quiet:
        Output().line(f"wrote {printable(str(file))}")


def _rename_to_new(source: Path, file: Path) -> None:
    """Give a file its final name. Raises FileExistsError if that name already exists, or another OSError."""
    try:
        os.link(source, file)
    except FileExistsError:
        raise
    except OSError:
        # A file system without hard links.
        if os.path.lexists(file):
            raise FileExistsError(file) from None
        source.rename(file)


@command.command(epilog=examples("kbsync state discard", "kbsync state discard --yes  # without a prompt"))
@click.option("--yes", is_flag=True, help="Do not ask.")
@shared_options
def discard(choices: Choices, yes: bool) -> None:
    """Delete files that were set aside as damaged, after showing them.

    kbsync keeps them for inspection. They may contain the text of files deleted since then.
    """
    from kbsync.state.db import delete_database

    installation = choose(choices, here=True, with_secrets=False)
    files = list_damaged(installation)
    for file in files:
        # Another `discard`, or a pass that deletes a document, may delete it at the same time.
        with suppress(FileNotFoundError):
            print_message(f"{file}: {format_size(file.lstat().st_size)}")
    count = format_count(len(files), "file")
    if files and not confirm(f"Delete {count}?", f"delete {count}", yes=yes):
        return
    for file in files:
        delete_database(file)
    if not choices.quiet:
        Output().line(f"{count} deleted" if files else "nothing was set aside")
