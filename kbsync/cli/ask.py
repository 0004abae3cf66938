"""`kbsync ask`: a question in, an answer out as it is made, and the files it was made from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from kbsync.cli.exits import Code
from kbsync.cli.options import Choices, examples, json_option, pass_choices, shared_options
from kbsync.cli.paper import Paper, counted, tell
from kbsync.core.printable import printable, printable_lines
from kbsync.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from kbsync.cli.finding import Found
    from kbsync.config.model import MirrorConfig
    from kbsync.contract import Answers, Bases, Passage, Sources
    from kbsync.installation import Installation


@click.command(
    epilog=examples(
        "kbsync ask 'how do I reset a password'",
        "kbsync ask 'when does the office open' --app 1855818262969999360",
        "kbsync ask 'how do I reset a password' --json | jq -r '.citations[].path'",
    )
)
@click.argument("question", nargs=-1, required=True)
@click.option("--app", metavar="ID", help="The application to ask; see `kb app list`.")
@click.option("--whole", is_flag=True, help="Ask for the answer in one piece.")
@json_option
@shared_options
@pass_choices
def command(choices: Choices, question: tuple[str, ...], app: str | None, whole: bool, as_json: bool) -> int:
    """Answer QUESTION from the mirrored documents, where the target can; the files come below.

    Without --app it is the only application that answers from the mirror's knowledge base.
    """
    import asyncio

    text = " ".join(question).strip()
    if not text:
        raise UsageError("the question is empty; say what to ask")
    asyncio.run(_ask(choices, text, app, streamed=not whole, as_json=as_json))
    return Code.MIRRORED


async def _ask(choices: Choices, question: str, app: str | None, *, streamed: bool, as_json: bool) -> None:
    from kbsync.cli.choosing import choose
    from kbsync.cli.counter import answers, one_to_ask, opened
    from kbsync.cli.finding import illustrated

    installation = choose(choices)
    mirror = one_to_ask(installation, question)
    async with opened(installation, mirror) as target:
        answering, bases = answers(target, installation, mirror, question)
        app = app or await _only(answering, bases)
        pieces = answering.answer(question, app, streamed=streamed)
        text, sources = await _written(pieces, None if as_json else Paper())
        cited = _cited(installation, mirror, sources)
        if as_json:
            cited = await illustrated(target, cited)
    if as_json:
        Paper().json(_json(mirror, text, sources, cited))
    else:
        _print(Paper(), sources, cited)


async def _only(answering: Answers, bases: Bases) -> str:
    """The one application that answers from the mirror's base."""
    found = [one for one in await answering.applications.all() if bases.own in one.bases]
    if not found:
        raise UsageError(f"no application answers from {bases.own}; make one with: kbsync kb app create NAME")
    if len(found) > 1:
        names = ", ".join(f"{one.id} ({printable(one.name)})" for one in found)
        raise UsageError(f"several applications answer from {bases.own}; name one with --app: {names}")
    return found[0].id


async def _written(pieces: AsyncIterator[str | Sources], paper: Paper | None) -> tuple[str, Sources | None]:
    """The whole text and its sources; on `paper` each piece as it comes, and the end of its line anyhow."""
    text, sources = "", None
    try:
        async for piece in pieces:
            if not isinstance(piece, str):
                sources = piece
            else:
                text += piece
                if paper is not None:
                    paper.show(printable_lines(piece))
    finally:
        if paper is not None and text and not text.endswith("\n"):
            paper.show("\n")
    return text, sources


def _cited(installation: Installation, mirror: MirrorConfig, sources: Sources | None) -> list[Found]:
    """The files, through the journal; documents of others are not among them."""
    from kbsync.cli.finding import Found
    from kbsync.cli.locating import located
    from kbsync.contract import Query

    hits = sources.hits if sources is not None and sources.hits is not None else ()
    return [Found(mirror, path, hit) for path, hit in located(installation, mirror, hits, Query(""))]


def _print(paper: Paper, sources: Sources | None, cited: list[Found]) -> None:
    if sources is None or sources.hits is None:
        tell("the service does not tell which documents the answer is from")
        return
    if sources.hits:
        paper.line()
    for number, found in enumerate(cited, 1):
        path = paper.link(paper.bold(printable(found.path)), found.absolute)
        places = ", ".join(dict.fromkeys(filter(None, map(_place, found.hit.passages))))
        paper.line(f"[{number}] {path}" + (f"  {places}" if places else ""))
    others = len({hit.remote_id for hit in sources.hits} - {found.hit.remote_id for found in cited})
    if others:
        tell(
            f"{counted(others, 'document')} that {'is' if others == 1 else 'are'} not of this mirror besides"
        )


def _place(passage: Passage) -> str:
    if passage.page is not None:
        return f"p. {passage.page}"
    return "" if passage.line is None else f"line {passage.line}"


def _json(mirror: MirrorConfig, text: str, sources: Sources | None, cited: list[Found]) -> dict[str, Any]:
    from kbsync.cli.finding import images_json

    return {
        "answer": text,
        "mirror": mirror.name,
        "request_id": sources.request_id if sources is not None else "",
        "cites": sources is not None and sources.hits is not None,
        "citations": [
            {
                "path": found.path,
                "abs_path": str(found.absolute),
                "document_id": found.hit.remote_id,
                "passages": [
                    {
                        "text": each.text,
                        "page": each.page,
                        "line": each.line,
                        **images_json(each.images),
                    }
                    for each in found.hit.passages
                ],
            }
            for found in cited
        ],
    }
