"""`kbsync ask`: questions to the target of a mirror; the answer is printed as it comes, then its files.

What a question needs beyond the command line is loaded when it is asked, so that `--help` answers at once.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from kbsync.accounts.account import Answerer, ApplicationInfo, Question, Sources, Turn
from kbsync.cli.commands.kb.account import OpenAccount, as_usage_error, is_remote, only_remote, open_target
from kbsync.cli.context import choose
from kbsync.cli.exit_codes import OfMirror
from kbsync.cli.options import Choices, examples, json_option, selection_options, shared_options
from kbsync.cli.output import Output, tell
from kbsync.cli.prompts import questions
from kbsync.contract.searching import Query
from kbsync.core.text import counted, printable, printable_lines
from kbsync.errors import Halted, NotOffered, UsageError

if TYPE_CHECKING:
    from kbsync.config.model import MirrorConfig
    from kbsync.engine.search import FoundDocument
    from kbsync.installation import Installation


@click.command(
    epilog=examples(
        "kbsync ask 'how do I reset a password'",
        "kbsync ask 'what changed' --path 'guides/**' --after 2026-01-01",
        "kbsync ask -i                         one question after another",
        "kbsync ask -i --json < questions.txt  a JSON document for each line",
        "kbsync ask 'when does the office open' --app 1855818262969999360",
        "kbsync ask 'when does the office open' --model glm-4-flash",
        "kbsync ask 'how do I reset a password' --json | jq -r '.citations[].path'",
    )
)
@click.argument("question", nargs=-1)
@click.option("-i", "--interactive", is_flag=True, help="Keep asking; earlier questions and answers count.")
@selection_options
@click.option("--app", metavar="ID", help="Ask this application; see `kb app list`.")
@click.option("--model", metavar="NAME", help="Ask this model; it gets the passages that a search finds.")
@click.option("--whole", is_flag=True, help="Wait for the whole answer instead of streaming it.")
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
) -> None:
    """Answer QUESTION from the mirrored documents, and list the files it was answered from.

    Without --app and --model, kbsync asks the only application that answers from the mirror's knowledge
    base. Where the service has no applications, a model gets the passages that a search finds. With -i,
    questions come from the terminal or from the lines of stdin; Ctrl-C stops an answer.
    """
    if app is not None and model is not None:
        raise UsageError("--app and --model exclude each other")
    text = " ".join(question).strip()
    if not (text or interactive):
        raise UsageError(f"the question is empty; say what to ask, or type it: {choices.typed('ask -i')}")
    by = Answerer(app or "", model or "") if app or model else None
    with _opened(choices, text or "-i") as account:
        with as_usage_error(account.mirror):
            asker = Asker(account, by, selection, streamed=not whole, quiet=choices.quiet)
        if interactive:
            _converse(account, asker, text, as_json=as_json)
            return
        with as_usage_error(account.mirror):
            reply = account.call(asker.ask(text, output=None if as_json else Output()))
    if as_json:
        Output().json(reply_json(reply))
    else:
        _print_sources(Output(), reply)


def _converse(account: OpenAccount, asker: Asker, first: str, *, as_json: bool) -> None:
    """Question after question until they end, each told with what was said before. Nothing of it is kept.

    Raises what no other question would change.
    """
    output, turns = Output(), list[Turn]()
    with contextlib.suppress(KeyboardInterrupt):
        for question in questions(first, on_stdout=not as_json):
            try:
                with as_usage_error(account.mirror):
                    reply = account.call(asker.ask(question, turns, output=None if as_json else output))
            except KeyboardInterrupt:
                reply = Reply(account.mirror.name, question, error="it was stopped")
            except OfMirror as error:
                if isinstance(error.__cause__, Halted | NotOffered | UsageError):
                    raise
                tell(str(error))
                reply = Reply(account.mirror.name, question, error=str(error))
            if reply.text.strip():
                # Only a whole answer counts for the questions that follow.
                turns.append(Turn(question, reply.text))
            if as_json:
                output.json(reply_json(reply), on_one_line=True)
            elif not reply.error:
                _print_sources(output, reply)
            output.write("" if as_json else "\n", flush=True)


@contextmanager
def _opened(choices: Choices, question: str) -> Iterator[OpenAccount]:
    """The only mirror with a service. Where there is none its passages can still be searched."""
    installation = choose(choices, here=True)
    if not any(map(is_remote, installation.mirrors)):
        names = ", ".join(each.name for each in installation.mirrors)
        instead = _search_instead(installation, question, *installation.mirrors)
        raise UsageError(f"{names}: a knowledge base that kbsync keeps itself writes no answers; {instead}")
    with open_target(installation, only_remote(installation)) as account:
        if account.service.answers is None:
            mirror = account.mirror
            instead = _search_instead(installation, question, mirror)
            raise UsageError(
                f"{mirror.name}: a target of type {mirror.target.type} writes no answers; {instead}"
            )
        yield account


def _search_instead(installation: Installation, question: str, *mirrors: MirrorConfig) -> str:
    chosen = [] if len(installation.config.mirrors) == 1 else [f"--mirror {one.name}" for one in mirrors]
    command = " ".join(("search", *chosen, shlex.quote(question)))
    return f"search its passages: {installation.cure(command)}"


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
        if self.sources is not None and self.sources.numbered:
            return {hit.remote_id: number for number, hit in enumerate(self.sources.hits or (), 1)}
        return {found.hit.remote_id: number for number, found in enumerate(self.cited, 1)}

    def marks(self, remote_id: str) -> Sequence[str]:
        """What the text refers to a cited document by, or else its number."""
        known = {} if self.sources is None else self.sources.marks
        return known.get(remote_id) or (str(self.numbers[remote_id]),)


class Asker:
    """Asks the target of a mirror. `by`: who is to answer; `selection`: from which documents."""

    def __init__(
        self, account: OpenAccount, by: Answerer | None, selection: Query, *, streamed: bool, quiet: bool
    ) -> None:
        from kbsync.cli.context import reader
        from kbsync.engine.search import SearchedMirror, anchored

        self._installation, self._mirror, target = account.installation, account.mirror, account.target
        assert account.service.answers is not None
        self._answering = account.service.answers
        read, mirror = reader(self._installation), self._mirror
        self._searched = SearchedMirror(mirror.name, mirror.folder, target, read)
        self._by, self._typed, self._streamed, self._quiet = by, selection, streamed, quiet
        self._selection = anchored(self._mirror.folder, selection)
        self._announced: Answerer | None = None
        self._has_told_notes = False

    async def ask(self, question: str, turns: Sequence[Turn] = (), *, output: Output | None) -> Reply:
        """The reply, its text on `output` as it comes; without one, with pictures for a program to show."""
        from kbsync.cli.searching import unmatched_options
        from kbsync.engine.search import MOST_NAMED, locate, selected_ids, with_images

        ids: Sequence[str] = ()
        if self._selection.selects:
            found = await selected_ids(self._searched, self._selection)
            if found is None:
                raise UsageError(
                    f"more than {MOST_NAMED} documents are selected, and a question can name no more; "
                    "narrow --path, --type or --after, or ask without them"
                )
            if not found:
                for option in unmatched_options(self._installation, self._typed):
                    self._tell(f"no document matches {option}")
                self._tell(f"no document of {self._mirror.name} is selected; nothing was asked")
                return Reply(self._mirror.name, question)
            ids = found
        by = self._by or await self._choose_answerer()
        try:
            text, sources = await self._answer(question, by, turns, ids, output)
        except NotOffered:
            if self._by is not None or by.model or not self._answering.model:
                raise
            by = Answerer(model=self._answering.model)
            text, sources = await self._answer(question, by, turns, ids, output)
        await self._tell_what_is_missing()
        # Through the journal: documents of others are not cited (promise 6).
        hits = sources.hits if sources is not None and sources.hits is not None else ()
        cited = await locate([self._searched], hits, Query(""))
        if output is None:
            cited = await with_images(cited, [self._searched])
        return Reply(self._mirror.name, question, text, by, sources, cited)

    async def _choose_answerer(self) -> Answerer:
        """The only application that answers from the mirror's base; a model where the service has none."""
        # Last in it is what the service calls the base, and so do the applications.
        *_, own = self._mirror.target.base_key(self._mirror.name)
        model, applications = self._answering.model, self._answering.applications
        try:
            known = await applications.all()
        except NotOffered as error:
            if model:
                return Answerer(model=model)
            raise UsageError(
                f"no application answers here ({error.reason}); name a model with --model NAME, or as "
                "chat_model in the config"
            ) from error
        found = [one for one in known if own in one.bases]
        if not found and applications.advice:
            others = f"; others can be named with --app: {_listed(known)}" if known else ""
            raise UsageError(f"no application answers from {own}; {applications.advice}{others}")
        if not found:
            create = self._installation.cure(f"kb app create NAME --mirror {self._mirror.name}")
            raise UsageError(
                f"no application answers from {own}; create one with: {create}\n"
                f"or ask a model, which gets the passages that a search finds: --model {model or 'NAME'}"
            )
        if len(found) > 1:
            raise UsageError(f"several applications answer from {own}; name one with --app: {_listed(found)}")
        return Answerer(application=found[0].id)

    async def _answer(
        self,
        question: str,
        by: Answerer,
        turns: Sequence[Turn],
        ids: Sequence[str],
        output: Output | None,
    ) -> tuple[str, Sources | None]:
        from kbsync.engine.search import selected_ids

        if by.model and by != self._announced:
            why = "" if self._by is not None else "this service has no applications; "
            self._tell(f"{why}{by.model} answers from the passages that a search finds")
            self._announced = by
        if by.model and not ids:
            # A model gets documents of ours only, as in a search; an application reads all of its base.
            ids = await selected_ids(self._searched, self._selection) or ()
        pieces = self._answering.answer(Question(question, by, turns, ids, self._streamed))
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

    async def _tell_what_is_missing(self) -> None:
        """Print once what the answer may lack."""
        import asyncio

        from kbsync.cli.searching import search_notes

        if self._quiet or self._has_told_notes:
            return
        self._has_told_notes = True
        of_mirror = replace(self._installation, only=(self._mirror.name,))
        for note in await asyncio.to_thread(search_notes, of_mirror):
            tell(note)

    def _tell(self, sentence: str) -> None:
        if not self._quiet:
            tell(sentence)


def _listed(applications: Sequence[ApplicationInfo]) -> str:
    return ", ".join(f"{one.id} ({printable(one.name)})" for one in applications)


def _print_sources(output: Output, reply: Reply) -> None:
    """The files, below the text that was shown as it came."""
    sources = reply.sources
    if reply.by is None:
        # Nobody was asked.
        return
    if sources is None or sources.hits is None:
        tell("the service does not say which documents the answer is from")
        return
    if sources.hits:
        output.line()
    for found in reply.cited:
        path = output.link(output.bold(printable(found.path)), found.absolute)
        places = dict[str, None]()
        for passage in found.hit.passages:
            sheet = f"{printable(passage.sheet)}, " if passage.sheet else ""
            if passage.page is not None:
                places[f"p. {passage.page}"] = None
            elif passage.line is not None:
                places[f"{sheet}line {passage.line}"] = None
        where = f"  {', '.join(places)}" if places else ""
        output.line(f"[{', '.join(reply.marks(found.hit.remote_id))}] {path}{where}")
    if others := len({hit.remote_id for hit in sources.hits} - {each.hit.remote_id for each in reply.cited}):
        tell(f"it also draws on {counted(others, 'document')} outside this mirror")


def reply_json(reply: Reply) -> dict[str, Any]:
    """One JSON document. `way` is null where nobody was asked."""
    from kbsync.search import images_json

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
                "marks": list(reply.marks(found.hit.remote_id)),
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
                        "box": None if each.box is None else dict(each.box),
                        **images_json(each.images),
                    }
                    for each in found.hit.passages
                ],
            }
            for found in reply.cited
        ],
        **({"error": reply.error} if reply.error else {}),
    }
