"""`kbsync --once`: one pass with its progress, and what there is to say at its end."""

from __future__ import annotations

import asyncio
import io
import sys
from collections.abc import Sequence
from typing import Any, TextIO, cast

from kbsync import logs, passes
from kbsync.cli import ending
from kbsync.cli.choosing import choose, prepare
from kbsync.cli.exits import Code, signalled
from kbsync.cli.options import Choices
from kbsync.cli.paper import Paper, speak, tell
from kbsync.cli.progress import watcher
from kbsync.cli.reported import Heard, report, say, told_as_log
from kbsync.cli.standing import Standing, code_of_pass, standings
from kbsync.errors import LockedError
from kbsync.installation import Installation
from kbsync.passes import OnceEnd
from kbsync.signals import ENDING, HardEnd, Signals, hard_end

REPORTED = ("document.failed", "mirror.halted", "deletions.held", "recipe.held")
"""Events of which the report at the end tells a person all there is to know."""


def once(choices: Choices, *, as_json: bool) -> int:
    """One full pass of every mirror asked for; the exit code tells how it ended."""
    installation = choose(choices)
    prepare(installation)
    level = choices.log_level or ("error" if choices.quiet else "warning")
    stderr = cast(TextIO, Stderr())
    is_report_read = logs.is_for_a_person(choices.log_format, choices.log_level)
    heard = None if is_report_read else Heard(has_report=not as_json)
    if heard is not None:
        logs.configure(style=choices.log_format, level=level, stream=stderr, wanted=heard.listen)
        speak(told_as_log)
    else:
        logs.configure(style=None, level=level, stream=stderr, wanted=lambda one: as_json or _is_apart(one))
    with hard_end() as hard, Signals(ENDING, lambda number: hard.arm(128 + number)) as signals:
        try:
            return asyncio.run(_until_told(installation, choices, signals, hard, heard, as_json=as_json))
        except LockedError:
            if not choices.quiet:
                raise
            return Code.PASSING  # it goes away by itself, and nobody is needed for that


def _is_apart(fields: logs.Fields) -> bool:
    """An event that the report does not tell again."""
    return fields.get("event") not in REPORTED


async def _until_told(
    installation: Installation,
    choices: Choices,
    signals: Signals,
    hard: HardEnd,
    heard: Heard | None,
    *,
    as_json: bool,
) -> Code:
    """The pass and its results. One that was interrupted waits for no thread after that."""
    end = await passes.once(installation, watcher(quiet=choices.quiet), signals)
    stand = standings(installation, end.ends)
    code = signalled(end.signal) if end.signal is not None else code_of_pass(stand)
    if as_json:
        Paper().json(_to_json(installation, end, stand))
    else:
        _say(installation, end, stand, code, choices, heard)
    hard.now()
    return code


class Stderr(io.TextIOBase):
    """Stderr as it is at the moment: while a bar is shown, lines have to go above it."""

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of what is written: Chinese names are told as such where they can be."""
        return getattr(sys.stderr, "encoding", None) or "ascii"

    def write(self, text: str) -> int:
        """To where stderr leads now."""
        return sys.stderr.write(text)

    def flush(self) -> None:
        """At once."""
        sys.stderr.flush()

    def isatty(self) -> bool:
        """Whether a person reads."""
        return sys.stderr.isatty()

    def fileno(self) -> int:
        """The descriptor."""
        return sys.stderr.fileno()


def _say(
    installation: Installation,
    end: OnceEnd,
    stand: Sequence[Standing],
    code: Code,
    choices: Choices,
    heard: Heard | None = None,
) -> None:
    """The report in the form that stderr has, and the summary."""
    if heard is not None:
        report(installation, stand, heard, quiet=choices.quiet)
    else:
        for line in ending.complaints(installation, stand, quiet=choices.quiet):
            tell(line)
    if end.signal is not None:
        again = installation.cure("--once")
        if heard is not None:
            say("pass.interrupted", detail="what was done is recorded", cure=again)
        else:
            tell(f"interrupted; what was done is recorded, and {again} goes on from there")
        return
    if not choices.quiet:
        paper = Paper()
        for line in ending.summary(end, stand, apart=paper.is_terminal):
            paper.line(line)
        if paper.is_terminal and code is Code.MIRRORED:
            paper.line(paper.dim(f"search it: {installation.cure('search QUERY')}"))


def _to_json(installation: Installation, end: OnceEnd, stand: Sequence[Standing]) -> dict[str, Any]:
    from kbsync.cli.status import statuses

    counts = [run.counts for run in end.runs.values()]
    return {
        **statuses(installation),
        "uploaded": sum(count.uploaded for count in counts),
        "replaced": sum(count.replaced for count in counts),
        "renamed": sum(count.renamed for count in counts),
        "deleted": sum(count.deleted for count in counts),
        "held": sum(each.status.documents.held for each in stand),
        "failed": sum(each.status.documents.failed for each in stand),
        "seconds": round(end.seconds, 3),
    }
