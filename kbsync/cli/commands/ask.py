"""`kbsync ask`: prints the answer as it comes, and the files it was made from."""

from __future__ import annotations

import click

from kbsync.cli.options import Choices, examples, json_option, selection_options, shared_options
from kbsync.contract.searching import Answerer, Query
from kbsync.errors import UsageError


@click.command(
    epilog=examples(
        "kbsync ask 'how do I reset a password'",
        "kbsync ask 'what changed' --path 'guides/**' --after 2026-01-01",
        "kbsync ask -i                         one question after the other",
        "kbsync ask -i --json < questions.txt  a JSON document for each line",
        "kbsync ask 'when does the office open' --app 1855818262969999360",
        "kbsync ask 'when does the office open' --model glm-4-flash",
        "kbsync ask 'how do I reset a password' --json | jq -r '.citations[].path'",
    )
)
@click.argument("question", nargs=-1)
@click.option("-i", "--interactive", is_flag=True, help="Ask on: what was said before counts.")
@selection_options
@click.option("--app", metavar="ID", help="The application to ask; see `kb app list`.")
@click.option("--model", metavar="NAME", help="Ask this model, with the passages that a search finds.")
@click.option("--whole", is_flag=True, help="Ask for the answer in one piece.")
@json_option
@shared_options
def command(
    choices: Choices,
    question: tuple[str, ...],
    interactive: bool,
    selection: Query,
    app: str | None,
    model: str | None,
    whole: bool,
    as_json: bool,
) -> int:
    """Answer QUESTION from the mirrored documents, where the target can; the files come below.

    Without --app and --model it is asked of the only application that answers from the mirror's knowledge
    base, or, where the service has no applications, of a model that is given the passages of a search.
    With -i questions are read from the terminal, or from the lines of stdin; Ctrl-C stops an answer.
    """
    from kbsync.cli.commands.ask_conversation import AskOptions, ask_once, converse

    if app is not None and model is not None:
        raise UsageError("--app and --model exclude each other")
    by = Answerer(app or "", model or "") if app or model else None
    options = AskOptions(by, selection, streamed=not whole, quiet=choices.quiet)
    text = " ".join(question).strip()
    if interactive:
        return converse(choices, text, options, as_json=as_json)
    if not text:
        raise UsageError(f"the question is empty; say what to ask, or type it: {choices.typed('ask -i')}")
    return ask_once(choices, text, options, as_json=as_json)
