"""`kbsync approve`: approve exactly what is held now."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import click

from kbsync.cli.context import choose, post, read_state, when_done
from kbsync.cli.options import Choices, complete_mirror, examples, shared_options
from kbsync.cli.output import Output
from kbsync.core.text import counted, printable
from kbsync.dataclass import dataclass

if TYPE_CHECKING:
    from kbsync.config.model import MirrorConfig
    from kbsync.state.read_only import Tx


@dataclass(frozen=True, slots=True)
class HeldDocuments:
    """What is held in a mirror: documents to `delete` and to `reindex`, by path, under `holds` by number.

    `folder`: the root, if another folder replaced it.
    """

    mirror: str
    holds: tuple[int, ...]
    delete: tuple[str, ...]
    reindex: tuple[str, ...] = ()
    folder: str = ""


@click.command(epilog=examples("kbsync approve", "kbsync approve handbook"))
@click.argument("mirror", required=False, shell_complete=complete_mirror)
@shared_options
def command(choices: Choices, mirror: str | None) -> None:
    """Approve what is held in MIRROR, or in all mirrors, and list it.

    That includes deletions, and documents to index again with new settings. What is held later needs another
    approval. If another folder replaced a mirror's folder, approve accepts it.
    """
    installation = choose(choices.with_mirror(mirror), here=True, with_secrets=False)
    answers = read_state(
        installation, lambda tx: [find_held(each, tx) for each in installation.mirrors], must_exist=True
    )
    held = [each for each in answers if each.holds or each.folder]
    if held:
        messages = [
            (
                "approve",
                each.mirror,
                {"holds": list(each.holds), "by": "command", **({"root": True} if each.folder else {})},
            )
            for each in held
        ]
        post(installation, messages)
        if not choices.quiet:
            _print(Output(), held)
    if not choices.quiet:
        Output().line(when_done(installation) if held else "nothing is held")


def find_held(mirror: MirrorConfig, tx: Tx) -> HeldDocuments:
    """Return what needs a decision in this mirror."""
    from kbsync.source.roots import RootTrouble, identify
    from kbsync.state.approvals import RENEWALS

    record = tx.mirrors.named(mirror.name)
    if record is None:
        return HeldDocuments(mirror.name, (), ())
    # By hold number: a later hold is not part of this approval and asks again (promise 5).
    deletions = tx.holds.current(record.id)
    delete = sorted({one.path for hold in deletions for one in tx.removals.page(hold, held=True)})
    renewals = tx.holds.current(record.id, RENEWALS)
    reindex = sorted(path for hold in renewals for path, *_ in tx.recipes.members(hold))
    holds, folder = tuple(hold.id for hold in (*deletions, *renewals)), ""
    if record.halt is not None and record.halt.reason == "folder-missing":
        # A missing folder cannot be accepted: that would accept any folder that replaces it later.
        with suppress(RootTrouble):
            identify(mirror.folder.resolve())
            folder = str(mirror.folder)
    return HeldDocuments(mirror.name, holds, tuple(delete), tuple(reindex), folder)


def _print(output: Output, held: list[HeldDocuments]) -> None:
    for each in held:
        if each.folder:
            output.line(f"{each.mirror}: accepted {printable(each.folder)} as it is now")
        if each.delete:
            output.line(f"{each.mirror}: {counted(len(each.delete), 'held deletion')} approved")
        for path in each.delete:
            output.line(f"  {output.red('-')} {printable(path)}")
        if each.reindex:
            documents = counted(len(each.reindex), "document")
            output.line(f"{each.mirror}: {documents} approved for indexing with the new settings")
        for path in each.reindex:
            output.line(f"  {output.yellow('~')} {printable(path)}")
