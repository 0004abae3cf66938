"""`status` as people read it: what is wrong, a line for each mirror, a line for each document."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from kbsync.cli.exit_codes import Code
from kbsync.cli.mirror_report import MirrorReport, read, status_in, worst_first
from kbsync.cli.output import Column, Output, Style, table
from kbsync.cli.problems import Demand, failures, halts, unfinished
from kbsync.config.model import MirrorConfig
from kbsync.core.model import Status
from kbsync.core.text import lasting, printable, sized
from kbsync.engine.status import SHOWN, FileStatus, MirrorStatus
from kbsync.installation import Installation
from kbsync.state.glance import Tx


def print_wrong(
    output: Output, installation: Installation, stand: Sequence[MirrorReport], demand: Demand | None = None
) -> None:
    """Everything a person should know first, with what to do about it."""
    wrong = [f"{output.red('! ')}{line}" for line in troubles(installation, stand, demand)]
    for line in wrong:
        output.line(line)
    if wrong:
        output.line()


def troubles(
    installation: Installation, stand: Sequence[MirrorReport], demand: Demand | None = None
) -> Iterator[str]:
    """What is wrong, in the order of exit codes: 2 and 3, then 4, then 1."""
    yield from halts(installation, stand, quiet=False)
    for each in worst_first(stand):
        yield from unfinished(installation, each, demand)
    yield from failures(installation, stand)
    for each in stand:
        if each.status.note:
            yield f"{each.status.name}: {printable(each.status.note)}"


def print_rates(output: Output, stand: Sequence[MirrorReport]) -> None:
    """How fast the mirrors at work are, and when they will be done."""
    for each in stand:
        if line := speed(each, each.rate):
            output.line(line)


def speed(stand: MirrorReport, rate: float) -> str:
    """For a mirror at work, with `rate` documents a second; '' for others."""
    is_moving = stand.waiting and rate > 0 and not stand.is_forsaken
    words = [f"{rate:.1f} documents/s"] if is_moving else []
    if stand.is_in_first_pass:
        words.insert(0, _first_pass(stand.status))
    elif is_moving and stand.has_passed:  # before that nobody knows how many there are
        words.append(f"about {lasting(stand.waiting / rate)} left")
    return f"{stand.status.name}: {', '.join(words)}" if words else ""


def _first_pass(status: MirrorStatus) -> str:
    """With nothing found, the running kbsync may not have begun with this mirror, or not know of it."""
    found = sum(status.documents.to_json().values())
    return f"first pass under way, {found:,} found so far" if found else "the first pass is to come"


def print_table(output: Output, stand: Sequence[MirrorReport]) -> None:
    """One line for each mirror, the worst first; on a terminal as wide as that is at most."""
    ordered = worst_first(stand)
    room = output.columns if output.is_terminal else None
    head, *rows = table(_columns([each.status for each in ordered]), room)
    output.line(output.dim(head) if len(rows) == len(ordered) else head)
    for number, row in enumerate(rows):
        output.line(_marked(output, ordered[number], row) if len(rows) == len(ordered) else row)


def _columns(shown: Sequence[MirrorStatus]) -> list[Column]:
    return [
        Column("MIRROR", tuple(each.name for each in shown), is_key=True),
        *(_counts(shown, status) for status in SHOWN),
        Column("WAITING", tuple(_waiting(each) for each in shown), is_number=True, blank="-"),
        Column("LAST PASS", tuple(_ago(each.last_pass) for each in shown), is_key=True),
        Column("FOLDER", tuple(printable(each.folder) for each in shown), is_path=True),
    ]


def _counts(shown: Sequence[MirrorStatus], status: Status) -> Column:
    counts = tuple(f"{getattr(each.documents, status.word):,}" for each in shown)
    return Column(status.name, counts, is_number=True, is_key=status is Status.READY, blank="0")


def _waiting(status: MirrorStatus) -> str:
    """For how long the longest waiting file has waited."""
    return lasting(status.oldest_pending_s) if status.oldest_pending_s else "-"


def _marked(output: Output, stand: MirrorReport, row: str) -> str:
    """The mirror's name in the colour of how it stands."""
    name = stand.status.name
    style = {Code.MIRRORED: output.green, Code.PASSING: output.yellow}.get(stand.checked_code, output.red)
    return style(name) + row.removeprefix(name)


def _ago(moment: float | None) -> str:
    return "never" if moment is None else f"{lasting(max(0.0, time.time() - moment))} ago"


def print_documents(output: Output, installation: Installation, mirror: MirrorConfig) -> None:
    """A line for each document; first those that are not as they should be."""

    def write(tx: Tx, mirror: MirrorConfig) -> None:
        items = status_in(tx, installation, mirror, documents=True).items or ()
        for are_fine in (False, True):
            for item in items:
                if (item.state in FINE) is are_fine:
                    output.line(_document(output, item))

    output.line()
    output.line(output.bold(mirror.name))
    read(installation, mirror, write)


FINE = (Status.READY, Status.SKIPPED)


def _document(output: Output, item: FileStatus) -> str:
    size = "" if item.size is None else sized(item.size)
    reason = output.dim(f"  {printable(item.reason)}") if item.reason else ""
    return f"{_style(output, item.state)(f'{item.state.word:8}')}  {size:>7}  {printable(item.path)}{reason}"


def _style(output: Output, state: Status) -> Style:
    match state:
        case Status.READY:
            return output.green
        case Status.SKIPPED:
            return output.dim
        case Status.FAILED | Status.HELD:
            return output.red
    return output.yellow
