"""The words at the end of a pass."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from kbsync.assembly import Installation
from kbsync.cli.paper import counted, lasting
from kbsync.cli.standing import LISTED, Standing
from kbsync.core.model import Status
from kbsync.core.printable import printable
from kbsync.daemon import OnceEnd
from kbsync.engine.mirror import Counts


def summary(end: OnceEnd, stand: Sequence[Standing], *, apart: bool) -> Iterator[str]:
    """What was done: one line for all mirrors, or with `apart` one for each."""
    if apart or len(stand) == 1:
        for each in stand:
            yield _line(each.name, [end.runs[each.name].counts], [each], end.seconds)
    else:
        counts = [run.counts for run in end.runs.values()]
        yield _line(counted(len(stand), "mirror"), counts, stand, end.seconds)


def _line(name: str, counts: Sequence[Counts], stand: Sequence[Standing], seconds: float) -> str:
    ready = sum(each.count(Status.READY) + each.count(Status.HELD) for each in stand)
    parts = [f"{counted(ready, 'document')} searchable", *(_done(counts) or ["nothing changed"])]
    for status in (Status.HELD, Status.FAILED, Status.PENDING, Status.INDEXING, Status.SKIPPED):
        number = sum(each.count(status) for each in stand)
        if number:
            parts.append(f"{number:,} {status.word}")
    return f"{name}: {', '.join(parts)}; {lasting(seconds)}"


def _done(counts: Sequence[Counts]) -> list[str]:
    sums = {
        "uploaded": sum(count.uploaded for count in counts),
        "replaced": sum(count.replaced for count in counts),
        "renamed": sum(count.renamed for count in counts),
        "deleted": sum(count.deleted for count in counts),
    }
    return [f"{number:,} {word}" for word, number in sums.items() if number]


def complaints(installation: Installation, stand: Sequence[Standing], *, quiet: bool) -> Iterator[str]:
    """What is wrong, the worst first; with `quiet` not what goes away by itself."""
    for each in stand:
        yield from _halted(each)
        yield from _held(installation, each)
        if each.trouble:
            yield f"{each.name}: {each.trouble}; the next pass goes on from there"
        if not quiet:
            yield from _busy(each)
        yield from _failed(installation, each)


def _halted(stand: Standing) -> Iterator[str]:
    if stand.halt is not None:
        cure = f"; then: {stand.halt.cure}" if stand.halt.cure else ""
        yield f"{stand.name}: halted ({stand.halt.reason}): {stand.halt.detail}{cure}"


def _held(installation: Installation, stand: Standing) -> Iterator[str]:
    held = stand.count(Status.HELD)
    if held:
        cure = installation.cure(f"approve {stand.name}")
        look = installation.cure(f"plan --mirror {stand.name}")
        yield f"{stand.name}: {counted(held, 'deletion')} held; see them: {look}; let them go: {cure}"


def _busy(stand: Standing) -> Iterator[str]:
    for path in stand.busy[:LISTED]:
        yield f"{stand.name}: {printable(path)}: still being written; the next pass takes it"
    if len(stand.busy) > LISTED:
        yield f"{stand.name}: … and {len(stand.busy) - LISTED:,} more are still being written"


def _failed(installation: Installation, stand: Standing) -> Iterator[str]:
    for trouble in (*stand.shut, *stand.failed)[:LISTED]:
        where = printable(trouble.path) or "the folder itself"
        yield f"{stand.name}: {where}: {printable(trouble.reason)}"
    more = stand.count(Status.FAILED) + len(stand.shut) - LISTED
    if more > 0:
        yield f"{stand.name}: … and {more:,} more: {installation.cure('status --documents')}"
