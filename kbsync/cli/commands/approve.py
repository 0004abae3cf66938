"""`kbsync approve`: shows the held documents, asks for approval, and approves exactly those."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from kbsync.cli.context import Message, choose, describe_delivery, post, read_state
from kbsync.cli.options import Choices, complete_mirror, examples, shared_options
from kbsync.cli.output import Output, first_lines
from kbsync.cli.prompts import confirm
from kbsync.core.text import format_count, printable
from kbsync.dataclass import dataclass
from kbsync.file_systems import real_path

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kbsync.config.model import MirrorConfig
    from kbsync.state.read_only import Tx


@dataclass(frozen=True, slots=True)
class HeldDocuments:
    """The documents held in a mirror: the paths to `delete` and to `reindex`, and the numbers of their
    `holds`.

    `folder`: the mirror's root, if another folder replaced it. `unmounted`: directories in the mirror
    whose disks aren't mounted.
    """

    mirror: str
    holds: tuple[int, ...]
    delete: tuple[str, ...]
    reindex: tuple[str, ...] = ()
    folder: str = ""
    unmounted: tuple[str, ...] = ()


@click.command(
    epilog=examples(
        "kbsync approve",
        "kbsync approve handbook",
        "kbsync approve --yes  # without a prompt",
    )
)
@click.argument("mirror", required=False, shell_complete=complete_mirror)
@click.option("--yes", is_flag=True, help="Do not ask.")
@shared_options
def command(choices: Choices, mirror: str | None, yes: bool) -> None:
    """Show the documents held in MIRROR, or in all mirrors, and approve them if you confirm.

    These include deletions, and documents to reindex with new settings. Later holds need another approval. If
    a mirror's folder was replaced by another one, or a disk in it is no longer mounted, approve accepts the
    folder as it is.
    """
    installation = choose(choices.with_mirror(mirror), here=True, with_secrets=False)
    answers = read_state(
        installation, lambda tx: [find_held(mirror, tx) for mirror in installation.mirrors], must_exist=True
    )
    held = [approval for approval in answers if approval.holds or approval.folder or approval.unmounted]
    if not held:
        if not choices.quiet:
            Output().line("nothing is held")
        return
    if not (choices.quiet and yes):
        _print(Output(), held, installation.command_line("plan --all"))
    if not confirm("Approve?", "approve this", yes=yes):
        return
    messages = list[Message]()
    for approval in held:
        arguments: dict[str, Any] = {"holds": list(approval.holds), "by": "command"}
        if approval.folder:
            arguments["root"] = True
        if approval.unmounted:
            arguments["folders"] = list(approval.unmounted)
        messages.append(("approve", approval.mirror, arguments))
    post(installation, messages)
    if not choices.quiet:
        Output().line(f"approved; {describe_delivery(installation, [approval.mirror for approval in held])}")


def find_held(mirror: MirrorConfig, tx: Tx) -> HeldDocuments:
    """Return everything in this mirror that needs the user's decision."""
    from kbsync.core.model import UNMOUNTED
    from kbsync.engine.status import FOLDER_MISSING, unapproved
    from kbsync.source.roots import RootError, identify
    from kbsync.state.approvals import RENEWALS

    record = tx.mirrors.named(mirror.name)
    if record is None:
        return HeldDocuments(mirror.name, (), ())
    # By hold number: a later hold is not part of this approval and needs another (promise 5).
    deletions, renewals = unapproved(tx, record.id), unapproved(tx, record.id, RENEWALS)
    delete = sorted({removal.path for hold in deletions for removal in tx.removals.page(hold, held=True)})
    reindex = sorted(path for hold in renewals for path, *_ in tx.recipes.members(hold))
    holds, folder = tuple(hold.id for hold in (*deletions, *renewals)), ""
    if record.halt is not None and record.halt.reason == FOLDER_MISSING:
        # A missing folder can't be accepted: that would accept any later replacement.
        with suppress(RootError):
            identify(real_path(mirror.folder))
            folder = str(mirror.folder)
    problems = [item for item in tx.folders.problems(record.id) if not item.is_excluded]
    unmounted = tuple(item.path for item in problems if item.problem == UNMOUNTED)
    return HeldDocuments(mirror.name, holds, tuple(delete), tuple(reindex), folder, unmounted)


def _print(output: Output, held: list[HeldDocuments], every: str) -> None:
    """Show what an approval would do. `every`: the command that shows a long list in full."""

    from kbsync.state.files import folder_label

    def section(sign: str, paths: Sequence[str]) -> None:
        output.lines(f"  {sign} {line}" for line in first_lines(list(map(printable, paths)), every))

    for approval in held:
        if approval.folder:
            output.line(f"{approval.mirror}: accept {printable(approval.folder)} as it is now")
        for path in approval.unmounted:
            label = printable(folder_label(path))
            output.line(
                f"{approval.mirror}: accept {label} as it is now; deletions of missing files will be held "
                "for approval"
            )
        if approval.delete:
            output.line(f"{approval.mirror}: delete {format_count(len(approval.delete), 'document')}:")
        section(output.red("-"), approval.delete)
        if approval.reindex:
            documents = format_count(len(approval.reindex), "document")
            output.line(f"{approval.mirror}: reindex {documents} with the new settings:")
        section(output.yellow("~"), approval.reindex)
    output.write("", flush=True)  # before the question on stderr
