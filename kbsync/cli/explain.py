"""`kbsync explain`: why a file is, or is not, found."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kbsync.cli.exits import Code
from kbsync.cli.options import DOCUMENT, Choices, examples, json_option, pass_choices, shared_options
from kbsync.cli.paper import Paper
from kbsync.core.printable import printable, printable_lines

if TYPE_CHECKING:
    from kbsync.engine.explain import PathExplanation
    from kbsync.installation import Installation


@click.command(
    epilog=examples(
        "kbsync explain reports/scan.pdf",
        "kbsync explain reports/scan.pdf --text | less",
        "kbsync explain notes.md --json | jq .selection.rule",
    )
)
@click.argument("path", type=DOCUMENT)
@click.option("--text", is_flag=True, help="Also print the text that was extracted.")
@json_option
@shared_options
@pass_choices
def command(choices: Choices, path: str, text: bool, as_json: bool) -> int:
    """Tell why the file PATH is or is not found: rules, stability, state, document, extracted text.

    PATH is relative to the mirror or to the working directory, or absolute.
    """
    import asyncio

    from kbsync.cli.choosing import choose
    from kbsync.cli.looking import set_up_logs

    installation = choose(choices, here=True)
    set_up_logs(choices)
    told = asyncio.run(_explained(installation, path, text))
    paper = Paper()
    if as_json:
        paper.json({**told.to_json(), **({"text": told.text} if text else {})})
    else:
        _print(paper, told, text=text)
    return Code.MIRRORED


async def _explained(installation: Installation, path: str, text: bool) -> PathExplanation:
    from contextlib import ExitStack, closing
    from pathlib import Path

    from kbsync.assembly import plan_of
    from kbsync.cli.choosing import look_at
    from kbsync.cli.looking import reading, site_of
    from kbsync.engine.clock import SystemClock
    from kbsync.engine.explain import explain_path, locate, outside
    from kbsync.engine.plan import service_of

    plans = {plan_of(mirror).root: mirror for mirror in installation.mirrors}
    place = locate(path, Path.cwd(), list(plans))
    if place is None:
        return outside(path, list(plans))
    mirror = plans[place[0]]
    plan = plan_of(mirror)
    with ExitStack() as stack:
        state = look_at(installation)
        if state is not None:
            stack.enter_context(closing(state))
        async with reading(installation, mirror) as target:
            service, site = service_of(target, plan), site_of(installation)
            return await explain_path(
                plan, service, state, SystemClock(), place[1], target=target, site=site, text=text
            )


def _print(paper: Paper, told: PathExplanation, *, text: bool) -> None:
    where = f"{told.mirror}: " if told.mirror is not None else ""
    paper.line(paper.bold(printable(f"{where}{told.path or '.'}")))
    paper.line(printable(told.answer))
    if told.sentences:
        paper.line()
    for sentence in told.sentences:
        paper.line(f"  {printable(sentence)}")
    if text and told.text is not None:
        paper.line()
        paper.line(printable_lines(told.text))
