"""`kbsync approve`: a person approves exactly what is held at this moment."""

from __future__ import annotations

import dataclasses
from contextlib import closing, suppress
from functools import partial
from typing import TYPE_CHECKING

import click

from kbsync.cli.context import choose, existing_state, post, when_done
from kbsync.cli.exit_codes import Code
from kbsync.cli.options import Choices, complete_mirror, examples, shared_options
from kbsync.cli.output import Output, counted
from kbsync.core.text import printable

if TYPE_CHECKING:
    from kbsync.config.model import MirrorConfig
    from kbsync.state.read_only import Tx


@dataclasses.dataclass(frozen=True, slots=True)
class HeldDocuments:
    """What waits in one mirror: holds with the paths to be deleted, and `renewed`, those to be made anew.

    `folder`: where a changed root is to be taken.
    """

    mirror: str
    holds: tuple[int, ...]
    paths: tuple[str, ...]
    renewed: tuple[str, ...] = ()
    folder: str = ""


@click.command(epilog=examples("kbsync approve", "kbsync approve handbook"))
@click.argument("mirror", required=False, shell_complete=complete_mirror)
@shared_options
def command(choices: Choices, mirror: str | None) -> int:
    """Let go what is held now, of MIRROR or of all mirrors, and print it.

    That is deletions, and documents to be indexed again because settings changed. What is held later asks
    again. Of a mirror that halted because its folder is another one than
    before, the folder as it is now is accepted.
    """
    if mirror is not None:
        choices = dataclasses.replace(choices, mirrors=(*choices.mirrors, mirror))
    installation = choose(choices, here=True, with_secrets=False)
    with closing(existing_state(installation)) as state:
        held = [state.read(partial(find_held, each)) for each in installation.mirrors]
    waiting = [each for each in held if each.holds or each.folder]
    if waiting:
        asked = [
            ("approve", each.mirror, {"holds": list(each.holds), **({"root": True} if each.folder else {})})
            for each in waiting
        ]
        post(installation, asked)
        _tell(Output(), waiting)
    if not choices.quiet:
        Output().line(when_done(installation) if waiting else "nothing is held")
    return Code.MIRRORED


def find_held(mirror: MirrorConfig, tx: Tx) -> HeldDocuments:
    """What waits for a person in this mirror."""
    from kbsync.source.roots import RootTrouble, identify
    from kbsync.state.approvals import RENEWALS

    record = tx.mirrors.named(mirror.name)
    if record is None:
        return HeldDocuments(mirror.name, (), ())
    # By their numbers: what is held later joins none of them and asks again (promise 5).
    holds = [hold.id for hold in tx.holds.current(record.id)]
    paths = sorted({item.path for hold in holds for item in tx.holds.items(hold)})
    asked = tx.holds.current(record.id, RENEWALS)
    renewed = sorted(path for hold in asked for path, *_ in tx.recipes.members(hold))
    holds += (hold.id for hold in asked)
    folder = ""
    if record.halt is not None and record.halt.reason == "folder-missing":
        # One that is missing cannot be accepted: whatever comes in its place later would be.
        with suppress(RootTrouble):
            identify(mirror.folder.resolve())
            folder = str(mirror.folder)
    return HeldDocuments(mirror.name, tuple(holds), tuple(paths), tuple(renewed), folder)


def _tell(output: Output, waiting: list[HeldDocuments]) -> None:

    for each in waiting:
        if each.folder:
            output.line(f"{each.mirror}: {printable(each.folder)} is accepted as it is now")
        if each.paths:
            output.line(f"{each.mirror}: {counted(len(each.paths), 'held deletion')} approved")
        for path in each.paths:
            output.line(f"  {output.red('-')} {printable(path)}")
        if each.renewed:
            which = counted(len(each.renewed), "document")
            output.line(f"{each.mirror}: {which} to be indexed again as settings changed, approved")
        for path in each.renewed:
            output.line(f"  {output.yellow('~')} {printable(path)}")
