"""`kbsync kb copy`: copies a built-in knowledge base into the database that the mirror now uses."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kbsync.cli.commands.kb.account import only_one
from kbsync.cli.context import choose, prepare, set_up_logs
from kbsync.cli.exit_codes import MirrorError, code_of, concerning
from kbsync.cli.options import FOLDER, Choices, examples, json_option, shared_options
from kbsync.cli.output import Output, print_message
from kbsync.core.text import format_count, format_size, printable
from kbsync.errors import Halted, TargetError, UnmadeError, UsageError
from kbsync.permissions import exists
from kbsync.threads import run_coroutine

if TYPE_CHECKING:
    from kbsync.config.model import MirrorConfig
    from kbsync.engine.copy import Copied
    from kbsync.index.document import Entry
    from kbsync.index.sqlite.store import SqliteStore
    from kbsync.installation import Installation
    from kbsync.state.mirrors import MirrorRecord
    from kbsync.state.read_only import Tx

PROGRESS_EVERY = 5.0
"""Seconds between progress lines."""


@click.command(
    epilog=examples(
        "kbsync kb copy",
        "kbsync kb copy --mirror handbook --from /srv/kb/handbook  # a base in another folder",
    )
)
@click.option(
    "--from",
    "source_dir",
    type=FOLDER,
    metavar="DIR",
    help="The folder of the built-in knowledge base to copy.",
)
@json_option
@shared_options
def command(choices: Choices, source_dir: Path | None, as_json: bool) -> None:
    """Copy a built-in knowledge base into the mirror's database.

    Stop kbsync, change the mirror's target to type postgres, copy, and start kbsync again. The copy includes
    passages and vectors, so kbsync doesn't read, split or embed any document again. If the copy is
    interrupted, run the command again to continue. The built-in knowledge base is kept.
    """
    installation = choose(choices)
    databases = (mirror for mirror in installation.mirrors if mirror.target.type == "postgres")
    if (mirror := only_one(databases, "PostgreSQL")) is None:
        names = ", ".join(f"{mirror.name} ({mirror.target.type})" for mirror in installation.mirrors)
        raise UsageError(
            f"none of the mirrors has a target of type postgres: {names}; "
            "change the target in the config first, then copy"
        )
    set_up_logs(choices)
    folder = (source_dir or installation.default_base(mirror)).absolute()
    began = time.monotonic()
    with closing(_open_source(folder)) as source:
        if not exists(installation.state_file):
            raise _unknown_base(installation, mirror, folder)
        prepare(installation)
        copied = _copy(installation, mirror, source, folder, quiet=choices.quiet)
    seconds = time.monotonic() - began
    if as_json:
        counts = {"documents": copied.documents, "passages": copied.passages, "bytes": copied.size}
        counts |= {"there": copied.present, "left": copied.remaining}
        seconds = round(seconds, 3)
        Output().json({"mirror": mirror.name, "from": str(folder), **counts, "seconds": seconds})
    elif not choices.quiet:
        content = f"{format_count(copied.passages, 'passage')}, {format_size(copied.size)}"
        documents = format_count(copied.documents, "document")
        Output().line(
            f"{mirror.name}: {documents} copied from {printable(str(folder))} in {seconds:,.1f} s ({content})"
        )
        if copied.present:
            Output().line(f"{format_count(copied.present, 'document')} already copied earlier")
        if copied.remaining:
            Output().line(
                f"the next pass will read {format_count(copied.remaining, 'document')} from the folder"
            )
    if not choices.quiet:
        print_message(f"continue with: {installation.command_line('--once')}")
        end = installation.command_line(f"forget {mirror.name} --left-behind")
        print_message(f"the old knowledge base is unchanged; to delete its documents: {end}")


def _open_source(folder: Path) -> SqliteStore:
    """Open the built-in base for reading.

    Raises `UsageError`, or `StateError` if a newer version of kbsync wrote it.
    """
    from kbsync.index.sqlite.schema import FILE
    from kbsync.index.sqlite.store import SqliteStore

    try:
        return SqliteStore(folder, writer=None)
    except UnmadeError as error:
        if exists(folder / FILE):
            raise UsageError(
                f"{folder / FILE} isn't a knowledge base that this version of kbsync can read"
            ) from error
        raise UsageError(
            f"no built-in knowledge base in {folder}; pass its folder with --from DIR"
        ) from error


def _unknown_base(installation: Installation, mirror: MirrorConfig, folder: Path) -> UsageError:
    return UsageError(
        f"the state in {installation.state_dir} has no record of the documents in {folder}; first set the "
        f"target of {mirror.name} back to {{type: local, path: {folder}}} and run "
        f"`{installation.command_line('--once')}`, which adopts the documents, then copy"
    )


def _copy(
    installation: Installation, mirror: MirrorConfig, source: SqliteStore, folder: Path, *, quiet: bool
) -> Copied:
    """Copy the documents while holding the state's lock."""
    import asyncio

    from kbsync.engine import attach
    from kbsync.engine.clock import SystemClock
    from kbsync.engine.copy import Copied, copy
    from kbsync.engine.journal import Journal
    from kbsync.engine.status import as_halt
    from kbsync.once import open_state, settings_of
    from kbsync.targets.indexed.target import IndexedTarget, number_of

    copied = Copied()
    opened = open_state(installation, print_message)
    with concerning(mirror.name), opened as (current, store):
        if mirror not in current.mirrors:
            raise UsageError("the mirror's config has just been changed; run the command again")
        uuid, total = source.check()

        def read_origins(tx: Tx) -> tuple[MirrorRecord | None, list[int]]:
            record = tx.mirrors.named(mirror.name)
            left = () if record is None else tx.uploads.left_behind(record.id, 0)
            bindings = ((number, tx.mirrors.binding(number)) for number in left)
            # Under any prefix.
            return record, [n for n, item in bindings if item and (item.target, item.base) == ("local", uuid)]

        async def copy_documents() -> None:
            record, origins = await store.read(read_origins)
            if record is None or (total and not origins):
                raise _unknown_base(installation, mirror, folder)
            async with (
                _printing_progress(mirror.name, copied, total, quiet=quiet),
                aclosing(await asyncio.to_thread(installation.target, mirror)) as target,
            ):
                assert isinstance(target, IndexedTarget)
                settings, spool_dir, model = settings_of(mirror), installation.spool_dir, target.model
                binding = await attach.bind(store, settings, record, target, await target.base(), spool_dir)

                def read(remote_id: str) -> Entry | None:
                    number = number_of(remote_id)
                    return None if number is None else source.entry(number, model)

                journal = Journal(binding, SystemClock())
                await copy(store, journal, target, origins, read, target.put_made, copied)

        try:
            run_coroutine(copy_documents())
        except TargetError as error:
            copy_command = installation.command_line_for_mirrors("kb copy")
            fix = ""
            if isinstance(error, Halted):
                fix = as_halt(error, mirror.name, installation.command_line).fix
            documents = format_count(copied.documents, "document")
            progress = f"{documents} copied; to continue: {copy_command}"
            message = "; ".join(filter(None, (error.reason, fix, progress)))
            code = code_of(error)
            assert code is not None
            raise MirrorError(mirror.name, UsageError(message), code) from error
    return copied


@asynccontextmanager
async def _printing_progress(name: str, copied: Copied, total: int, *, quiet: bool) -> AsyncIterator[None]:
    """Print the progress while the copy is running."""
    import asyncio

    from kbsync.engine.clock import end_tasks

    async def print_lines() -> None:
        while True:
            await asyncio.sleep(PROGRESS_EVERY)
            print_message(
                f"{name}: {copied.documents + copied.present:,} of {format_count(total, 'document')}"
            )

    tasks = [] if quiet else [asyncio.create_task(print_lines())]
    try:
        yield
    finally:
        await end_tasks(tasks)
