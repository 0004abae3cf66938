"""`kbsync ask`: a question in, an answer out as it is made, and the files it was made from."""

from __future__ import annotations

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
from kbsync.cli.output import Output
from kbsync.errors import UsageError

if TYPE_CHECKING:
    from kbsync.cli.commands.ask_conversation import AskOptions


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
@pass_choices
def command(
    choices: Choices,
    question: tuple[str, ...],
    interactive: bool,
    path: str | None,
    types: tuple[str, ...],
    after: float | None,
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
    from kbsync.cli.commands.ask_conversation import AskOptions
    from kbsync.contract.answering import Answerer
    from kbsync.contract.searching import Query

    if app is not None and model is not None:
        raise UsageError("--app and --model exclude each other")
    by = Answerer(app or "", model or "") if app or model else None
    selection = Query("", path=path, types=extensions(types), after=after)
    terms = AskOptions(by, selection, streamed=not whole, quiet=choices.quiet)
    text = " ".join(question).strip()
    if interactive:
        from kbsync.cli.commands.ask_conversation import converse

        return converse(choices, text, terms, as_json=as_json)
    if not text:
        raise UsageError(f"the question is empty; say what to ask, or type it: {choices.typed('ask -i')}")
    import asyncio

    asyncio.run(_ask(choices, text, terms, as_json=as_json))
    return Code.MIRRORED


async def _ask(choices: Choices, question: str, terms: AskOptions, *, as_json: bool) -> None:
    from kbsync.cli.commands.ask_conversation import Asker, print_reply, to_json
    from kbsync.cli.commands.kb.account import one_to_ask, opened
    from kbsync.cli.context import choose

    installation = choose(choices, here=True)
    mirror = one_to_ask(installation, question)
    async with opened(installation, mirror) as target:
        inquiry = Asker(installation, mirror, target, terms, question)
        reply = await inquiry.ask(question, paper=None if as_json else Output())
    if as_json:
        Output().json(to_json(reply))
    else:
        print_reply(Output(), reply)
