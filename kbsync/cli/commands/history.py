"""`kbsync history`: shows what happened to documents in the last 30 days."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import click

from kbsync.cli.context import choose, exists_in, is_known, read_state, recorded_mirrors, resolve
from kbsync.cli.options import DOCUMENT, MOMENT, Choices, examples, json_option, shared_options
from kbsync.cli.output import Output
from kbsync.core.text import printable
from kbsync.errors import UsageError

if TYPE_CHECKING:
    from kbsync.installation import Installation
    from kbsync.state.history import HistoryEntry
    from kbsync.state.read_only import Tx

MAX_SHOWN = 100


@click.command(
    epilog=examples(
        "kbsync history --since 1d       # what happened since yesterday",
        "kbsync history guides/setup.md  # one document, or all documents below a folder",
        "kbsync history --json | jq '.events[] | select(.event == \"failed\")'",
    )
)
@click.argument("path", required=False, type=DOCUMENT)
@click.option(
    "--since",
    type=MOMENT,
    metavar="TIME",
    default=0.0,
    help="Only events since this time: a date, `yesterday`, or a duration such as 1d.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    default=MAX_SHOWN,
    show_default=True,
    help="Show the newest N events.",
)
@json_option
@shared_options
def command(choices: Choices, path: str | None, since: float, limit: int, as_json: bool) -> None:
    """Show uploads, replacements, renames, deletions, failures, holds and approvals.

    PATH may be a folder. It is relative to the mirror or to the working directory. kbsync keeps events for 30
    days, at most 100,000, without the text of documents.
    """
    installation = choose(choices, here=True, with_secrets=False)
    entries = read_state(
        installation, lambda tx: find_entries(installation, tx, path, since, limit + 1), must_exist=True
    )
    output = Output()
    if as_json:
        from kbsync.engine.status import history_json

        output.json(history_json(entries, limit))
        return
    if len(entries) > limit and not choices.quiet:
        newest = "event" if limit == 1 else f"{limit:,} events"
        output.line(output.dim(f"showing only the newest {newest}; for more, pass --limit {limit * 10}"))
    with_mirror = len(installation.mirrors) > 1
    output.lines(_line(output, entry, with_mirror=with_mirror) for entry in entries[-limit:])
    if not entries and not choices.quiet:
        output.line("nothing happened")


def find_entries(
    installation: Installation, tx: Tx, path: str | None, since: float, limit: int
) -> list[HistoryEntry]:
    """Return the newest `limit` events. Raises `UsageError` for a path that isn't in any mirror."""
    numbers = {name: record.id for name, record in recorded_mirrors(installation, tx).items()}
    if path is None:
        return tx.history.newest(list(numbers.values()), since, limit)
    mirrors = [mirror for mirror in installation.mirrors if mirror.name in numbers]

    def has_history(name: str, path: str) -> bool:
        return is_known(tx, numbers[name], path) or tx.history.has(numbers[name], path)

    places = [
        (numbers[name], below)
        for name, below in resolve(path, mirrors, has_history)
        if has_history(name, below) or exists_in(installation.mirror(name).folder, below)
    ]
    if not places:
        raise UsageError(
            f"no mirror has {path}; pass the path of a file or folder, relative to its mirror or to the "
            "working directory"
        )
    return tx.history.newest(list(numbers.values()), since, limit, places)


def _line(output: Output, entry: HistoryEntry, *, with_mirror: bool) -> str:
    from kbsync.state.history import HistoryEvent

    styles = {
        HistoryEvent.UPLOADED: output.green,
        HistoryEvent.REPLACED: output.yellow,
        HistoryEvent.RENAMED: output.cyan,
        HistoryEvent.DELETED: output.red,
        HistoryEvent.FAILED: output.red,
    }
    when = datetime.fromtimestamp(entry.at).strftime("%Y-%m-%d %H:%M:%S")
    event = styles.get(entry.event, str)(f"{entry.event:8}")
    path = f"{entry.former} > {entry.path}" if entry.former else entry.path
    mirror = f"{entry.mirror}: " if with_mirror else ""
    by = f"by {entry.by}" if entry.by else ""
    notes = "; ".join(filter(None, (by, entry.reason)))
    note = output.dim(f"  {printable(notes)}") if notes else ""
    return f"{output.dim(when)}  {event}  {printable(mirror + path)}{note}".rstrip()
