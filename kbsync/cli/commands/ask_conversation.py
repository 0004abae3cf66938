"""One question after the other to one mirror's target: who answers, from which documents, and the answer.

What came of a question, for people and for programs.

`kbsync ask -i`: question after question, each told with what was said before. Nothing of it is kept.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from kbsync.cli.commands.kb.account import answers, one_to_ask, opened, served
from kbsync.cli.context import choose
from kbsync.cli.exit_codes import Code, OfMirror
from kbsync.cli.options import Choices
from kbsync.cli.output import Output, counted, tell
from kbsync.cli.prompts import questions
from kbsync.cli.searching import (
    MOST_NAMED,
    FoundDocument,
    anchored,
    illustrated,
    images_json,
    located,
    selected,
    unmatched,
)
from kbsync.config.model import MirrorConfig
from kbsync.contract.answering import Answerer, Sources, Turn
from kbsync.contract.searching import Passage, Query
from kbsync.contract.target import Target
from kbsync.core.text import printable, printable_lines
from kbsync.errors import Halted, NotOffered, UsageError
from kbsync.installation import Installation


@dataclass(frozen=True, slots=True)
class AskOptions:
    """What the options say of every question. `by`: who has to answer; `selection`: from which documents."""

    by: Answerer | None
    selection: Query
    streamed: bool = True
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of a question. `by` None: nobody was asked. `error`: why the answer is not whole."""

    mirror: str
    question: str
    text: str = ""
    by: Answerer | None = None
    sources: Sources | None = None
    cited: Sequence[FoundDocument] = ()
    error: str = ""

    @property
    def numbers(self) -> dict[str, int]:
        """The number of each cited document, by its id: what a model was given has those that it was told."""
        if self.by is not None and self.by.model and self.sources is not None:
            return {hit.remote_id: number for number, hit in enumerate(self.sources.hits or (), 1)}
        return {found.hit.remote_id: number for number, found in enumerate(self.cited, 1)}


class Asker:
    """Asks the target of a mirror. Raises `UsageError` where it answers nothing.

    `question` is what would be searched for instead.
    """

    def __init__(
        self,
        installation: Installation,
        mirror: MirrorConfig,
        target: Target,
        terms: AskOptions,
        question: str,
    ) -> None:
        self._installation, self._mirror, self._target = installation, mirror, target
        self._typed = terms.selection
        self._terms = replace(terms, selection=anchored(mirror, terms.selection))
        self._answering, self._bases = answers(target, installation, mirror, question)
        self._told: Answerer | None = None

    async def ask(self, question: str, turns: Sequence[Turn] = (), *, paper: Output | None) -> Reply:
        """The reply, its text on `paper` as it comes; without one, with pictures for a program to show."""
        ids = self._selected()
        if ids is not None and not ids:
            for option in unmatched(self._installation, self._typed):
                self._tell(f"no document matches {option}")
            self._tell(f"no document of {self._mirror.name} is selected; nothing was asked")
            return Reply(self._mirror.name, question)
        by = self._terms.by or await self._who()
        try:
            text, sources = await self._answered(question, by, turns, ids, paper)
        except NotOffered:
            if self._terms.by is not None or by.model or not self._answering.model:
                raise
            by = Answerer(model=self._answering.model)
            text, sources = await self._answered(question, by, turns, ids, paper)
        return Reply(self._mirror.name, question, text, by, sources, await self._cited(sources, paper))

    def _selected(self) -> Sequence[str] | None:
        """The documents that are meant; None: all."""
        if not self._terms.selection.selects:
            return None
        ids = selected(self._installation, self._mirror, self._terms.selection)
        if ids is None:
            raise UsageError(
                f"more than {MOST_NAMED} documents are selected, and a question can name no more; "
                "narrow --path, --type or --after, or ask without them"
            )
        return ids

    async def _who(self) -> Answerer:
        """The one application that answers from the mirror's base, or the model where there are none."""
        try:
            return Answerer(application=await self._only())
        except NotOffered as error:
            if self._answering.model:
                return Answerer(model=self._answering.model)
            raise NotOffered(f"{error.reason}; --model NAME does without it", code=error.code) from error

    async def _answered(
        self,
        question: str,
        by: Answerer,
        turns: Sequence[Turn],
        ids: Sequence[str] | None,
        paper: Output | None,
    ) -> tuple[str, Sources | None]:
        """What a model is given is ours, as in a search; an application looks into all of its base."""
        if by.model and by != self._told:
            self._tell(self._way(by))
            self._told = by
        if ids is None and by.model:
            ids = selected(self._installation, self._mirror, self._terms.selection)
        pieces = self._answering.answer(
            question, by, turns=turns, among=ids or (), streamed=self._terms.streamed
        )
        text, sources = await _written(pieces, paper)
        if not text and sources is not None and sources.hits == ():
            self._tell(f"nothing found for: {question}; it was not asked")
        return text, sources

    def _way(self, by: Answerer) -> str:
        why = "" if self._terms.by is not None else "this service has no applications; "
        return f"{why}{by.model} answers from the passages that a search finds"

    async def _cited(self, sources: Sources | None, paper: Output | None) -> list[FoundDocument]:
        """The files, through the journal; documents of others are not among them."""
        hits = sources.hits if sources is not None and sources.hits is not None else ()
        found = [
            FoundDocument(self._mirror, path, hit)
            for path, hit in located(self._installation, self._mirror, hits, Query(""))
        ]
        return found if paper is not None else await illustrated(self._target, found)

    async def _only(self) -> str:
        """The one application that answers from the mirror's base."""
        own, model = self._bases.own, self._answering.model or "NAME"
        found = [one for one in await self._answering.applications.all() if own in one.bases]
        if not found:
            create = self._installation.cure(f"kb app create NAME --mirror {self._mirror.name}")
            raise UsageError(
                f"no application answers from {own}; make one with: {create}\n"
                f"or do without one: --model {model} asks a model, with the passages that a search finds"
            )
        if len(found) > 1:
            names = ", ".join(f"{one.id} ({printable(one.name)})" for one in found)
            raise UsageError(f"several applications answer from {own}; name one with --app: {names}")
        return found[0].id

    def _tell(self, sentence: str) -> None:
        if not self._terms.quiet:
            tell(sentence)


async def _written(pieces: AsyncIterator[str | Sources], paper: Output | None) -> tuple[str, Sources | None]:
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


def print_reply(paper: Output, reply: Reply) -> None:
    """The files, below the text that was shown as it came."""
    sources = reply.sources
    if reply.by is None:
        return
    if sources is None or sources.hits is None:
        tell("the service does not tell which documents the answer is from")
        return
    if sources.hits:
        paper.line()
    numbers = reply.numbers
    for found in reply.cited:
        path = paper.link(paper.bold(printable(found.path)), found.absolute)
        places = ", ".join(dict.fromkeys(filter(None, map(_place, found.hit.passages))))
        paper.line(f"[{numbers[found.hit.remote_id]}] {path}" + (f"  {places}" if places else ""))
    others = len({hit.remote_id for hit in sources.hits} - {found.hit.remote_id for found in reply.cited})
    if others:
        verb = "is" if others == 1 else "are"
        tell(f"{counted(others, 'document')} that {verb} not of this mirror besides")


def _place(passage: Passage) -> str:
    if passage.page is not None:
        return f"p. {passage.page}"
    sheet = f"{printable(passage.sheet)}, " if passage.sheet else ""
    return "" if passage.line is None else f"{sheet}line {passage.line}"


def to_json(reply: Reply) -> dict[str, Any]:
    """One JSON document. `way` is null where nobody was asked."""
    sources, numbers = reply.sources, reply.numbers
    return {
        "question": reply.question,
        "answer": reply.text,
        "mirror": reply.mirror,
        **_way(reply.by),
        "request_id": sources.request_id if sources is not None else "",
        "usage": None if sources is None or sources.usage is None else dict(sources.usage),
        "has_old_document": None if sources is None else sources.has_old_document,
        "cites": sources is not None and sources.hits is not None,
        "citations": [
            {
                "number": numbers[found.hit.remote_id],
                "path": found.path,
                "abs_path": str(found.absolute),
                "document_id": found.hit.remote_id,
                "hide_positions": found.hit.hides_positions,
                "passages": [
                    {
                        "text": each.text,
                        "page": each.page,
                        "line": each.line,
                        "sheet_name": each.sheet,
                        "box": None if each.box is None else asdict(each.box),
                        **images_json(each.images),
                    }
                    for each in found.hit.passages
                ],
            }
            for found in reply.cited
        ],
        **({"error": reply.error} if reply.error else {}),
    }


def _way(by: Answerer | None) -> dict[str, str | None]:
    if by is None:
        return {"way": None}
    if by.model:
        return {"way": "passages", "model": by.model}
    return {"way": "application", "application": by.application}


STOPPED = "it was stopped"


def converse(choices: Choices, first: str, terms: AskOptions, *, as_json: bool) -> int:
    """Until the questions end. Raises what no other question would change."""
    installation = choose(choices, here=True)
    mirror = one_to_ask(installation, first or "-i")
    paper = Output()
    with asyncio.Runner() as runner, _closing(runner) as stack:
        target = runner.run(stack.enter_async_context(opened(installation, mirror)))
        with served(mirror):
            inquiry = Asker(installation, mirror, target, terms, first or "-i")
        conversation = Conversation(runner, mirror, inquiry, paper, as_json)
        with contextlib.suppress(KeyboardInterrupt):
            for question in questions(first, is_seen=not as_json):
                conversation.ask(question)
    return Code.MIRRORED


@contextmanager
def _closing(runner: asyncio.Runner) -> Iterator[AsyncExitStack]:
    stack = AsyncExitStack()
    try:
        yield stack
    finally:
        runner.run(stack.aclose())


@dataclass(slots=True)
class Conversation:
    """What was said so far. Each question is a run of its own, which an interrupt ends."""

    runner: asyncio.Runner
    mirror: MirrorConfig
    inquiry: Asker
    paper: Output
    as_json: bool
    turns: list[Turn] = field(default_factory=list)

    def ask(self, question: str) -> None:
        """Show the answer; only a whole one counts for what comes. Raises what ends the conversation."""
        try:
            with served(self.mirror):
                asked = self.inquiry.ask(question, self.turns, paper=None if self.as_json else self.paper)
                reply = self.runner.run(asked)
        except KeyboardInterrupt:
            reply = Reply(self.mirror.name, question, error=STOPPED)
        except OfMirror as error:
            if isinstance(error.__cause__, Halted | NotOffered | UsageError):
                raise
            tell(str(error))
            reply = Reply(self.mirror.name, question, error=str(error))
        if reply.text.strip():
            self.turns.append(Turn(question, reply.text))
        self._show(reply)

    def _show(self, reply: Reply) -> None:
        """At once, though stdout may be a pipe."""
        if self.as_json:
            self.paper.json(to_json(reply), on_one_line=True)
        elif not reply.error:
            print_reply(self.paper, reply)
        self.paper.show("" if self.as_json else "\n")
