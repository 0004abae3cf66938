"""One question after the other to one mirror's target: who answers, from which documents, and the answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace

from kbsync.cli.counter import answers
from kbsync.cli.finding import Found, illustrated
from kbsync.cli.locating import MOST_NAMED, located, selected
from kbsync.cli.narrowing import anchored, unmatched
from kbsync.cli.paper import Paper, tell
from kbsync.config.model import MirrorConfig
from kbsync.contract.answering import Answerer, Sources, Turn
from kbsync.contract.mirroring import Target
from kbsync.contract.searching import Query
from kbsync.core.printable import printable, printable_lines
from kbsync.errors import NotOffered, UsageError
from kbsync.installation import Installation


@dataclass(frozen=True, slots=True)
class Terms:
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
    cited: Sequence[Found] = ()
    error: str = ""

    @property
    def numbers(self) -> dict[str, int]:
        """The number of each cited document, by its id: what a model was given has those that it was told."""
        if self.by is not None and self.by.model and self.sources is not None:
            return {hit.remote_id: number for number, hit in enumerate(self.sources.hits or (), 1)}
        return {found.hit.remote_id: number for number, found in enumerate(self.cited, 1)}


class Inquiry:
    """Asks the target of a mirror. Raises `UsageError` where it answers nothing.

    `question` is what would be searched for instead.
    """

    def __init__(
        self, installation: Installation, mirror: MirrorConfig, target: Target, terms: Terms, question: str
    ) -> None:
        self._installation, self._mirror, self._target = installation, mirror, target
        self._typed = terms.selection
        self._terms = replace(terms, selection=anchored(mirror, terms.selection))
        self._answering, self._bases = answers(target, installation, mirror, question)
        self._told: Answerer | None = None

    async def ask(self, question: str, turns: Sequence[Turn] = (), *, paper: Paper | None) -> Reply:
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
        paper: Paper | None,
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

    async def _cited(self, sources: Sources | None, paper: Paper | None) -> list[Found]:
        """The files, through the journal; documents of others are not among them."""
        hits = sources.hits if sources is not None and sources.hits is not None else ()
        found = [
            Found(self._mirror, path, hit)
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
