"""`kbsync search`: searches the mirrored documents.

To start fast, it loads only the modules that a search needs.
"""

from __future__ import annotations

from dataclasses import replace

import click

from kbsync.cli.context import choose
from kbsync.cli.options import Choices, as_typed, examples, json_option, selection_options, shared_options
from kbsync.cli.output import Output, print_message
from kbsync.contract.query_syntax import OnlyFiltersError, parse_query
from kbsync.contract.searching import Query
from kbsync.core.text import format_count
from kbsync.errors import UsageError


@click.command(
    epilog=examples(
        "kbsync search 'how do I reset a password'",
        "kbsync search invoice --type pdf --after 2026-01-01",
        "kbsync search 'error handling' --path 'guides/**' -k 3",
        "kbsync search 'budget \"annual report\" -draft path:2026/ type:pdf'",
        "kbsync search -i                      # results as you type",
        "kbsync search draft --files -0 | xargs -0 ls -l",
        "kbsync search 'opening hours' --json | jq -r '.hits[0].text'",
    )
)
@click.argument("words", metavar="[QUERY]...", nargs=-1, callback=as_typed)
@click.option("-i", "--interactive", is_flag=True, help="Show results as you type; enter opens one.")
@click.option(
    "-k",
    "--top-k",
    default=10,
    show_default=True,
    type=click.IntRange(min=1),
    metavar="N",
    help="Show at most N documents.",
)
@selection_options
@click.option("--rerank", is_flag=True, help="Have a ranking model order the hits.")
@click.option(
    "--explain", is_flag=True, help="Explain each hit: its matching words and its similarity in meaning."
)
@click.option("--files", is_flag=True, help="Print absolute paths only.")
@click.option("-0", "--null", is_flag=True, help="With --files: end each path with a NUL byte, for xargs -0.")
@json_option
@shared_options
def command(
    choices: Choices,
    words: tuple[str, ...],
    interactive: bool,
    top_k: int,
    selection: Query,
    rerank: bool,
    explain: bool,
    files: bool,
    null: bool,
    as_json: bool,
) -> None:
    """Search the mirrored documents by words and by meaning; the best hits come first.

    In QUERY, "quotes" find a phrase, -word excludes documents with that word, path:GLOB and type:EXT narrow
    the search, and -path:GLOB and -type:EXT exclude files; put single quotes around QUERY to protect them
    from the shell.

    In a knowledge base shared by several machines, this searches the documents of all of them; with --mirror,
    only that mirror's. On a terminal, click a path to open the file. A note on stderr, and in `notes` of
    --json, says what isn't searchable yet.
    """
    if null and not files:
        raise UsageError("-0 needs --files")
    if files and as_json:
        raise UsageError("--files and --json cannot be used together")
    if files and explain:
        raise UsageError("--files and --explain cannot be used together")
    if interactive and (files or as_json or rerank or explain):
        raise UsageError("-i cannot be used with --files, --json, --rerank or --explain")
    text = " ".join(words).strip()
    if not interactive:
        _refuse_without_words(choices, replace(selection, text=text))
    only_own = bool(choices.mirrors)
    query = replace(selection, text=text, top_k=top_k, rerank=rerank, own=only_own, explain=explain)
    installation = choose(choices, here=True)
    if interactive:
        from kbsync.cli.commands.search_live import search_live

        search_live(installation, query)
        return

    from kbsync.cli.searching import options_in_words, print_hits, search_once
    from kbsync.search import hit_json

    reply = search_once(installation, query, images=not files, as_json=as_json)
    hits, notes = reply.hits, reply.note_lines()
    output = Output()
    shown_notes = [] if choices.quiet else [note for note in reply.notes if not note.is_minor]
    for note in shown_notes:
        if note.explains_hits:
            print_message(note.line())
    if as_json:
        listed = [hit_json(hit, explain=explain) for hit in hits]
        output.json({"hits": listed, **({"notes": notes} if notes else {})})
    elif files:
        for path in (hit.absolute for hit in hits if hit.can_be_opened):
            output.path(str(path), b"\0" if null else b"\n")
        if not choices.quiet and (gone_count := sum(hit.is_gone for hit in hits)):
            print_message(f"left out {format_count(gone_count, 'document')} whose file is gone")
    else:
        several = len(installation.mirrors) > 1
        words_searched = " ".join([reply.query.text, *reply.guesses])
        print_hits(output, hits, words_searched, several=several, explain=explain)
        if not hits and not choices.quiet:
            print_message(f"nothing found for: {text}")
    if not choices.quiet:
        for option in options_in_words(reply.query, reply.unmatched):
            print_message(f"no document matches {option}")
    for note in shown_notes:
        if not note.explains_hits:
            print_message(note.line())


def _refuse_without_words(choices: Choices, query: Query) -> None:
    """Raise `UsageError` for a query that is empty or has only filters."""
    try:
        parse_query(query)
        if query.text:
            return
    except OnlyFiltersError:
        pass
    if not query.text and not query.selects:
        typed = choices.typed("search -i")
        raise UsageError(f"the query is empty; pass one, or type one with: {typed}")
    every, newest = choices.typed("status --documents"), choices.typed("history")
    raise UsageError(
        "the query has only filters; add a word to search for, or run one of these:"
        f"\nto list all documents: {every}\nto list the newest changes: {newest}"
    )
