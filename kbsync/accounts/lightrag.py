"""The answers of a LightRAG server, which has one knowledge base and answers with a model of its own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from kbsync.accounts.account import Account, ApplicationInfo, Applications, Question, Sources
from kbsync.accounts.answering import broken_off, json_lines, messages
from kbsync.contract.searching import Hit, Passage
from kbsync.errors import Rejected
from kbsync.targets.http.reading import object_of, objects_in, text_of
from kbsync.targets.lightrag.target import LightragTarget

ITSELF = "server"
"""The id of the one that answers questions: the server, with a model of its own."""


@dataclass(frozen=True, slots=True)
class LightragServer(Applications):
    """The server as the only application there is, which no call changes."""

    why = "the server answers by itself, and as it is set up"
    base: str

    async def all(self) -> Sequence[ApplicationInfo]:
        """It answers from all of its documents."""
        return (ApplicationInfo(ITSELF, "LightRAG", bases=(self.base,)),)


class LightragAnswers:
    """What the server answers from all of its documents."""

    model = ""

    def __init__(self, target: LightragTarget) -> None:
        self._config, _, self._client = target.access
        self.applications = LightragServer(self._config.base_key("")[-1])

    async def answer(self, question: Question) -> AsyncIterator[str | Sources]:
        """What the server answers. `turns` go to its model; passages are found by the question alone."""
        if question.by.application != ITSELF:
            raise Rejected("the server answers with a model of its own; ask without --model and --app")
        if question.among:
            said = "the server answers from all of its documents; ask without --path, --type and --after"
            raise Rejected(said)
        asked = {
            "query": question.text,
            "mode": self._config.mode,
            "conversation_history": messages(question.text, question.turns)[:-1],
            "include_references": True,
            "include_chunk_content": True,
        }
        hits: Sequence[Hit] = ()
        is_answered = has_end = is_over = False
        with self._client.redacting():
            async with aclosing(self._answer_lines(asked, question.streamed)) as lines:
                async for line in lines:
                    hits = references(line) or hits
                    # A server that tells of its progress, as it is asked to, also has a last line.
                    has_end = has_end or is_progress(line)
                    is_over = is_over or is_last(line)
                    if (text := answered(line)) is not None:
                        is_answered = True
                        if text:
                            yield text
        if not is_answered or (has_end and not is_over):
            raise broken_off()
        yield Sources(tuple(hits), numbered=True)

    async def _answer_lines(self, asked: Mapping[str, Any], streamed: bool) -> AsyncGenerator[Any, None]:
        """Lines of an answer, or all of it."""
        if not streamed:
            yield (await self._client.post("ask", "/query", json=asked)).body
            return
        stream = self._client.stream("ask", "/query/stream", json={**asked, "include_progress": True})
        async with aclosing(json_lines(stream)) as lines:
            async for line in lines:
                yield line


def references(line: Any) -> tuple[Hit, ...]:
    """The documents that an answer is made from, in the order of the numbers that it gives them."""
    listed = objects_in(object_of(line).get("references"))
    return tuple(
        Hit(text_of(one.get("file_path")), 1 / place, tuple(_texts(one.get("content"), 1 / place)))
        for place, one in enumerate(listed, 1)
    )


def _texts(content: object, score: float) -> Iterator[Passage]:
    for text in content if isinstance(content, list) else ():
        yield Passage(text_of(text), score=score)


def is_progress(line: Any) -> bool:
    """A line about the work on an answer, before its text."""
    return "progress" in object_of(line)


def is_last(line: Any) -> bool:
    """The line with the time that an answer took."""
    return "response_time" in object_of(line)


def answered(line: Any) -> str | None:
    """The text of a line of an answer; None: it has none. Raises `Unavailable` for an error in its place.

    "" where the model was not asked, since nothing was found: then the server has a sentence of its own.
    """
    body = object_of(line)
    if line is None or "error" in body:
        raise broken_off("error", text_of(body.get("error")))
    if body.get("llm_generated") is False:
        return ""
    return body["response"] if isinstance(body.get("response"), str) else None


def account(target: LightragTarget) -> Account:
    """The server, whose one base cannot be managed."""
    return Account(answers=LightragAnswers(target))
