"""`status` as people read it: what is wrong, a line for each mirror, a line for each document."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from kbsync.assembly import Installation
from kbsync.cli.ending import complaints
from kbsync.cli.paper import Paper, Style, cells, lasting, sized
from kbsync.cli.standing import Standing, read, status_in
from kbsync.config.model import MirrorConfig
from kbsync.core.model import Status
from kbsync.core.printable import printable
from kbsync.engine.status import SHOWN, Item
from kbsync.state.store import Tx

COLUMNS = ("MIRROR", *(status.name for status in SHOWN), "LAST PASS", "FOLDER")


def print_wrong(paper: Paper, installation: Installation, stand: Sequence[Standing]) -> None:
    """Everything a person should know first, with what to do about it."""
    lines = list(_wrong(installation, stand))
    for line in lines:
        paper.line(paper.red("! ") + line)
    if lines:
        paper.line()


def _wrong(installation: Installation, stand: Sequence[Standing]) -> Iterator[str]:
    for each in stand:
        if each.status.last_pass is None and each.status.halt is None:
            yield f"{each.status.name}: no pass has ended yet; run: {installation.cure('--once')}"
    yield from complaints(installation, stand, quiet=False)
    for each in stand:
        if each.status.note:
            yield f"{each.status.name}: {printable(each.status.note)}"


def print_table(paper: Paper, stand: Sequence[Standing]) -> None:
    """One line for each mirror, those with trouble first."""
    rows = [COLUMNS, *(_row(each) for each in sorted(stand, key=lambda each: not each.code))]
    widths = [max(map(cells, column)) for column in zip(*rows, strict=True)]
    for number, row in enumerate(rows):
        line = "  ".join(map(_cell, row, widths, range(len(COLUMNS)))).rstrip()
        paper.line(paper.dim(line) if number == 0 else line)


def _row(stand: Standing) -> tuple[str, ...]:
    status = stand.status
    counts = [f"{number:,}" for number in status.documents.to_json().values()]
    return (status.name, *counts, _ago(status.last_pass), printable(status.folder))


def _cell(text: str, width: int, column: int) -> str:
    """Numbers stand at the right, words at the left."""
    room = " " * (width - cells(text))
    return room + text if 0 < column <= len(SHOWN) else text + room


def _ago(moment: float | None) -> str:
    return "never" if moment is None else f"{lasting(max(0.0, time.time() - moment))} ago"


def print_documents(paper: Paper, installation: Installation, mirror: MirrorConfig) -> None:
    """A line for each document; first those that are not as they should be."""

    def write(tx: Tx, mirror: MirrorConfig) -> None:
        items = status_in(tx, installation, mirror, documents=True).items or ()
        for are_fine in (False, True):
            for item in items:
                if (item.state in FINE) is are_fine:
                    paper.line(_document(paper, item))

    paper.line()
    paper.line(paper.bold(mirror.name))
    read(installation, mirror, write)


FINE = (Status.READY, Status.SKIPPED)


def _document(paper: Paper, item: Item) -> str:
    size = "" if item.size is None else sized(item.size)
    reason = paper.dim(f"  {printable(item.reason)}") if item.reason else ""
    return f"{_style(paper, item.state)(f'{item.state.word:8}')}  {size:>7}  {printable(item.path)}{reason}"


def _style(paper: Paper, state: Status) -> Style:
    match state:
        case Status.READY:
            return paper.green
        case Status.SKIPPED:
            return paper.dim
        case Status.FAILED | Status.HELD:
            return paper.red
    return paper.yellow
