"""`kbsync pause`: pauses mirrors until a given time or until `resume`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from kbsync.cli.context import change_state, choose
from kbsync.cli.options import Choices, ParsedOption, complete_mirror, examples, json_option, shared_options
from kbsync.cli.output import Output
from kbsync.config.kinds import parse_duration
from kbsync.core.text import format_list, printable

if TYPE_CHECKING:
    from kbsync.state.read_only import Tx


def _read_pause(text: str) -> float:
    from kbsync.state.mirrors import MAX_PAUSE

    seconds = parse_duration(text)
    if not 0 < seconds <= MAX_PAUSE:
        raise ValueError(f"{text!r} is out of range; allowed: more than 0s, up to 366d")
    return seconds


@click.command(
    epilog=examples(
        "kbsync pause  # all mirrors, until `kbsync resume`",
        "kbsync pause notes --for 2h",
    )
)
@click.argument("name", required=False, shell_complete=complete_mirror)
@click.option(
    "--for",
    "seconds",
    type=ParsedOption(_read_pause),
    metavar="TIME",
    help="Resume automatically after this time, such as 30m or 2h.",
)
@json_option
@shared_options
def command(choices: Choices, name: str | None, seconds: float | None, as_json: bool) -> None:
    """Pause the mirror NAME, or all mirrors.

    A paused mirror starts no uploads or deletions, and doesn't read its folder. kbsync only waits for the
    outcome of earlier uploads. You can still search. The pause survives restarts of kbsync and of the
    machine; `kbsync --once` skips a paused mirror.
    """
    from kbsync.engine.attach import enroll, find_record
    from kbsync.engine.status import clock_time, pause_json
    from kbsync.once import identities_of, settings_of
    from kbsync.state.mirrors import Pause

    installation = choose(choices.with_mirror(name), here=True, with_secrets=False)
    now = time.time()
    pause = Pause(now, None if seconds is None else now + seconds)
    configured = identities_of(installation.config)

    def begin(tx: Tx) -> None:
        for mirror in installation.mirrors:
            settings = settings_of(mirror)
            record = find_record(tx, settings, configured) or enroll(tx, settings, configured)
            tx.pauses.begin(record.id, pause)

    change_state(installation, begin)
    names = [mirror.name for mirror in installation.mirrors]
    if as_json:
        Output().json({"paused": [{"name": name, **pause_json(pause)} for name in names]})
    elif not choices.quiet:
        until = "" if pause.until is None else f" until {clock_time(pause.until)}"
        resume = installation.command_line("resume" if name is None else f"resume {name}")
        Output().line(printable(f"paused {format_list(names)}{until}; to resume: {resume}"))
