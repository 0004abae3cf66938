"""Questions to the target of one mirror, one or many, and their answers for people and for programs."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from kbsync.cli.commands.kb.account import OpenAccount, as_usage_error, is_remote, only_remote, open_target
from kbsync.cli.context import choose
from kbsync.cli.exit_codes import Code, OfMirror
from kbsync.cli.options import Choices
from kbsync.cli.output import Output, counted, tell
from kbsync.cli.prompts import questions
from kbsync.cli.searching import images_json, searched, unmatched_options
from kbsync.config.model import MirrorConfig
from kbsync.contract.managing import ManagesBases
from kbsync.contract.searching import Answerer, Answers, Query, Sources, Turn
from kbsync.core.text import printable, printable_lines
from kbsync.engine import search
from kbsync.engine.search import FoundDocument, anchored, locate, selected_ids, with_images
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
        """The number of each cited document, by its id."""
        if self.by is not None and self.by.model and self.sources is not None:
            # Those that the model was told: its text refers to them.
            return {hit.remote_id: number for number, hit in enumerate(self.sources.hits or (), 1)}
        return {found.hit.remote_id: number for number, found in enumerate(self.cited, 1)}


class Asker:
    """Asks the target of a mirror. Raises `UsageError` where it answers nothing.

    `question` is what would be searched for instead.
    """

    def __init__(self, account: OpenAccount, options: AskOptions, question: str) -> None:
        self._installation, self._mirror, target = account.installation, account.mirror, account.target
        if not isinstance(target, Answers) or not isinstance(target, ManagesBases):
            instead = _search_instead(self._installation, question, self._mirror)
            kind = self._mirror.target.type
            raise UsageError(f"{self._mirror.name}: a target of type {kind} writes no answers; {instead}")
        self._answering, self._bases = target, target.bases
        self._searched = searched(self._installation, self._mirror, target)
        self._typed = options.selection
        self._options = replace(options, selection=anchored(self._mirror.folder, options.selection))
        self._announced: Answerer | None = None

    async def ask(self, question: str, turns: Sequence[Turn] = (), *, output: Output | None) -> Reply:
        """The reply, its text on `output` as it comes; without one, with pictures for a program to show."""
        selection = self._options.selection
        ids = await selected_ids(self._searched, selection) if selection.selects else ()
        if ids is None:
            raise UsageError(
                f"more than {search.MOST_NAMED} documents are selected, and a question can name no more; "
                "narrow --path, --type or --after, or ask without them"
            )
        if selection.selects and not ids:
            for option in unmatched_options(self._installation, self._typed):
                self._tell(f"no document matches {option}")
            self._tell(f"no document of {self._mirror.name} is selected; nothing was asked")
            return Reply(self._mirror.name, question)
        by = self._options.by or await self._choose_answerer()
        try:
            text, sources = await self._answer(question, by, turns, ids, output)
        except NotOffered:
            if self._options.by is not None or by.model or not self._answering.model:
                raise
            by = Answerer(model=self._answering.model)
            text, sources = await self._answer(question, by, turns, ids, output)
        # Through the journal: documents of others are not among them.
        hits = sources.hits if sources is not None and sources.hits is not None else ()
        cited = await locate(self._searched, hits, Query(""))
        if output is None:
            cited = await with_images(cited, [self._searched])
        return Reply(self._mirror.name, question, text, by, sources, cited)

    async def _choose_answerer(self) -> Answerer:
        """The only application that answers from the mirror's base; a model where the service has none."""
        own, model = self._bases.own, self._answering.model
        try:
            applications = await self._answering.applications.all()
        except NotOffered as error:
            if model:
                return Answerer(model=model)
            raise NotOffered(f"{error.reason}; --model NAME does without it", code=error.code) from error
        found = [one for one in applications if own in one.bases]
        if not found:
            create = self._installation.cure(f"kb app create NAME --mirror {self._mirror.name}")
            raise UsageError(
                f"no application answers from {own}; make one with: {create}\n"
                f"or do without one: --model {model or 'NAME'} asks a model, "
                "with the passages that a search finds"
            )
        if len(found) > 1:
            names = ", ".join(f"{one.id} ({printable(one.name)})" for one in found)
            raise UsageError(f"several applications answer from {own}; name one with --app: {names}")
        return Answerer(application=found[0].id)

    async def _answer(
        self,
        question: str,
        by: Answerer,
        turns: Sequence[Turn],
        ids: Sequence[str],
        output: Output | None,
    ) -> tuple[str, Sources | None]:
        if by.model and by != self._announced:
            why = "" if self._options.by is not None else "this service has no applications; "
            self._tell(f"{why}{by.model} answers from the passages that a search finds")
            self._announced = by
        if by.model and not ids:
            # A model gets documents of ours only, as in a search; an application looks into all of its base.
            ids = await selected_ids(self._searched, self._options.selection) or ()
        pieces = self._answering.answer(question, by, turns=turns, among=ids, streamed=self._options.streamed)
        text, sources = "", None
        try:
            async for piece in pieces:
                if not isinstance(piece, str):
                    sources = piece
                    continue
                text += piece
                if output is not None:
                    output.write(printable_lines(piece), flush=True)
        finally:
            if output is not None and text and not text.endswith("\n"):
                output.write("\n", flush=True)
        if not text and sources is not None and sources.hits == ():
            self._tell(f"nothing found for: {question}; the model was not asked")
        return text, sources

    def _tell(self, sentence: str) -> None:
        if not self._options.quiet:
            tell(sentence)


def ask_once(choices: Choices, question: str, options: AskOptions, *, as_json: bool) -> int:
    """One question. Raises what keeps it from being answered."""
    with _opened(choices, question) as account, as_usage_error(account.mirror):
        asker = Asker(account, options, question)
        reply = account.call(asker.ask(question, output=None if as_json else Output()))
    if as_json:
        Output().json(reply_json(reply))
    else:
        print_sources(Output(), reply)
    return Code.MIRRORED


def converse(choices: Choices, first: str, options: AskOptions, *, as_json: bool) -> int:
    """Question after question, each told with what was said before, until they end. Nothing of it is kept.

    Raises what no other question would change.
    """
    output, turns = Output(), list[Turn]()
    with _opened(choices, first or "-i") as account:
        with as_usage_error(account.mirror):
            asker = Asker(account, options, first or "-i")
        with contextlib.suppress(KeyboardInterrupt):
            for question in questions(first, on_stdout=not as_json):
                try:
                    with as_usage_error(account.mirror):
                        shown = None if as_json else output
                        reply = account.call(asker.ask(question, turns, output=shown))
                except KeyboardInterrupt:
                    reply = Reply(account.mirror.name, question, error="it was stopped")
                except OfMirror as error:
                    if isinstance(error.__cause__, Halted | NotOffered | UsageError):
                        raise
                    tell(str(error))
                    reply = Reply(account.mirror.name, question, error=str(error))
                if reply.text.strip():  # only a whole answer counts for the questions that follow
                    turns.append(Turn(question, reply.text))
                if as_json:
                    output.json(reply_json(reply), on_one_line=True)
                elif not reply.error:
                    print_sources(output, reply)
                output.write("" if as_json else "\n", flush=True)
    return Code.MIRRORED


@contextmanager
def _opened(choices: Choices, question: str) -> Iterator[OpenAccount]:
    """The only mirror with a service. Where there is none its passages can still be searched."""
    installation = choose(choices, here=True)
    if not any(map(is_remote, installation.mirrors)):
        names = ", ".join(each.name for each in installation.mirrors)
        instead = _search_instead(installation, question, *installation.mirrors)
        raise UsageError(f"{names}: an embedded knowledge base writes no answers; {instead}")
    with open_target(installation, only_remote(installation)) as account:
        yield account


def _search_instead(installation: Installation, question: str, *mirrors: MirrorConfig) -> str:
    chosen = [] if len(installation.config.mirrors) == 1 else [f"--mirror {one.name}" for one in mirrors]
    command = " ".join(("search", *chosen, shlex.quote(question)))
    return f"search its passages: {installation.cure(command)}"


def print_sources(output: Output, reply: Reply) -> None:
    """The files, below the text that was shown as it came."""
    sources = reply.sources
    if reply.by is None:  # nobody was asked
        return
    if sources is None or sources.hits is None:
        tell("the service does not say which documents the answer is from")
        return
    if sources.hits:
        output.line()
    numbers = reply.numbers
    for found in reply.cited:
        path = output.link(output.bold(printable(found.path)), found.absolute)
        named = dict[str, None]()
        for passage in found.hit.passages:
            sheet = f"{printable(passage.sheet)}, " if passage.sheet else ""
            if passage.page is not None:
                named[f"p. {passage.page}"] = None
            elif passage.line is not None:
                named[f"{sheet}line {passage.line}"] = None
        places = ", ".join(named)
        output.line(f"[{numbers[found.hit.remote_id]}] {path}" + (f"  {places}" if places else ""))
    others = len({hit.remote_id for hit in sources.hits} - {found.hit.remote_id for found in reply.cited})
    if others:
        verb = "is" if others == 1 else "are"
        tell(f"{counted(others, 'document')} that {verb} not of this mirror besides")


def reply_json(reply: Reply) -> dict[str, Any]:
    """One JSON document. `way` is null where nobody was asked."""
    sources, numbers, way = reply.sources, reply.numbers, dict[str, str | None](way=None)
    if reply.by is not None and reply.by.model:
        way = {"way": "passages", "model": reply.by.model}
    elif reply.by is not None:
        way = {"way": "application", "application": reply.by.application}
    return {
        "question": reply.question,
        "answer": reply.text,
        "mirror": reply.mirror,
        **way,
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
