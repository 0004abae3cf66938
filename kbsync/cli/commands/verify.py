"""`kbsync verify`: compares the folder, the state and the knowledge base."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kbsync.cli.context import (
    choose,
    describe_delivery,
    for_each_mirror,
    mirrors_json,
    not_yet,
    post,
    set_up_logs,
)
from kbsync.cli.exit_codes import Code, printing_result, worst
from kbsync.cli.options import Choices, examples, json_option, shared_options
from kbsync.cli.output import Output, print_message
from kbsync.core.text import format_count, printable
from kbsync.permissions import exists
from kbsync.threads import run_coroutine

if TYPE_CHECKING:
    from kbsync.contract.target import Target
    from kbsync.engine.clock import Clock
    from kbsync.engine.plan import CommandContext
    from kbsync.engine.settings import MirrorSettings
    from kbsync.engine.verify import Verification
    from kbsync.installation import Installation
    from kbsync.state.read_only import ReadOnlyState


@click.command(
    epilog=examples(
        "kbsync verify",
        "kbsync verify --repair",
        "kbsync verify --json | jq '.mirrors[] | select(.ok | not)'",
    )
)
@click.option("--repair", is_flag=True, help="Schedule the necessary repairs.")
@json_option
@shared_options
def command(choices: Choices, repair: bool, as_json: bool) -> int:
    """Compare the folder, the state and the knowledge base's own list of documents.

    \b
    missing    a recorded document that the knowledge base no longer has
    stale      a file newer than its document, with nothing pending for it
    orphaned   one of our documents whose file is gone
    duplicate  a second document for one file
    unchecked  a folder that kbsync could not read, so its files were not compared
    kept       a document whose file is gone, kept by `deletions: never`: nothing is wrong

    Exits 1 if it finds anything. It changes nothing itself: with --repair, the running kbsync or the next
    pass makes the repairs. If a mirror can't be compared, it says why and reports the others.
    """
    from kbsync.engine.verify import Verification, repair_request, verify_mirror

    installation = choose(choices, here=True)
    set_up_logs(choices)
    if repair and not exists(installation.state_file):
        raise not_yet(installation)

    async def verify(
        settings: MirrorSettings, target: Target, state: ReadOnlyState, clock: Clock, context: CommandContext
    ) -> Verification:
        # Without a state and a base, nothing was mirrored. A base alone has a list to compare.
        if not state.exists and not (await target.base()).id:
            raise not_yet(installation.narrow(settings.name))
        return await verify_mirror(settings, target, state, clock, context)

    audits, failures = run_coroutine(for_each_mirror(installation, verify))
    repairs = {audit.name: request for audit in audits if repair and (request := repair_request(audit))}
    if repairs:
        post(installation, [("repair", name, request) for name, request in repairs.items()])
    codes = [failure.code for failure in failures]
    codes += [Code.PERSON for audit in audits if audit.halt is not None]
    code = worst([*codes, *(Code.MIRRORED if audit.ok else Code.FAILED for audit in audits)])
    with printing_result(code):
        if as_json and audits:
            unverified = [
                {**Verification(error.mirror).to_json(), "ok": False, "error": str(error)}
                for error in failures
            ]
            Output().json(mirrors_json(installation, [*(audit.to_json() for audit in audits), *unverified]))
        else:
            for audit in audits:
                _print(Output(), installation, audit, quiet=choices.quiet)
            if repairs and not choices.quiet:
                then = describe_delivery(installation, list(repairs))
                print_message(f"repair of {', '.join(repairs)} scheduled; {then}")
        for failure in failures:
            print_message(str(failure))
    return code


_KINDS = ("missing", "stale", "orphaned", "duplicate", "unchecked")


def _print(output: Output, installation: Installation, audit: Verification, *, quiet: bool) -> None:
    """Print the findings, then the result.

    With several mirrors, the result comes first, because it names the mirror.
    """
    if quiet and audit.ok:
        return
    from kbsync.engine.status import in_words

    several = len(installation.mirrors) > 1
    counts = [f"{len(documents):,} {kind}" for kind in _KINDS if (documents := getattr(audit, kind))]
    result = ", ".join(counts) or ("all is well" if audit.ok else "the folder could not be compared")
    kept_count = f"; {format_count(len(audit.kept), 'document')} kept" if audit.kept else ""
    others = f"; {format_count(audit.foreign, 'document')} not ours" if audit.foreign else ""
    summary = output.bold(f"{audit.name}: {result}{kept_count}{others}")
    if several:
        output.line(summary)
    if audit.halt is not None:
        output.line(output.red("! ") + printable(f"{audit.name}: {in_words(audit.halt)}"))
    for kind, style in (*dict.fromkeys(_KINDS, output.red).items(), ("kept", output.green)):
        for document in getattr(audit, kind) or ():
            why = output.dim(printable(document.why))
            output.line(f"{style(f'{kind:9}')}  {printable(document.path)}  {why}")
    for name, documents in audit.detached.items():
        count = format_count(documents, "document")
        if name == audit.name:
            which = "under its former prefix"
            delete = installation.command_line(f"forget {name} --left-behind")
        else:
            which = f"of the mirror {name} (no longer in the config)"
            delete = installation.command_line(f"forget {name} --delete-documents")
        detached = f"{count} {which}; to delete: {delete}"
        output.line(f"{output.dim('detached')}   {printable(detached)}")
    if not several:
        output.line(summary)
