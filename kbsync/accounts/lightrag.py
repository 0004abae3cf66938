"""Gets answers from a LightRAG server. A server has one knowledge base and its own model."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from kbsync.accounts.account import ApplicationInfo, Applications, ManagedAccount, Question, Sources
from kbsync.accounts.answering import error_in, incomplete_answer, json_lines, messages
from kbsync.contract.searching import Hit, Passage
from kbsync.dataclass import dataclass
from kbsync.errors import Rejected
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.http.reading import object_of, text_of
from kbsync.targets.lightrag.target import LightragTarget

SERVER_ID = "server"
"""The id of the only application: the server itself, which answers with its own model."""


@dataclass(frozen=True, slots=True)
class LightragServer(Applications):
    """The server, presented as its only application."""

    no_changes = "LightRAG answers with the server's own settings"
    base: str

    async def list_all(self) -> Sequence[ApplicationInfo]:
        """Return the server itself, which uses all its documents for answers."""
        return (ApplicationInfo(SERVER_ID, "LightRAG", bases=(self.base,)),)


class LightragAnswers:
    """Gets answers that are based on all documents of the server."""

    model = ""

    def __init__(self, target: LightragTarget) -> None:
        self._config, _, self._client = target.access
        self.applications = LightragServer(self._config.base_key("")[-1])

    async def answer(self, question: Question) -> AsyncIterator[str | Sources]:
        """Yield the server's answer.

        The server's model gets the previous turns, but its search uses only the question.
        """
        if question.answerer.application != SERVER_ID:
            raise Rejected("the server answers with its own model; omit --model and --app")
        if question.document_ids:
            reason = "the server answers from all its documents; omit --path, --type and --after"
            raise Rejected(reason)
        body = {
            "query": question.text,
            "mode": self._config.mode,
            "conversation_history": messages(question.text, question.turns)[:-1],
            "include_references": True,
            "include_chunk_content": True,
        }
        hits: Sequence[Hit] = ()
        is_answered = has_end = is_over = False
        stream = self._whole(body)
        if question.streamed:
            body["include_progress"] = True
            stream = self._client.stream("ask", "/query/stream", json=body)
        with self._client.redacting():
            async with aclosing(json_lines(stream)) as lines:
                async for line in lines:
                    hits = references(line) or hits
                    # kbsync requests progress reports. A server that sends them also sends a last line, with
                    # the duration of the answer.
                    has_end = has_end or "progress" in object_of(line)
                    is_over = is_over or "response_time" in object_of(line)
                    if (text := text_in(line)) is not None:
                        is_answered = True
                        if text:
                            yield text
        if not is_answered or (has_end and not is_over):
            raise incomplete_answer()
        yield Sources(tuple(hits), is_numbered=True)

    async def _whole(self, body: Mapping[str, Any]) -> AsyncGenerator[bytes | HttpResponse, None]:
        """Yield the whole answer."""
        yield await self._client.post("ask", "/query", json=body)


def references(line: Any) -> tuple[Hit, ...]:
    """Return the documents that an answer is based on, in the order of their numbers in the text."""
    hits = list[Hit]()
    for rank, reference in enumerate(object_of(line).objects("references"), 1):
        texts = reference.get("content")
        passages = [
            Passage(text_of(text), score=1 / rank) for text in (texts if isinstance(texts, list) else ())
        ]
        hits.append(Hit(reference.text("file_path"), 1 / rank, tuple(passages)))
    return tuple(hits)


def text_in(line: Any) -> str | None:
    """Return the text in a line. Return None if the line has no text, and "" if its text is the server's
    fixed reply to a search without results.

    Raises `Unavailable` if the line reports an error.
    """
    body = object_of(line)
    words = error_in(body)
    if line is None or "error" in body or words is not None:
        raise incomplete_answer("error", words or "")
    if body.get("llm_generated") is False:
        return ""
    return body["response"] if isinstance(body.get("response"), str) else None


def account(target: LightragTarget) -> ManagedAccount:
    """Return the account behind an open target. The account is a server with one base, which kbsync can't
    manage.
    """
    return ManagedAccount(answers=LightragAnswers(target))
