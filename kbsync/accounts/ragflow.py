"""Manages the datasets of a RAGFlow user, and gets answers from the user's chat assistants."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from typing import Any

from kbsync.accounts.account import (
    ApplicationInfo,
    Applications,
    BaseRequest,
    Bases,
    ManagedAccount,
    Question,
    Sources,
)
from kbsync.accounts.answering import Completions, Piece, incomplete_answer, messages
from kbsync.accounts.settings import OfferedSetting, any_text, choice, parse_settings
from kbsync.contract.target import BaseCard
from kbsync.dataclass import dataclass
from kbsync.errors import NotOffered, Rejected
from kbsync.targets.http import reading
from kbsync.targets.http.bodies import without_none
from kbsync.targets.http.client import Client
from kbsync.targets.http.reading import Fields, ListPage, Match, path_part
from kbsync.targets.ragflow import shapes
from kbsync.targets.ragflow.target import DATASETS, RagflowTarget

_METHODS = ["naive", "book", "email", "laws", "manual", "one", "paper", "picture", "presentation"]
_METHODS += ["qa", "table", "tag"]
SETTINGS: Mapping[str, OfferedSetting] = {
    "chunk_method": choice(*_METHODS),
    "embedding_model": any_text(),
    "permission": choice("me", "team"),
}
"""A dataset's settings, apart from its name and description."""

MAX_NAME_LENGTH = 128

CHAT_CALLS = "/api/v1/openai", "/api/v1/chats_openai"
"""The paths of the chat completions call. RAGFlow before 0.25.1 has only the second path."""


class RagflowBases(Bases):
    """The datasets of one user."""

    target: RagflowTarget

    no_models = "RAGFlow lists its models in its settings; choose one with --set embedding_model=…"
    no_capacity = "RAGFlow doesn't limit how much a user can store"

    def fields_of(self, request: BaseRequest) -> dict[str, Any]:
        """Return the name, description and settings of a dataset, in the service's format."""
        if request.model is not None:
            raise Rejected("RAGFlow doesn't accept --model; use --set embedding_model=NAME@FACTORY")
        if request.name is not None and len(request.name) > MAX_NAME_LENGTH:
            raise Rejected(f"RAGFlow limits names to {MAX_NAME_LENGTH} characters", code="name")
        texts = {"name": request.name, "description": request.description}
        fields = parse_settings(request.settings, SETTINGS, "a dataset")
        return without_none(texts) | fields

    async def page(self, number: int, size: int) -> ListPage[BaseCard]:
        """Return one page of the list. The response doesn't contain the total."""
        params = {"page": str(number), "page_size": str(size)}
        return await self._client.read("bases", DATASETS, shapes.bases_of, params=params)

    async def send_create(self, request: BaseRequest, fields: Mapping[str, Any]) -> BaseCard | None:
        """Send the create request.

        Callers must check first that the name is free, because the server would rename a second `name` to
        `name(1)`.
        """
        response = await self._client.post("create-base", DATASETS, json=fields)
        return shapes.base_of(response.fields.object("data"))

    async def update(self, base_id: str, request: BaseRequest) -> None:
        """Send only the changed settings. RAGFlow doesn't parse existing documents again."""
        fields = self.fields_of(request)
        await self.get(base_id)
        await self._client.request("edit-base", "PUT", f"{DATASETS}/{base_id}", json=fields)

    async def delete(self, base_id: str) -> None:
        """Delete a dataset. Succeeds even if the dataset doesn't exist."""
        try:
            await self._client.request("delete-base", "DELETE", DATASETS, json={"ids": [base_id]})
        except Rejected:
            if any(card.id == base_id for card in await self.list_all()):
                raise


@dataclass(frozen=True, slots=True)
class RagflowAssistants(Applications):
    """The chat assistants that the key gives access to."""

    no_changes = "create and change chat assistants in RAGFlow"
    hint = "create a chat with this dataset in RAGFlow"
    client: Client

    async def page(self, number: int, size: int) -> ListPage[ApplicationInfo]:
        """Return one page of the list."""
        params = {"page": str(number), "page_size": str(size)}
        return await self.client.read("chats", "/api/v1/chats", chats_of, params=params)


class RagflowAnswers:
    """Gets answers from the user's chat assistants."""

    model = ""

    def __init__(self, target: RagflowTarget) -> None:
        _, _, self._client = target.access
        self.applications = RagflowAssistants(self._client)

    async def answer(self, question: Question) -> AsyncIterator[str | Sources]:
        """Yield a chat assistant's answer, based on all its datasets or, if the question names documents,
        only on those.
        """
        if not question.answerer.application:
            raise Rejected("RAGFlow's chat assistants have their own models; omit --model")
        prompt: list[dict[str, Any]] = [*messages(question.text, question.turns)]
        prompt[-1] |= {"doc_ids": list(question.document_ids)} if question.document_ids else {}
        # The server replaces this name with the assistant's model.
        body = {"model": "model", "messages": prompt, "extra_body": {"reference": True}}
        chat, error = path_part(question.answerer.application), NotOffered("no call")
        for call in CHAT_CALLS:
            completions = Completions(self._client, f"{call}/{chat}/chat/completions")
            try:
                with self._client.redacting():
                    async with aclosing(completions.pieces(body, question.streamed)) as pieces:
                        async for piece in pieces:
                            for text in texts_of(piece):
                                yield text
                yield sources_of(piece)
                return
            except NotOffered as missing:
                error = missing
        raise error


def chats_of(body: Any) -> ListPage[ApplicationInfo] | None:
    """Parse one page of chat assistants, or return None if the response has a different shape.

    In version 0.24 and earlier, `data` is the list itself.
    """
    data = reading.object_of(body).get("data")
    fields = reading.object_of(data)
    return reading.page_in(
        data if isinstance(data, list) else fields.get("chats"), fields.get("total"), _chat
    )


@reading.row_reader
def _chat(row: Fields) -> ApplicationInfo:
    """Parse a chat assistant.

    In version 0.24 and earlier, the row contains the datasets themselves, and its fields have different
    names.
    """
    model = reading.text_of(row.get("llm_id") or row.object("llm").get("model_name"))
    bases = row.get("dataset_ids") or [dataset.get("id") for dataset in row.objects("datasets")]
    known = tuple(filter(None, map(reading.id_of, bases if isinstance(bases, list) else ())))
    name, description = row.text("name"), row.text("description")
    return ApplicationInfo(row["id"], name, description, model=model, bases=known)


def texts_of(piece: Piece) -> Iterator[str]:
    """Yield the text of a piece, without the model's reasoning.

    Raises `Unavailable` if the text is an error message: the server may send one at any point in an answer
    that otherwise ends normally (rag/llm/chat_model.py).
    """
    text, is_error, words = piece.text.rpartition("</think>")[2].partition("**ERROR**: ")
    if text:
        yield text
    if is_error:
        raise incomplete_answer("error", " ".join(words.split()))


def sources_of(last: Piece) -> Sources:
    """Return the passages that an answer is based on, grouped by document.

    In the answer, `[ID:0]` refers to the first passage.
    """
    listed = last.message.get("reference")
    if not isinstance(listed, list):
        return Sources(None, usage=last.usage)
    matches: list[Match] = []
    marks: dict[str, list[str]] = {}
    for index, chunk in enumerate(map(reading.object_of, listed)):
        if remote_id := chunk.id("document_id"):
            matches.append((remote_id, shapes.passage_of(chunk)))
            marks.setdefault(remote_id, []).append(f"ID:{index}")
    return Sources(tuple(reading.hits_of(matches)), usage=last.usage, marks=marks)


def account(target: RagflowTarget) -> ManagedAccount:
    """Return the account of the user that an open target's key belongs to."""
    return ManagedAccount(RagflowBases(target), answers=RagflowAnswers(target))
