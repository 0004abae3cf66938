"""`kbsync verify`: an audit of folder, state and knowledge base."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kbsync.cli.exit_codes import Code
from kbsync.cli.options import Choices, examples, json_option, pass_choices, shared_options
from kbsync.cli.output import Output, counted, tell
from kbsync.core.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kbsync.config.model import MirrorConfig
    from kbsync.engine.verify import Verification
    from kbsync.installation import Installation
    from kbsync.state.glance import Glance


@click.command(
    epilog=examples(
        "kbsync verify",
        "kbsync verify --repair",
        "kbsync verify --json | jq '.mirrors[] | select(.ok | not)'",
    )
)
@click.option("--repair", is_flag=True, help="Have what is needed done by kbsync, or by the next pass.")
@json_option
@shared_options
@pass_choices
def command(choices: Choices, repair: bool, as_json: bool) -> int:
    """Compare the folder with the state, and the state with the knowledge base's own list.

    \b
    missing    recorded, and no longer in the knowledge base
    stale      the file is newer than its document, and nothing is pending
    orphaned   a document of ours whose file is gone
    duplicate  a second document for one file

    Exits 1 when anything was found. It changes nothing itself: --repair asks the running kbsync, or the next
    pass, to do what is needed.
    """
    import asyncio

    from kbsync.cli.context import choose, not_yet, set_up_logs

    installation = choose(choices, here=True)
    set_up_logs(choices)
    if repair and not installation.state_file.exists():
        raise not_yet(installation)
    found = asyncio.run(_verified(installation))
    asked = _repair(installation, found) if repair else []
    if as_json:
        Output().json({"mirrors": [each.to_json() for each in found]})
    else:
        _print(Output(), installation, found, quiet=choices.quiet)
        _tell_repairs(installation, asked, quiet=choices.quiet)
    return _code(found)


def _code(found: Sequence[Verification]) -> Code:
    from kbsync.cli.exit_codes import worst

    halted = [Code.PERSON for each in found if each.halt is not None]
    return worst([*halted, *(Code.MIRRORED if each.ok else Code.FAILED for each in found)])


async def _verified(installation: Installation) -> list[Verification]:
    from kbsync.cli.context import look_at

    state = look_at(installation)
    try:
        return [await _verify(installation, mirror, state) for mirror in installation.mirrors]
    finally:
        if state is not None:
            state.close()


async def _verify(installation: Installation, mirror: MirrorConfig, state: Glance | None) -> Verification:
    from kbsync.cli.context import command_context, not_yet, opened_for_reading
    from kbsync.engine.clock import SystemClock
    from kbsync.engine.verify import verify_mirror
    from kbsync.once import plan_of

    async with opened_for_reading(installation, mirror) as target:
        if state is None and not (await target.base()).id:
            raise not_yet(installation)
        return await verify_mirror(
            plan_of(mirror), target, state, SystemClock(), command_context(installation)
        )


def _repair(installation: Installation, found: Sequence[Verification]) -> list[str]:
    """Ask for what can be mended; the names of the mirrors where anything can be."""
    from kbsync.cli.context import post
    from kbsync.engine.verify import repair_messages

    repairs = {each.name: repair for each in found if (repair := repair_messages(each))}
    if repairs:
        post(installation, [("repair", name, each.to_json()) for name, each in repairs.items()])
    return list(repairs)


def _tell_repairs(installation: Installation, asked: Sequence[str], *, quiet: bool) -> None:
    if asked and not quiet:
        from kbsync.cli.context import when_done

        tell(f"repair of {', '.join(asked)} is asked for; {when_done(installation)}")


def _print(output: Output, installation: Installation, found: Sequence[Verification], *, quiet: bool) -> None:
    for each in found:
        for line in _lines(output, each):
            output.line(line)
        if not each.ok or not quiet:
            output.line(output.bold(_totals(each)))


def _lines(output: Output, found: Verification) -> Iterator[str]:
    if found.halt is not None:
        cure = f"; cure: {found.halt.cure}" if found.halt.cure else ""
        yield output.red("! ") + printable(f"{found.name}: {found.halt.detail}{cure}")
    for kind in ("missing", "stale", "orphaned", "duplicate"):
        for one in getattr(found, kind):
            yield f"{output.red(f'{kind:9}')}  {printable(one.path)}  {output.dim(printable(one.why))}"


def _totals(found: Verification) -> str:
    counts = [
        f"{len(getattr(found, kind)):,} {kind}"
        for kind in ("missing", "stale", "orphaned", "duplicate")
        if getattr(found, kind)
    ]
    result = ", ".join(counts) or ("all is well" if found.ok else "the folder could not be compared")
    others = f"; {counted(found.foreign, 'document')} of others" if found.foreign else ""
    return f"{found.name}: {result}{others}"
