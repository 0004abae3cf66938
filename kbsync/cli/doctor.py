"""`kbsync doctor`: a line for everything that has to be right, with the cure where it is not."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from kbsync import __version__
from kbsync.cli.exits import Code
from kbsync.cli.options import Choices, examples, json_option, pass_choices, shared_options
from kbsync.cli.paper import Paper, cells

if TYPE_CHECKING:
    from kbsync.cli.checkup.finding import Check, Finding
    from kbsync.errors import UsageError
    from kbsync.installation import Installation


@click.command(
    epilog=examples("kbsync doctor", "kbsync doctor --json | jq '.checks[] | select(.result != \"ok\")'")
)
@json_option
@shared_options
@pass_choices
def command(choices: Choices, as_json: bool) -> int:
    """Check everything kbsync needs: config, rights, disk, kernel limits, network, clock, key, quota.

    One line each: ok, warning or wrong, with the cure. Nothing is changed anywhere. Exits 0 when nothing is
    wrong, else as a pass would.
    """
    from kbsync.cli.checkup.finding import findings_of
    from kbsync.cli.exits import worst
    from kbsync.cli.looking import set_up_logs

    set_up_logs(choices)
    found = findings_of(_checks(choices))
    if as_json:
        Paper().json({"version": __version__, "checks": [_to_json(one) for one in found]})
    else:
        _print(Paper(), found, quiet=choices.quiet)
    broken = any(one.code is Code.BROKEN for one in found)
    return Code.BROKEN if broken else worst(one.code for one in found)


def _checks(choices: Choices) -> list[Check]:
    """Without a config that can be read, what can be checked all the same."""
    from kbsync.cli.checkup import machine
    from kbsync.cli.checkup.finding import Check, troubled
    from kbsync.cli.choosing import choose
    from kbsync.errors import UsageError

    general = [
        Check("versions", machine.versions),
        Check("credentials", partial(machine.credentials, os.environ)),
    ]
    try:
        return [*_of(choose(choices, here=True, mistyped=True)), *general]
    except UsageError as error:
        unread = [troubled("config", UsageError(line)) for line in _problems(error)]
    refused = Check("config", lambda: unread)
    try:
        rest = _of(choose(choices, here=True, with_secrets=False, mistyped=True))
    except UsageError:
        return [refused, *general]
    return [refused, *(one for one in rest if one.subject != refused.subject), *general]


def _problems(error: UsageError) -> list[str]:
    """A config tells each of its problems on a line; any other error is one."""
    from kbsync.config.problems import ConfigError

    lines = str(error).splitlines()
    return lines if isinstance(error, ConfigError) else ["; ".join(lines)]


def _of(installation: Installation) -> list[Check]:
    from kbsync.cli.checkup import copies, machine, places, service
    from kbsync.cli.checkup.finding import Check

    mirrors = installation.mirrors
    return [
        Check("config", partial(places.config, installation)),
        Check("state", partial(places.state, installation)),
        Check("copies", partial(copies.copies, installation)),
        Check("disk", partial(machine.disk, installation.state_dir)),
        Check("listener", partial(places.listener, installation)),
        Check("inotify", partial(places.inotify, mirrors)),
        *(
            Check(f"{mirror.name}: folder", partial(places.folder, installation, mirror))
            for mirror in mirrors
        ),
        *(Check(f"{each.name}: service", partial(service.service, installation, each)) for each in mirrors),
    ]


def _to_json(finding: Finding) -> dict[str, Any]:
    return {
        "name": finding.subject,
        "result": finding.grade.value,
        "detail": finding.detail,
        "cure": finding.cure,
    }


def _print(paper: Paper, found: Sequence[Finding], *, quiet: bool) -> None:
    """Each on a line of its own; with `quiet` only what is not ok."""
    from kbsync.cli.checkup.finding import Grade
    from kbsync.core.printable import printable

    styles = {Grade.OK: paper.green, Grade.WARNING: paper.yellow, Grade.WRONG: paper.red}
    width = max(cells(one.subject) for one in found)
    for one in found:
        if quiet and one.grade is Grade.OK:
            continue
        room = " " * (width - cells(one.subject))
        cure = f"; cure: {one.cure}" if one.cure else ""
        grade = styles[one.grade](f"{one.grade.value:7}")
        paper.line(f"{grade}  {one.subject}{room}  {printable(one.detail + cure)}")
