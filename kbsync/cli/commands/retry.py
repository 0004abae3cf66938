"""`kbsync retry`: failed documents get another try."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kbsync.cli.exit_codes import Code
from kbsync.cli.options import DOCUMENT, Choices, examples, pass_choices, shared_options
from kbsync.cli.output import Output, counted
from kbsync.core.links import is_link
from kbsync.core.model import Choice, Status
from kbsync.core.text import printable
from kbsync.errors import UsageError

if TYPE_CHECKING:
    from kbsync.config.model import MirrorConfig
    from kbsync.installation import Installation
    from kbsync.state.glance import Tx
    from kbsync.state.mirrors import MirrorRecord


SHOWN = 20


@dataclass(frozen=True, slots=True)
class Failed:
    """What failed in one mirror, of what was asked for. `is_whole`: nothing narrower was asked for.

    `under_way`: documents that failed before and are being tried again, which gets them their tries back.
    """

    record: MirrorRecord
    paths: tuple[str, ...]
    is_whole: bool
    under_way: int = 0

    @property
    def is_worth_asking(self) -> bool:
        """Something failed, or may fail soon, or the mirror is halted and shall try again."""
        return bool(self.paths) or (self.is_whole and (self.record.halt is not None or self.under_way > 0))


@click.command(
    epilog=examples(
        "kbsync retry                       everything that failed",
        "kbsync retry reports/scan.pdf      one document",
        "kbsync retry reports               all below a folder",
    )
)
@click.argument("paths", nargs=-1, metavar="[PATH]…", type=DOCUMENT)
@shared_options
@pass_choices
def command(choices: Choices, paths: tuple[str, ...]) -> int:
    """Release failed or quarantined documents for another try; without PATH all of them.

    A PATH is relative to the mirror or to the working directory, and may be a folder.
    """
    from kbsync.cli.context import choose, glanced, post

    installation = choose(choices, here=True, with_secrets=False)
    with closing(glanced(installation)) as state:
        failed = state.read(partial(find_failed, installation, paths))
    asked = [each for each in failed if each.is_worth_asking]
    if asked:
        post(
            installation,
            [
                ("retry", each.record.name, {"paths": None if each.is_whole else list(each.paths)})
                for each in asked
            ],
        )
    if not choices.quiet:
        _tell(Output(), installation, asked)
    return Code.MIRRORED


def find_failed(installation: Installation, paths: Sequence[str], tx: Tx) -> list[Failed]:
    """What failed, by mirror. Raises `UsageError` for a path no mirror knows."""
    records = {m.name: (m, record) for m in installation.mirrors if (record := tx.mirrors.named(m.name))}
    if not records:
        from kbsync.cli.context import not_yet

        raise not_yet(installation)
    if not paths:
        return [
            Failed(record, _failed_in(tx, record, ""), True, _under_way(tx, record))
            for _, record in records.values()
        ]
    found: dict[str, list[str]] = {}
    for path in paths:
        for name, known in _places(tx, records, path):
            found.setdefault(name, []).extend(_failed_in(tx, records[name][1], known))
    return [Failed(records[name][1], tuple(dict.fromkeys(known)), False) for name, known in found.items()]


def _places(
    tx: Tx, records: Mapping[str, tuple[MirrorConfig, MirrorRecord]], typed: str
) -> list[tuple[str, str]]:
    """The mirrors that know a path, and what they call it."""
    from kbsync.engine.paths import is_known, resolve

    def known(name: str, path: str) -> bool:
        return is_known(tx, records[name][1].id, path)

    roots = {name: Path(os.path.realpath(mirror.folder)) for name, (mirror, _) in records.items()}
    found = [place for place in resolve(typed, Path.cwd(), roots, known) if known(*place)]
    if not found:
        raise UsageError(
            f"{typed} is in no mirror; "
            "name a mirrored file, relative to its mirror or to the working directory"
        )
    return found


def _failed_in(tx: Tx, record: MirrorRecord, path: str) -> tuple[str, ...]:
    """The failed file at `path`, or what failed below it, directories that cannot be listed among it."""
    entry = tx.entries.get(record.id, path) if path else None
    if entry is not None:
        has_no_text = entry.status is Status.SKIPPED and entry.verdict.choice is Choice.SELECTED
        is_page = entry.status is Status.READY and is_link(path)  # it is fetched again
        return (path,) if entry.status is Status.FAILED or has_no_text or is_page else ()
    inside = f"{path}/" if path else ""
    folders = [each.path for each in tx.folders.problems(record.id) if not each.shut]
    files = [each.path for each in tx.entries.of_status(record.id, Status.FAILED)]
    return tuple(each for each in folders + files if each == path or each.startswith(inside))


def _under_way(tx: Tx, record: MirrorRecord) -> int:
    return 0 if record.binding is None else len(tx.uploads.tried_in_vain(record.id, record.binding))


def _tell(output: Output, installation: Installation, asked: Sequence[Failed]) -> None:
    if not asked:
        output.line("nothing has failed")
        return
    from kbsync.cli.context import when_done

    for each in asked:
        if each.paths:
            what = counted(len(each.paths), "document")
        elif each.record.halt is not None:
            what = "what halted it"
        else:
            what = f"{counted(each.under_way, 'document')} on the way"
        output.line(f"{each.record.name}: {what} will be tried again")
        for path in each.paths[:SHOWN]:
            output.line(f"  {printable(path)}")
        if len(each.paths) > SHOWN:
            output.line(f"  … and {len(each.paths) - SHOWN:,} more")
    output.line(when_done(installation))
