"""`kbsync status`: shows the state of every mirror and document, problems first."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from kbsync import __version__
from kbsync.cli.context import choose_all, read_state
from kbsync.cli.exit_codes import Code, code_of, printing_result, sentence_of, worst
from kbsync.cli.options import Choices, ParsedOption, examples, json_option, shared_options
from kbsync.cli.output import Output, print_message
from kbsync.config.kinds import parse_duration
from kbsync.core.text import printable
from kbsync.errors import KbsyncError, UsageError
from kbsync.state import lock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kbsync.cli.report import MirrorReport
    from kbsync.config.model import MirrorConfig
    from kbsync.installation import Installation
    from kbsync.state.read_only import Tx


@click.command(
    epilog=examples(
        "kbsync status",
        "kbsync status --watch",
        "kbsync status --documents",
        "kbsync status --json | jq '.mirrors[].documents'",
        "kbsync status --check --max-age 1h -q  # for a health check",
    )
)
@click.option("--documents", is_flag=True, help="Also show every document with its state and reason.")
@click.option("--check", is_flag=True, help="Exit with the code that a pass would return now.")
@click.option(
    "--max-age",
    type=ParsedOption(parse_duration),
    metavar="TIME",
    help="With --check: let files wait this long, but fail if the last pass is older.",
)
@click.option("-w", "--watch", is_flag=True, help="Keep updating the table until you press Ctrl-C.")
@json_option
@shared_options
def command(
    choices: Choices, documents: bool, check: bool, max_age: float | None, watch: bool, as_json: bool
) -> int:
    """Show whether kbsync is running, and the state of every mirror, problems first.

    Without a config, it shows every folder that you mirrored with --folder, or, if you are inside one of
    them, only that one.
    """
    if max_age is not None and not check:
        raise click.UsageError("--max-age needs --check")
    if watch and (documents or check or as_json):
        raise click.UsageError("--watch cannot be used with --documents, --check or --json")
    installations = choose_all(choices)
    if watch:
        # Only Ctrl-C ends it.
        from kbsync.cli.commands.status_watch import watch as keep_watching

        if len(installations) > 1:
            folders = [str(installation.config.mirrors[0].folder) for installation in installations]
            raise UsageError(
                f"--watch shows one folder; choose it with --folder: {printable(', '.join(folders))}"
            )
        keep_watching(installations[0])
        return Code.MIRRORED
    from kbsync.cli.report import mirror_reports

    output = Output()
    reports_of: list[tuple[Installation, list[MirrorReport]]] = []
    sentences, codes = list[str](), list[Code]()
    for installation in installations:
        try:
            reports_of.append((installation, mirror_reports(installation)))
        except (KbsyncError, OSError) as error:
            error_code = code_of(error)
            if len(installations) == 1 or error_code is None:
                raise
            sentences.append(sentence_of(error))  # the other folders have states of their own
            codes.append(error_code)
    reports = [report for _, those in reports_of for report in those]
    code = worst([*codes, _checked(reports, max_age) if check else Code.MIRRORED])
    with printing_result(code):
        if as_json:
            return worst([code, _print_json(output, installations, documents=documents)])
        for sentence in sentences:
            print_message(sentence)
        from kbsync.cli.commands.status_display import print_documents, print_status

        several = len(installations) > 1
        print_status(output, reports_of, several=several, quiet=choices.quiet, check=check, max_age=max_age)
        if documents and not choices.quiet:
            for installation, _ in reports_of:
                for mirror in installation.mirrors:
                    print_documents(output, installation, mirror)
    return code


def _checked(reports: Sequence[MirrorReport], max_age: float | None) -> Code:
    """Return the exit code with which a pass would end.

    A mirror that has never had a pass is treated as failed. Waiting files affect the code only if they are
    older than `max_age`. `report.late` explains the code if it gets the same `max_age`.
    """
    from kbsync.engine.status import is_fresh

    if max_age is None:
        return worst(report.checked_code for report in reports)
    codes = [report.settled_code for report in reports]
    if not all(report.is_in_quiet_hours or is_fresh(report.status, max_age, report.at) for report in reports):
        codes.append(Code.PASSING)
    return worst(codes)


def _print_json(output: Output, installations: Sequence[Installation], *, documents: bool) -> Code:
    """Print the status as JSON in pieces, because there may be a very large number of documents.

    Return the worst exit code of the errors. If a mirror's state fails halfway, the mirror gets an `error`,
    and the JSON stays valid. With several installations, each mirror says whether kbsync is running for it.
    """
    from kbsync.engine.status import running_json
    from kbsync.freshness import state_bytes

    def running(installation: Installation) -> str:
        return json.dumps(running_json(lock.find_daemon(installation.state_dir)))

    is_one, codes = len(installations) == 1, list[Code]()
    daemon = running(installations[0]) if is_one else "null"
    output.write(f'{{"version": "{__version__}", "running": {daemon}, "mirrors": [')
    mirrors = [(installation, mirror) for installation in installations for mirror in installation.mirrors]
    for number, (installation, mirror) in enumerate(mirrors):
        output.write(", " if number else "")
        start = "{" if is_one else f'{{"running": {running(installation)}, '
        error = _print_mirror(output, installation, mirror, start, documents=documents)
        if error is not None:
            if (code := code_of(error)) is None:
                raise error
            codes.append(code)
            print_message(sentence_of(error))
    output.line(f'], "state_bytes": {sum(map(state_bytes, installations))}}}')
    return worst(codes)


def _print_mirror(
    output: Output, installation: Installation, mirror: MirrorConfig, start: str, *, documents: bool
) -> Exception | None:
    """Print the JSON of one mirror, beginning with the text `start`.

    Return the error that interrupted it, if any.
    """
    from kbsync.freshness import status_in, unresponsive_halt
    from kbsync.state.db import state_errors

    unwritten = unresponsive_halt(installation, mirror)

    def write(tx: Tx) -> Exception | None:
        at_work = lock.is_held(installation.state_dir)
        status = status_in(
            tx, mirror, installation, at_work=at_work, documents=documents, unwritten=unwritten
        )
        pieces = status.json_pieces()
        output.write(start + next(pieces)[1:])
        try:
            with state_errors(installation.state_file):
                for piece in pieces:
                    output.write(piece)
        except (KbsyncError, OSError) as error:
            output.write(f'], "error": {json.dumps(sentence_of(error))}}}')
            return error
        return None

    try:
        return read_state(installation, write)
    except (KbsyncError, OSError) as error:
        # Nothing is printed yet.
        fields = {"name": mirror.name, "folder": str(mirror.folder), "error": sentence_of(error)}
        output.write(json.dumps(fields))
        return error
