"""`kbsync plan`: what a pass would do, as a readable diff."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from kbsync.cli.exit_codes import Code
from kbsync.cli.options import Choices, examples, json_option, pass_choices, shared_options
from kbsync.cli.output import Output

if TYPE_CHECKING:
    from kbsync.config.model import MirrorConfig
    from kbsync.engine.plan import MirrorPlan
    from kbsync.installation import Installation
    from kbsync.state.glance import Glance


@click.command(
    epilog=examples(
        "kbsync plan",
        "kbsync plan --folder docs --limit 20",
        "kbsync plan --json | jq '.mirrors[].delete'",
    )
)
@click.option("--limit", type=click.IntRange(min=0), metavar="N", help="Show at most N lines of each kind.")
@json_option
@shared_options
@pass_choices
def command(choices: Choices, as_json: bool, limit: int | None) -> int:
    """Show what a pass would do: + new, ~ changed, > renamed, - deleted, ! held. Nothing is changed anywhere.

    With --json all paths are listed, whatever the limit.
    """
    return plan(choices, as_json=as_json, limit=limit)


def plan(choices: Choices, *, as_json: bool, limit: int | None) -> int:
    """Plan a pass of every mirror asked for; MIRRORED when all could be planned."""
    import asyncio

    from kbsync.cli.commands.plan_diff import print_plans
    from kbsync.cli.context import choose
    from kbsync.cli.reading import set_up_logs

    installation = choose(choices, here=True)
    set_up_logs(choices)
    plans = asyncio.run(_plans(installation))
    if as_json:
        Output().json({"mirrors": [each.to_json() for each in plans]})
    else:
        print_plans(Output(), plans, limit)
    return Code.PERSON if any(each.halt is not None for each in plans) else Code.MIRRORED


async def _plans(installation: Installation) -> list[MirrorPlan]:
    from kbsync.cli.context import look_at

    state = look_at(installation)
    try:
        return [await _plan(installation, mirror, state) for mirror in installation.mirrors]
    finally:
        if state is not None:
            state.close()


async def _plan(installation: Installation, mirror: MirrorConfig, state: Glance | None) -> MirrorPlan:
    from kbsync.cli.reading import reading, site_of
    from kbsync.engine.clock import SystemClock
    from kbsync.engine.plan import plan_mirror
    from kbsync.once import plan_of

    async with reading(installation, mirror) as target:
        return await plan_mirror(plan_of(mirror), target, state, SystemClock(), site_of(installation))
