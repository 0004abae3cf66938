"""`kbsync ask`: asks a mirror's target a question.

It prints the answer as it arrives, followed by the files that the answer cites. It imports heavy packages
only when there is a question, so that `--help` responds at once.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from kbsync.accounts.account import Answerer, ApplicationInfo, Question, Sources, Turn
from kbsync.cli.commands.kb.account import OpenAccount, as_usage_error, is_remote, only_remote, open_target
from kbsync.cli.context import choose
from kbsync.cli.exit_codes import MirrorError
from kbsync.cli.options import Choices, as_typed, examples, json_option, selection_options, shared_options
from kbsync.cli.output import Output, print_message
from kbsync.cli.prompts import questions
from kbsync.contract.searching import Query
from kbsync.core.text import format_count, printable, printable_lines
from kbsync.dataclass import dataclass
from kbsync.errors import Halted, NotOffered, UsageError

if TYPE_CHECKING:
    from kbsync.config.model import MirrorConfig
    from kbsync.engine.search import FoundDocument
    from kbsync.installation import Installation


@click.command(
    epilog=examples(
        "kbsync ask 'how do I reset a password'",
        "kbsync ask 'what changed' --path 'guides/**' --after 2026-01-01",
        "kbsync ask -i                         # one question after another",
        "kbsync ask -i --json < questions.txt  # a JSON document for each line",
        "kbsync ask 'when does the office open' --app 1855818262969999360",
        "kbsync ask 'when does the office open' --model glm-4-flash",
        "kbsync ask 'how do I reset a password' --json | jq -r '.citations[].path'",
    )
)
@click.argument("question", nargs=-1, callback=as_typed)
@click.option(
    "-i",
    "--interactive",
    is_flag=True,
    help="Ask follow-up questions; the service also gets the earlier questions and answers.",
)
@selection_options
@click.option("--app", metavar="ID", help="The application to ask; see `kb app list`.")
@click.option("--model", metavar="NAME", help="The model to ask; it answers from search results.")
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
    """Answer QUESTION from the mirrored documents, and list the files that the answer is based on.

    Without --app and --model, kbsync asks the only application that answers from the mirror's knowledge base.
    If the service has no applications, a model answers from the passages that a search finds. With -i,
    questions come from the terminal or, one per line, from stdin; Ctrl-C stops an answer.
    """
    if app is not None and model is not None:
        raise UsageError("--app and --model can't be used together")
    text = " ".join(question).strip()
    if not (text or interactive):
        raise UsageError(f"the question is empty; pass one, or type one with: {choices.typed('ask -i')}")
    answerer = Answerer(app or "", model or "") if app or model else None
    with _open(choices, text or "-i") as account:
        with as_usage_error(account.mirror):
            asker = Asker(account, answerer, selection, streamed=not whole, quiet=choices.quiet)
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
    """Ask one question after another, each with the conversation so far.

    Nothing is stored on disk. An error is raised only if it would affect all further questions, too.
    """
    output, turns = Output(), list[Turn]()
    with contextlib.suppress(KeyboardInterrupt):
        for question in questions(first, on_stdout=not as_json):
            try:
                with as_usage_error(account.mirror):
                    reply = account.call(asker.ask(question, turns, output=None if as_json else output))
            except KeyboardInterrupt:
                reply = Reply(account.mirror.name, question, error="stopped")
            except MirrorError as error:
                if isinstance(error.__cause__, Halted | NotOffered | UsageError):
                    raise
                print_message(str(error))
                reply = Reply(account.mirror.name, question, error=str(error))
            if reply.text.strip():
                # Only complete answers become part of the conversation.
                turns.append(Turn(question, reply.text))
            if as_json:
                output.json(reply_json(reply), on_one_line=True)
            elif not reply.error:
                _print_sources(output, reply)
            output.write("" if as_json else "\n", flush=True)


@contextmanager
def _open(choices: Choices, question: str) -> Iterator[OpenAccount]:
    """Open the account behind the only mirror whose target is a service.

    If no target can answer questions, the error suggests a search.
    """
    installation = choose(choices, here=True)
    if not any(map(is_remote, installation.mirrors)):
        names = ", ".join(mirror.name for mirror in installation.mirrors)
        instead = _search_instead(installation, question, *installation.mirrors)
        raise UsageError(f"{names}: kbsync's own indexes can't answer questions; {instead}")
    with open_target(installation, only_remote(installation)) as account:
        if account.service.answers is None:
            mirror = account.mirror
            instead = _search_instead(installation, question, mirror)
            raise UsageError(
                f"{mirror.name}: a target of type {mirror.target.type} can't answer questions; {instead}"
            )
        yield account


def _search_instead(installation: Installation, question: str, *mirrors: MirrorConfig) -> str:
    chosen = "".join(f" --mirror {mirror.name}" for mirror in mirrors)
    command = f"search{chosen if len(installation.config.mirrors) > 1 else ''} {shlex.quote(question)}"
    return f"search its passages: {installation.command_line(command)}"


@dataclass(frozen=True, slots=True)
class Reply:
    """The outcome of a question.

    `answerer`: None if nothing was sent. `error`: why the answer is incomplete.
    """

    mirror: str
    question: str
    text: str = ""
    answerer: Answerer | None = None
    sources: Sources | None = None
    cited: Sequence[FoundDocument] = ()
    error: str = ""

    @property
    def numbers(self) -> dict[str, int]:
        """The number of each cited document, by remote id."""
        if self.sources is not None and self.sources.is_numbered:
            return {hit.remote_id: number for number, hit in enumerate(self.sources.hits or (), 1)}
        return {document.hit.remote_id: number for number, document in enumerate(self.cited, 1)}

    def marks(self, remote_id: str) -> Sequence[str]:
        """Return the marks that cite a document in the text. By default, the only mark is its number."""
        marks = {} if self.sources is None else self.sources.marks
        return marks.get(remote_id) or (str(self.numbers[remote_id]),)


class Asker:
    """Asks a mirror's target questions.

    `answerer`: None for the default one. `selection`: the documents to use.
    """

    def __init__(
        self,
        account: OpenAccount,
        answerer: Answerer | None,
        selection: Query,
        *,
        streamed: bool,
        quiet: bool,
    ) -> None:
        from kbsync.cli.context import reader
        from kbsync.engine.search import SearchedMirror, anchored

        self._installation, self._mirror, target = account.installation, account.mirror, account.target
        assert account.service.answers is not None
        self._answering = account.service.answers
        read, mirror = reader(self._installation), self._mirror
        self._searched = SearchedMirror(mirror.name, mirror.folder, target, read)
        self._requested, self._typed, self._streamed, self._quiet = answerer, selection, streamed, quiet
        self._selection = anchored(self._mirror.folder, selection)
        self._announced: Answerer | None = None
        self._has_printed_notes = False

    async def ask(self, question: str, turns: Sequence[Turn] = (), *, output: Output | None) -> Reply:
        """Print the answer on `output` as it arrives, and return it.

        If `output` is None, only return it, including images.
        """
        import asyncio

        from kbsync.cli.searching import search_notes, unmatched_options
        from kbsync.engine.search import MAX_SELECTED_IDS, locate, selected_ids, with_images

        ids: Sequence[str] = ()
        if self._selection.selects:
            selected = await selected_ids(self._searched, self._selection)
            if selected is None:
                raise UsageError(
                    f"more than {MAX_SELECTED_IDS} documents match --path, --type and --after, too many for "
                    "a question; narrow or omit them"
                )
            if not selected:
                options = unmatched_options(self._installation, self._typed)
                together = f"no document in {self._mirror.name} matches --path, --type and --after"
                problems = [f"no document matches {option}" for option in options] or [together]
                self._print("; ".join([*problems, "the question wasn't sent"]))
                return Reply(self._mirror.name, question)
            ids = selected
        answerer = self._requested or await self._choose_answerer(question)
        try:
            text, sources = await self._answer(question, answerer, turns, ids, output)
        except NotOffered:
            if self._requested is not None or answerer.model or not self._answering.model:
                raise
            answerer = Answerer(model=self._answering.model)
            text, sources = await self._answer(question, answerer, turns, ids, output)
        if not (self._quiet or self._has_printed_notes):
            # Notes on gaps, but only after the first answer.
            self._has_printed_notes = True
            alone = self._installation.narrow(self._mirror.name)
            for note in await asyncio.to_thread(search_notes, alone):
                print_message(note)
        # The state maps the hits to files, so other people's documents aren't cited (promise 6).
        hits = sources.hits if sources is not None and sources.hits is not None else ()
        cited = await locate([self._searched], hits, Query(""))
        if output is None:
            cited = await with_images(cited, [self._searched])
        return Reply(self._mirror.name, question, text, answerer, sources, cited)

    async def _choose_answerer(self, question: str) -> Answerer:
        """Return the only application that answers from the mirror's base, or a model if the service has no
        applications."""
        # The last part is the service's id of the base, which the applications use, too.
        *_, base_id = self._mirror.target.base_key(self._mirror.name)
        model, applications = self._answering.model, self._answering.applications
        try:
            every = await applications.list_all()
        except NotOffered as error:
            if model:
                return Answerer(model=model)
            if applications.hint:  # the service answers only through applications
                raise
            raise UsageError(
                "no model is set to answer questions; pass --model NAME, or set chat_model in the config"
            ) from error
        fitting = [choice for choice in every if base_id in choice.bases]
        if not fitting and applications.hint:
            hint = applications.hint
            if every:
                hint = f"{hint}, or choose another application with --app: {_format_applications(every)}"
            raise UsageError(f"no application answers from {base_id}; {hint}")
        if not fitting:
            command_line, mirror = self._installation.command_line, self._mirror.name
            create = command_line(f"kb app create NAME --mirror {mirror}")
            ask = command_line(f"ask {shlex.quote(question)} --mirror {mirror} --model {model or 'NAME'}")
            raise UsageError(
                f"no application answers from {base_id}; create one with: {create}\nor have a model answer "
                f"from search results: {ask}"
            )
        if len(fitting) > 1:
            listed = _format_applications(fitting)
            raise UsageError(f"several applications answer from {base_id}; choose one with --app: {listed}")
        return Answerer(application=fitting[0].id)

    async def _answer(
        self,
        question: str,
        answerer: Answerer,
        turns: Sequence[Turn],
        ids: Sequence[str],
        output: Output | None,
    ) -> tuple[str, Sources | None]:
        from kbsync.engine.search import selected_ids

        if answerer.model and answerer != self._announced:
            why = "" if self._requested is not None else "this service has no applications; "
            self._print(f"{why}{answerer.model} answers from search results")
            self._announced = answerer
        if answerer.model and not ids:
            # A model gets only our documents, as in a search; an application reads its whole base.
            ids = await selected_ids(self._searched, self._selection) or ()
        pieces = self._answering.answer(Question(question, answerer, turns, ids, self._streamed))
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
            self._print(f"nothing found for: {question}; the model wasn't asked")
        return text, sources

    def _print(self, sentence: str) -> None:
        if not self._quiet:
            print_message(sentence)


def _format_applications(applications: Sequence[ApplicationInfo]) -> str:
    return ", ".join(f"{application.id} ({printable(application.name)})" for application in applications)


def _print_sources(output: Output, reply: Reply) -> None:
    """Print the files below the answer."""
    sources = reply.sources
    if reply.answerer is None:
        return
    if sources is None or sources.hits is None:
        print_message("the service didn't say which documents the answer is based on")
        return
    if sources.hits:
        output.line()
    for document in reply.cited:
        path = output.link(output.bold(printable(document.path)), document.absolute)
        positions = dict[str, None]()
        for passage in document.hit.passages:
            sheet = f"{printable(passage.sheet)}, " if passage.sheet else ""
            if passage.page is not None:
                positions[f"p. {passage.page}"] = None
            elif passage.line is not None:
                positions[f"{sheet}line {passage.line}"] = None
        position_text = f"  {', '.join(positions)}" if positions else ""
        output.line(f"[{', '.join(reply.marks(document.hit.remote_id))}] {path}{position_text}")
    if others := len(
        {hit.remote_id for hit in sources.hits} - {citation.hit.remote_id for citation in reply.cited}
    ):
        print_message(f"the answer also uses {format_count(others, 'document')} outside this mirror")


def reply_json(reply: Reply) -> dict[str, Any]:
    """Return a reply in the format of `--json`. In this format, `way` is null if the question wasn't sent."""
    from kbsync.search import images_json

    sources, numbers, way = reply.sources, reply.numbers, dict[str, str | None](way=None)
    if reply.answerer is not None and reply.answerer.model:
        way = {"way": "passages", "model": reply.answerer.model}
    elif reply.answerer is not None:
        way = {"way": "application", "application": reply.answerer.application}
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
                "number": numbers[document.hit.remote_id],
                "marks": list(reply.marks(document.hit.remote_id)),
                "path": document.path,
                "abs_path": str(document.absolute),
                "document_id": document.hit.remote_id,
                "hide_positions": document.hit.hides_positions,
                "passages": [
                    {
                        "text": passage.text,
                        "page": passage.page,
                        "line": passage.line,
                        "sheet_name": passage.sheet,
                        "box": None if passage.box is None else dict(passage.box),
                        **images_json(passage.images),
                    }
                    for passage in document.hit.passages
                ],
            }
            for document in reply.cited
        ],
        **({"error": reply.error} if reply.error else {}),
    }
