"""`kbsync forget`: forgets a mirror and, on request, deletes its documents in the knowledge base."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import click

from kbsync.cli.context import choose, prepare, read_state, unless_running
from kbsync.cli.exit_codes import concerning
from kbsync.cli.options import Choices, complete_mirror, examples, shared_options
from kbsync.cli.output import Output, print_message
from kbsync.cli.prompts import confirm
from kbsync.config import places
from kbsync.core.text import format_count, printable
from kbsync.errors import Halted, UsageError
from kbsync.permissions import exists
from kbsync.threads import run_coroutine

if TYPE_CHECKING:
    from kbsync.forget import Holdings
    from kbsync.installation import Installation
    from kbsync.state.forgotten import ForgottenBase
    from kbsync.state.read_only import Tx
    from kbsync.state.store import StateStore


@click.command(
    epilog=examples(
        "kbsync forget handbook                           # keep its documents",
        "kbsync forget handbook --delete-documents        # delete its documents too",
        "kbsync forget handbook --delete-documents --yes  # without a prompt",
        "kbsync forget handbook --left-behind             # only delete documents in former targets",
    )
)
@click.argument("mirror", shell_complete=complete_mirror)
@click.option("--delete-documents", is_flag=True, help="Also delete kbsync's documents, and no others.")
@click.option("--left-behind", is_flag=True, help="Only delete kbsync's documents in former knowledge bases.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@shared_options
def command(choices: Choices, mirror: str, delete_documents: bool, left_behind: bool, yes: bool) -> None:
    """Forget everything about MIRROR, after showing the details. No other kbsync may be running.

    To delete remaining documents, run the command again with --delete-documents. A mirror that is still in
    the config starts from scratch at the next pass.
    """
    installation, holdings = _find(choices, mirror)
    if left_behind:
        if delete_documents:
            raise UsageError("--left-behind already deletes documents; omit --delete-documents")
        _delete_left_behind(installation, holdings, choices, yes=yes)
        return
    if holdings.record is None and not delete_documents:
        delete_command = installation.command_line(f"forget {mirror} --delete-documents")
        raise UsageError(
            f"{mirror} has already been forgotten; to delete the documents it left behind: {delete_command}"
        )
    show_holdings(holdings, delete_documents)
    question = f"Forget {mirror}?" if holdings.record is not None else f"Delete what {mirror} left?"
    if not confirm(question, f"forget {mirror}", yes=yes):
        return
    deleted, remaining = end_mirror(installation, holdings, choices if delete_documents else None)
    if choices.quiet:
        return
    result = f"; {format_count(deleted, 'document')} deleted" if delete_documents else ""
    Output().line(f"{mirror} is forgotten{result}")
    for base in remaining:
        stay = "stays" if base.documents == 1 else "stay"
        Output().line(printable(f"{format_count(base.documents, 'document')} {stay} in {base.base.location}"))
    if remaining:
        from kbsync.targets.registry import TARGETS

        delete_command = installation.command_line(f"forget {mirror} --delete-documents")
        # A search of another mirror covers the whole shared database.
        is_shared = any(TARGETS[leftover.base.target].searches_all for leftover in remaining)
        pronoun = "it" if sum(leftover.documents for leftover in remaining) == 1 else "them"
        searched = f"kbsync can no longer search {pronoun}"
        if is_shared:
            searched = f"searches of other mirrors in that database still find {pronoun}"
        Output().line(printable(f"{searched}; to delete {pronoun}: {delete_command}"))


def _find(choices: Choices, name: str) -> tuple[Installation, Holdings]:
    """Return the installation whose state has the mirror.

    This is the installation that the options select or, without any options, a known one. Raises `UsageError`
    if no state has the mirror, or if several do.
    """
    from kbsync.forget import read_holdings

    names = set[str]()

    def find(installation: Installation) -> Holdings | None:
        def read(tx: Tx) -> Holdings | None:
            names.update(record.name for record in tx.mirrors.all())
            names.update(base.name for base in tx.forgotten.bases())
            return read_holdings(tx, installation, name)

        return read_state(installation, read)

    chosen: Installation | None = None
    try:
        chosen = choose(dataclasses.replace(choices, mirrors=()), here=True, with_secrets=False)
    except UsageError:
        if choices.config is not None or choices.folder is not None:
            raise
    if chosen is not None and (holdings := find(chosen)) is not None:
        return chosen, holdings
    others = [] if choices.config is not None or choices.folder is not None else _others(choices)
    candidates = [(other, holdings) for other in others if (holdings := find(other)) is not None]
    if len(candidates) == 1:
        return candidates[0]
    if candidates:
        commands = [candidate.command_line(f"forget {name}") for candidate, _ in candidates]
        raise UsageError("\n".join([f"several mirrors are named {name!r}; run one of:", *commands]))
    raise UsageError(
        f"the state has no mirror named {name!r}; its mirrors: {', '.join(sorted(names)) or 'none'}"
    )


def _others(choices: Choices) -> list[Installation]:
    """Return the states that no config currently uses but that might contain the mirror."""
    from kbsync.config.model import Config
    from kbsync.installation import Installation

    if choices.state_dir is not None:
        state_dirs = [places.state_dir(os.environ, explicit=choices.state_dir)]
    else:
        # Raises if no home directory is known.
        below = places.state_home(os.environ)
        state_dirs = [below, *sorted(below.glob("folders/*/"))]
    config = Config(mirrors=())
    bare = (Installation(config, state_dir, ("--state-dir", str(state_dir))) for state_dir in state_dirs)
    return [installation for installation in bare if exists(installation.state_file)]


def show_holdings(holdings: Holdings, delete_documents: bool) -> None:
    """Print the state to forget and the documents to delete.

    Like the question that follows, this goes to stderr.
    """
    name, owned = holdings.name, holdings.owned
    fate = "will be deleted" if delete_documents else "will stay"
    if holdings.record is not None:
        fact = "nothing was uploaded"
        if holdings.binding is not None:
            ours = format_count(owned.documents, "document")
            fact = f"{ours} in {printable(holdings.binding.location)} {fate}"
        print_message(f"{name}: {printable(holdings.record.folder)}: {fact}")
    for base, documents in owned.elsewhere:
        count = format_count(documents, "document")
        print_message(f"{name}: {count} in {printable(base.location)}, a former knowledge base, will stay")
    for leftover in holdings.leftovers:
        count = format_count(leftover.documents, "document")
        print_message(f"{name}: {count} left in {printable(leftover.base.location)} {fate}")
    if owned.unsure:
        sentence = f"{name}: {format_count(owned.unsure, 'upload')} may or may not have reached the target"
        if delete_documents:
            sentence = f"{sentence}; any documents they created will be deleted"
        print_message(sentence)


@contextmanager
def _open_alone(installation: Installation) -> Iterator[tuple[Installation, StateStore]]:
    """Yield the installation and its state as `kbsync.once.open_state` does, unless kbsync is running."""
    from kbsync.once import open_state

    prepare(installation)
    stop = "stop it, run this command again, and then start it again"
    with unless_running(installation, stop), open_state(installation, print_message) as opened:
        yield opened


def end_mirror(
    installation: Installation,
    holdings: Holdings,
    deleting: Choices | None,
    then: Callable[[], object] = lambda: None,
) -> tuple[int, list[ForgottenBase]]:
    """Forget the mirror while holding the lock.

    Return the number of deleted documents, and a description of what remains. `then` is called at the end,
    before another kbsync process can start.
    """
    from kbsync.forget import forget_mirror

    with_secrets = None if deleting is None else partial(_choose_all, deleting)
    with _open_alone(installation) as (installation, store):
        with concerning(holdings.name):
            deleted = run_coroutine(forget_mirror(installation, store, holdings, with_secrets))
        remaining = store.read_now(lambda tx: tx.forgotten.bases(holdings.name))
        then()
        is_of_folder = installation.config.path is None and places.is_of_folder_option(
            installation.state_dir, os.environ
        )
        if is_of_folder and not store.read_now(lambda tx: tx.mirrors.all()):
            # While the state directory has this note, other commands know its folder.
            places.forget_folder(installation.state_dir)
            if not store.read_now(lambda tx: tx.forgotten.bases()):
                shutil.rmtree(installation.state_dir)
        return deleted, remaining


def _choose_all(choices: Choices) -> Installation:
    """Return the installation with all its mirrors and their keys."""
    return choose(dataclasses.replace(choices, mirrors=()), here=True)


def _delete_left_behind(
    installation: Installation, holdings: Holdings, choices: Choices, *, yes: bool
) -> None:
    """Delete the mirror's documents in its former knowledge bases. The mirror itself continues."""
    from kbsync.engine.forget import delete_left, release
    from kbsync.forget import UnreachableBase, open_base

    record, leftovers = holdings.record, holdings.leftovers
    bases = [*holdings.owned.elsewhere, *((leftover.base, leftover.documents) for leftover in leftovers)]
    if record is None or not bases:
        raise UsageError(f"{holdings.name} left no documents behind in other knowledge bases")
    for base, documents in bases:
        count = format_count(documents, "document")
        print_message(printable(f"{holdings.name}: {count} in {base.location}, a former knowledge base"))
    if not confirm(f"Delete what {holdings.name} left behind?", f"forget {holdings.name}", yes=yes):
        return
    with_secrets = partial(_choose_all, choices)
    unreachable, halted = list[str](), list[Halted]()

    async def delete_all(store: StateStore) -> int:
        deleted = 0
        for base, _ in bases:
            try:
                async with open_base(installation, with_secrets, holdings.name, base) as target:
                    if (released := await release(store, record, base)) is not None:
                        deleted += await delete_left(store, released, target)
            except UnreachableBase as error:
                unreachable.append(f"{holdings.name}: {error}")
            except Halted as error:  # the other bases don't depend on this one
                halted.append(error)
        return deleted

    with _open_alone(installation) as (installation, store), concerning(holdings.name):
        deleted = run_coroutine(delete_all(store))
    if len(unreachable) == len(bases):
        raise UsageError("\n".join(unreachable))
    for reason in unreachable:
        print_message(reason)
    if not choices.quiet and len(unreachable) + len(halted) < len(bases):
        Output().line(
            f"{format_count(deleted, 'document')} of {holdings.name} deleted; the mirror itself was not "
            "changed"
        )
    if halted:
        with concerning(holdings.name):
            raise halted[0]
