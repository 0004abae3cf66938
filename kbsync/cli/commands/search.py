"""`kbsync search`: the query in, documents out. Kept light: a cold search has little time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from kbsync.cli.exit_codes import Code
from kbsync.cli.options import (
    Choices,
    examples,
    extensions,
    json_option,
    pass_choices,
    selection_options,
    shared_options,
)
from kbsync.cli.output import Output, tell
from kbsync.errors import UsageError

if TYPE_CHECKING:
    from kbsync.cli.searching import FoundDocument
    from kbsync.contract.searching import Query
    from kbsync.installation import Installation


@click.command(
    epilog=examples(
        "kbsync search 'how do I reset a password'",
        "kbsync search invoice --type pdf --after 2026-01-01",
        "kbsync search 'error handling' --path 'guides/**' -k 3",
        "kbsync search -i                      results as you type",
        "kbsync search draft --files -0 | xargs -0 ls -l",
        "kbsync search 'opening hours' --json | jq -r '.hits[0].text'",
    )
)
@click.argument("query", nargs=-1)
@click.option("-i", "--interactive", is_flag=True, help="Show results as you type; enter opens one.")
@click.option(
    "-k", "--top-k", default=10, show_default=True, type=click.IntRange(min=1), help="How many documents."
)
@selection_options
@click.option("--rerank", is_flag=True, help="Let a ranking model put what is found into order.")
@click.option("--files", is_flag=True, help="Print absolute paths only.")
@click.option("-0", "--null", is_flag=True, help="With --files: end each path with a NUL, for xargs -0.")
@json_option
@shared_options
@pass_choices
def command(
    choices: Choices,
    query: tuple[str, ...],
    interactive: bool,
    top_k: int,
    path: str | None,
    types: tuple[str, ...],
    after: float | None,
    rerank: bool,
    files: bool,
    null: bool,
    as_json: bool,
) -> int:
    """Search the mirrored documents by words and by meaning; the best come first.

    On a terminal hits have numbers: `kbsync open N` opens one.
    """
    if null and not files:
        raise UsageError("-0 goes with --files")
    if files and as_json:
        raise UsageError("--files and --json exclude each other")
    if interactive and (files or as_json or rerank):
        raise UsageError("-i goes without --files, --json and --rerank")
    from kbsync.cli.context import choose
    from kbsync.cli.searching import find
    from kbsync.contract.searching import Query

    text = " ".join(query).strip()
    if not text and not interactive:
        typed = choices.typed("search -i")
        raise UsageError(f"the query is empty; say what to look for, or type it: {typed}")
    asked = Query(text, top_k, path, extensions(types), after, rerank=rerank)
    if interactive:
        _converse(choose(choices, here=True), asked)
        return Code.MIRRORED
    installation = choose(choices, here=True)
    hits = find(installation, asked, images=not files)
    paper, several = Output(), len(installation.mirrors) > 1
    is_remembered = _is_for_a_person(paper) and _remembered(installation, [each.absolute for each in hits])
    form = {"files": files, "null": null, "as_json": as_json}
    _show(paper, hits, asked, choices, numbered=paper.is_terminal and is_remembered, several=several, **form)
    if not hits and asked.selects and not choices.quiet:
        from kbsync.cli.searching import unmatched

        for option in unmatched(installation, asked):
            tell(f"no document matches {option}")
    return Code.MIRRORED


def _is_for_a_person(paper: Output) -> bool:
    """Somebody looks on, also where what is found goes into a pipe: `open` is about their last search."""
    import sys

    return paper.is_terminal or sys.stderr.isatty()


def _remembered(installation: Installation, paths: Sequence[Path]) -> bool:
    """For a person only: what a program asks for leaves no trace."""
    import os

    from kbsync.cli.last_search import remember

    return remember(paths, installation.cure("search QUERY"), os.environ)


def _converse(installation: Installation, asked: Query) -> None:
    import os

    from kbsync.cli.commands.open import open_or_print
    from kbsync.cli.commands.search_live import live

    found, chosen = live(installation, asked)
    _remembered(installation, found)
    if chosen is not None:
        open_or_print(chosen, os.environ)


def _show(
    paper: Output,
    hits: list[FoundDocument],
    query: Query,
    choices: Choices,
    *,
    numbered: bool,
    several: bool,
    files: bool,
    null: bool,
    as_json: bool,
) -> None:
    if as_json:
        from kbsync.cli.searching import to_json

        paper.json({"hits": [to_json(each) for each in hits]})
    elif files:
        for each in hits:
            paper.path(str(each.absolute), b"\0" if null else b"\n")
    else:
        from kbsync.cli.commands.search_hits import print_hits

        print_hits(paper, hits, query.text, several=several, numbered=numbered)
        if not hits and not choices.quiet:
            tell(f"nothing found for: {query.text}")
