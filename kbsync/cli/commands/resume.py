"""`kbsync resume`: resumes paused mirrors."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from kbsync.cli.context import change_state, choose, describe_next, find_paused, find_records
from kbsync.cli.options import Choices, complete_mirror, examples, json_option, shared_options
from kbsync.cli.output import Output
from kbsync.core.quiet_hours import parse_quiet_hours
from kbsync.core.text import format_list, printable

if TYPE_CHECKING:
    from kbsync.state.read_only import Tx


@click.command(epilog=examples("kbsync resume", "kbsync resume notes"))
@click.argument("name", required=False, shell_complete=complete_mirror)
@json_option
@shared_options
def command(choices: Choices, name: str | None, as_json: bool) -> None:
    """Resume the paused mirror NAME, or all paused mirrors.

    A running kbsync compares the folder within seconds and continues. During quiet hours, it then works until
    the next quiet hours begin.
    """
    installation = choose(choices.with_mirror(name), here=True, with_secrets=False)
    resumed = list[str]()

    def end(tx: Tx) -> None:
        for mirror, record in find_records(tx, installation):
            if tx.pauses.current(record.id, now := time.time()) is not None:
                quiet_hours = parse_quiet_hours(installation.mirror(mirror).quiet_hours or "")
                tx.pauses.end(record.id, now, quiet_hours)
                resumed.append(mirror)

    if find_paused(installation):
        change_state(installation, end)
    if as_json:
        Output().json({"resumed": resumed})
    elif not choices.quiet and resumed:
        Output().line(printable(f"resumed {format_list(resumed)}"))
        once = f"to mirror now: {installation.command_line('--once')}"
        running = "the running kbsync will continue now"
        Output().line(describe_next(installation, resumed, running=running, otherwise=once))
    elif not choices.quiet:
        Output().line("nothing is paused")
