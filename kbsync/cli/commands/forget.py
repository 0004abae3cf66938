"""`kbsync forget`: ends a mirror."""

from __future__ import annotations

import dataclasses
import shutil
import sys
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import click

from kbsync.cli.context import choose, existing_state, prepare
from kbsync.cli.exit_codes import concerning
from kbsync.cli.options import Choices, complete_mirror, examples, shared_options
from kbsync.cli.output import Output, counted, tell
from kbsync.cli.prompts import agrees
from kbsync.core.text import printable
from kbsync.errors import UsageError

if TYPE_CHECKING:
    from kbsync.config.model import MirrorConfig
    from kbsync.engine.forget import Belongings
    from kbsync.installation import Installation
    from kbsync.state.mirrors import MirrorRecord
    from kbsync.state.read_only import Tx


@click.command(
    epilog=examples(
        "kbsync forget handbook                             its documents stay",
        "kbsync forget handbook --delete-documents          ours are deleted, no others",
        "kbsync forget handbook --delete-documents --yes    in a script",
    )
)
@click.argument("mirror", shell_complete=complete_mirror)
@click.option("--delete-documents", is_flag=True, help="Also delete our documents, and no others.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@shared_options
def command(choices: Choices, mirror: str, delete_documents: bool, yes: bool) -> None:
    """Forget everything about MIRROR, after showing what that is. Needs the state for itself.

    A mirror that is still in the config starts from scratch at the next pass.
    """
    all_of_it = dataclasses.replace(choices, mirrors=())
    installation = choose(all_of_it, here=True, with_secrets=delete_documents)
    with closing(existing_state(installation)) as state:
        record, owned = state.read(partial(_look, mirror))
    config = next((each for each in installation.config.mirrors if each.name == mirror), None)
    if delete_documents and config is None:
        raise UsageError(
            f"{mirror} is not in the config, so its knowledge base cannot be reached; put it back, "
            "or forget it without --delete-documents"
        )
    _show(record, owned, delete_documents)
    # Shown before the question, also in a script: its log then says what was at stake.
    if not (yes or sys.stdin.isatty()):
        raise UsageError(
            f"to forget {mirror} a person has to say yes; there is no terminal to ask on, so add --yes"
        )
    if not yes and not agrees(f"Forget {mirror}?"):
        tell("nothing was forgotten")
        return
    deleted = _forget(installation, record, config if delete_documents else None)
    if not choices.quiet:
        done = f"; {counted(deleted, 'document')} deleted" if delete_documents else ""
        Output().line(f"{mirror} is forgotten{done}")


def _look(name: str, tx: Tx) -> tuple[MirrorRecord, Belongings]:
    from kbsync.engine.forget import counts

    # Only documents that a row proves ours count (promise 6).
    record = tx.mirrors.named(name)
    if record is None:
        known = ", ".join(each.name for each in tx.mirrors.all()) or "none"
        raise UsageError(f"there is no mirror {name!r} in the state; there are: {known}")
    return record, counts(tx, record)


def _show(record: MirrorRecord, owned: Belongings, delete_documents: bool) -> None:
    """What is at stake, on stderr as the question is."""
    staying = "stays where it is" if owned.documents == 1 else "stay where they are"
    fate = "will be deleted" if delete_documents else staying
    ours = counted(owned.documents, "document")
    tell(f"{record.name}: {printable(record.folder)} in {record.target}: {ours} {fate}")
    if owned.left_behind:
        left = counted(owned.left_behind, "document")
        tell(f"{record.name}: {left} in knowledge bases used before stay there")
    if owned.unsure:
        tell(f"{record.name}: {counted(owned.unsure, 'upload')} may or may not have reached the target")


def _forget(installation: Installation, record: MirrorRecord, config: MirrorConfig | None) -> int:
    """Under the lock; with `config` the documents are deleted at its target."""
    import asyncio

    from kbsync.once import open_state
    from kbsync.state.db import forget_set_aside

    prepare(installation)
    flags = installation.flags
    with open_state(installation, tell) as store:

        async def work() -> int:
            from kbsync.engine.forget import forget

            if config is None:
                return await forget(store, record)
            with concerning(config.name):
                target = await asyncio.to_thread(installation.target, config)
                try:
                    return await forget(store, record, target, delete_documents=True)
                finally:
                    await target.aclose()

        deleted = asyncio.run(work())
        # A state that was set aside names the mirror's files too (promise 11).
        forget_set_aside(installation.state_file)
        if config is not None and "--folder" in flags and "--state-dir" not in flags:
            # The state directory belongs to this mirror alone: as long as it exists its folder is known.
            shutil.rmtree(installation.state_dir)
        return deleted
