"""`kbsync retry`: retries failed documents."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from kbsync.cli.context import choose, describe_delivery, post, read_state, recorded_mirrors
from kbsync.cli.options import DOCUMENT, Choices, examples, shared_options
from kbsync.cli.output import Output, first_lines
from kbsync.core.links import is_link
from kbsync.core.model import FileChoice, Status
from kbsync.core.text import format_count, printable
from kbsync.dataclass import dataclass
from kbsync.errors import UsageError

if TYPE_CHECKING:
    from kbsync.installation import Installation
    from kbsync.state.mirrors import MirrorRecord
    from kbsync.state.read_only import Tx


@dataclass(frozen=True, slots=True)
class Failed:
    """The failed documents of a mirror, among the requested paths.

    `is_whole`: whether the whole mirror was requested. `under_way`: documents that are already being retried.
    A new retry resets their number of attempts.
    """

    record: MirrorRecord
    paths: tuple[str, ...]
    is_whole: bool
    under_way: int = 0

    @property
    def is_worth_asking(self) -> bool:
        """Whether a retry makes sense, because documents have failed or may soon fail, or because the mirror
        is halted.
        """
        return bool(self.paths) or (self.is_whole and (self.record.halt is not None or self.under_way > 0))


@click.command(
    epilog=examples(
        "kbsync retry                       # everything that failed",
        "kbsync retry reports/scan.pdf      # one document",
        "kbsync retry reports               # all documents below a folder",
    )
)
@click.argument("paths", nargs=-1, metavar="[PATH]…", type=DOCUMENT)
@shared_options
def command(choices: Choices, paths: tuple[str, ...]) -> None:
    """Retry failed and quarantined documents: those named by PATH, or all of them.

    PATH may be a folder. It is relative to the mirror or to the working directory.
    """
    installation = choose(choices, here=True, with_secrets=False)
    failed = read_state(installation, partial(find_failed, installation, paths), must_exist=True)
    requested = [request for request in failed if request.is_worth_asking]
    if requested:
        paths_of = {item.record.name: None if item.is_whole else list(item.paths) for item in requested}
        post(installation, [("retry", name, {"paths": paths}) for name, paths in paths_of.items()])
    if not choices.quiet:
        _print(Output(), requested, installation.command_line("status --documents"))
        names = [request.record.name for request in requested]
        Output().line(describe_delivery(installation, names) if requested else "nothing has failed")


def find_failed(installation: Installation, paths: Sequence[str], tx: Tx) -> list[Failed]:
    """Return the failed documents, by mirror. Raises `UsageError` for a path that isn't in any mirror."""
    from kbsync.cli.context import is_known, resolve

    records = recorded_mirrors(installation, tx)
    if not paths:
        all_failed = []
        for record in records.values():
            retried = () if record.binding is None else tx.uploads.failed_before(record.id, record.binding)
            all_failed.append(Failed(record, _find_failed(tx, record, ""), True, len(retried)))
        return all_failed
    mirrors = [mirror for mirror in installation.mirrors if mirror.name in records]

    def is_in_state(name: str, path: str) -> bool:
        return is_known(tx, records[name].id, path)

    failed_paths: dict[str, list[str]] = {}
    for typed in paths:
        matches = [match for match in resolve(typed, mirrors, is_in_state) if is_in_state(*match)]
        if not matches:
            raise UsageError(
                f"no mirror has {typed}; pass the path of a mirrored file, relative to its mirror or to "
                "the working directory"
            )
        for name, path in matches:
            failed_paths.setdefault(name, []).extend(_find_failed(tx, records[name], path))
    return [
        Failed(records[name], tuple(dict.fromkeys(failed)), False) for name, failed in failed_paths.items()
    ]


def _find_failed(tx: Tx, record: MirrorRecord, path: str) -> tuple[str, ...]:
    """Return the failed file at `path` or all failed files below it, including directories that can't be
    listed.
    """
    entry = tx.entries.get(record.id, path) if path else None
    if entry is not None:
        has_no_text = entry.status is Status.SKIPPED and entry.verdict.choice is FileChoice.SELECTED
        # Fetch a web page again only on request.
        is_page = entry.status is Status.READY and is_link(path)
        return (path,) if entry.status is Status.FAILED or has_no_text or is_page else ()
    inside = f"{path}/" if path else ""
    folders = [problem.path for problem in tx.folders.problems(record.id) if not problem.is_excluded]
    files = [entry.path for entry in tx.entries.of_status(record.id, Status.FAILED)]
    return tuple(item for item in folders + files if item == path or item.startswith(inside))


def _print(output: Output, requested: Sequence[Failed], every: str) -> None:
    for request in requested:
        if request.paths:
            subject = format_count(len(request.paths), "document")
        elif request.record.halt is not None:
            subject = "the halted mirror"
        else:
            subject = f"{format_count(request.under_way, 'document')} in progress"
        output.line(f"{request.record.name}: {subject} will be retried")
        output.lines(f"  {line}" for line in first_lines(list(map(printable, request.paths)), every))
