"""`kbsync verify`: an audit of folder, state and knowledge base."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kbsync.cli.context import choose, for_each_mirror, not_yet, post, set_up_logs, when_done
from kbsync.cli.exit_codes import Code
from kbsync.cli.options import Choices, examples, json_option, shared_options
from kbsync.cli.output import Output, tell
from kbsync.core.text import counted, printable

if TYPE_CHECKING:
    from kbsync.contract.target import Target
    from kbsync.engine.clock import Clock
    from kbsync.engine.plan import CommandContext
    from kbsync.engine.settings import MirrorSettings
    from kbsync.engine.verify import Verification
    from kbsync.state.read_only import ReadOnlyState


@click.command(
    epilog=examples(
        "kbsync verify",
        "kbsync verify --repair",
        "kbsync verify --json | jq '.mirrors[] | select(.ok | not)'",
    )
)
@click.option("--repair", is_flag=True, help="Schedule the repairs that are needed.")
@json_option
@shared_options
def command(choices: Choices, repair: bool, as_json: bool) -> int:
    """Compare the folder, the state and the knowledge base's own list of documents.

    \b
    missing    a recorded document that the knowledge base no longer has
    stale      a file newer than its document, with nothing pending for it
    orphaned   a document of ours whose file is gone
    duplicate  a second document for one file
    kept       a document whose file is gone, kept by `deletions: never`: nothing is wrong

    Exits 1 if it finds anything. It changes nothing itself: --repair asks the running kbsync, or the next
    pass, to do what is needed.
    """
    import asyncio

    from kbsync.cli.exit_codes import worst
    from kbsync.engine.verify import repair_request, verify_mirror

    installation = choose(choices, here=True)
    set_up_logs(choices)
    if repair and not installation.state_file.exists():
        raise not_yet(installation)

    async def verify(
        settings: MirrorSettings,
        target: Target,
        state: ReadOnlyState,
        clock: Clock,
        context: CommandContext,
    ) -> Verification:
        # Without a state and a base nothing was mirrored; a base has a list to compare.
        if not state.exists and not (await target.base()).id:
            raise not_yet(installation)
        return await verify_mirror(settings, target, state, clock, context)

    found = asyncio.run(for_each_mirror(installation, verify))
    repairs = {each.name: wanted for each in found if repair and (wanted := repair_request(each))}
    if repairs:
        post(installation, [("repair", name, wanted) for name, wanted in repairs.items()])
    if as_json:
        Output().json({"mirrors": [each.to_json() for each in found]})
    else:
        for each in found:
            _print(Output(), each, quiet=choices.quiet)
        if repairs and not choices.quiet:
            tell(f"repair of {', '.join(repairs)} scheduled; {when_done(installation)}")
    halted = [Code.PERSON for each in found if each.halt is not None]
    return worst([*halted, *(Code.MIRRORED if each.ok else Code.FAILED for each in found)])


def _print(output: Output, found: Verification, *, quiet: bool) -> None:
    if found.halt is not None:
        cure = f"; fix: {found.halt.cure}" if found.halt.cure else ""
        output.line(output.red("! ") + printable(f"{found.name}: {found.halt.detail}{cure}"))
    counts = []
    for kind in ("missing", "stale", "orphaned", "duplicate"):
        documents = getattr(found, kind)
        for one in documents:
            why = output.dim(printable(one.why))
            output.line(f"{output.red(f'{kind:9}')}  {printable(one.path)}  {why}")
        if documents:
            counts.append(f"{len(documents):,} {kind}")
    if quiet and found.ok:
        return
    for one in found.kept or ():
        output.line(
            f"{output.green('kept'.ljust(9))}  {printable(one.path)}  {output.dim(printable(one.why))}"
        )
    for name, documents in found.detached.items():
        left = f"{counted(documents, 'document')} of the mirror {name}, which is no longer in the config"
        delete = f"kbsync forget {name} --delete-documents"
        output.line(f"{output.dim('detached')}   {printable(left)}; to delete: {printable(delete)}")
    result = ", ".join(counts) or ("all is well" if found.ok else "the folder could not be compared")
    kept = f"; {counted(len(found.kept), 'document')} kept" if found.kept else ""
    others = f"; {counted(found.foreign, 'document')} not ours" if found.foreign else ""
    output.line(output.bold(f"{found.name}: {result}{kept}{others}"))
