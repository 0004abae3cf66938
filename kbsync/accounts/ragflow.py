"""The datasets of a RAGFlow user, changed when a person asks for it, and the chat assistants that answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from kbsync.accounts.account import (
    Account,
    ApplicationInfo,
    Applications,
    Bases,
    BaseWish,
    Question,
    Sources,
)
from kbsync.accounts.answering import Completions, Piece, broken_off, messages
from kbsync.accounts.settings import OfferedSetting, any_text, choice, parse_settings
from kbsync.contract.searching import Hit, Passage
from kbsync.contract.target import BaseCard
from kbsync.errors import NotOffered, Rejected
from kbsync.targets.http.client import Client
from kbsync.targets.http.reading import (
    ListPage,
    id_of,
    object_of,
    objects_in,
    page_in,
    text_of,
    well_formed,
)
from kbsync.targets.ragflow import shapes
from kbsync.targets.ragflow.target import DATASETS, RagflowTarget

_METHODS = ["naive", "book", "email", "laws", "manual", "one", "paper", "picture", "presentation"]
_METHODS += ["qa", "table", "tag"]
SETTINGS: Mapping[str, OfferedSetting] = {
    "chunk_method": choice(*_METHODS),
    "embedding_model": any_text(),
    "permission": choice("me", "team"),
}
"""What can be set beside name and description."""

LONGEST_NAME = 128

CHAT_CALLS = "/api/v1/openai", "/api/v1/chats_openai"
"""The second one before 0.25.1."""


class RagflowBases(Bases):
    """Those behind one key. Every call raises `TargetError`."""

    target: RagflowTarget

    no_models = "RAGFlow shows its models in its own settings; choose with --set embedding_model=…"
    no_capacity = "RAGFlow sets no limit to what a user stores"

    def fields_of(self, wish: BaseWish) -> dict[str, Any]:
        """With name and description. Raises `Rejected`."""
        if wish.model is not None:
            raise Rejected("RAGFlow lists no models here; name one with --set embedding_model=NAME@FACTORY")
        if wish.name is not None and len(wish.name) > LONGEST_NAME:
            raise Rejected(f"a name has {LONGEST_NAME} characters at most", code="name")
        given = {"name": wish.name, "description": wish.description}
        fields = parse_settings(wish.settings, SETTINGS, "a dataset")
        return {key: value for key, value in given.items() if value is not None} | fields

    async def page(self, number: int, size: int) -> ListPage[BaseCard]:
        """Nobody says how many there are in all."""
        params = {"page": str(number), "page_size": str(size)}
        answer = await self._client.ask("bases", "GET", DATASETS, params=params)
        return ListPage(shapes.bases_of(answer.body), None)

    async def look(self, base_id: str) -> BaseCard:
        """One of them."""
        return await self.target.card(base_id)

    async def make(self, wish: BaseWish, fields: Mapping[str, Any]) -> BaseCard | None:
        """The server would call a second one of its name name(1). Sent once."""
        answer = await self._client.post("create-base", DATASETS, json=fields)
        return next(iter(shapes.bases_of(answer.body)), None)

    async def update(self, base_id: str, wish: BaseWish) -> None:
        """Send what changes. Documents that are there stay as they were parsed."""
        fields = self.fields_of(wish)
        await self.look(base_id)
        await self._client.ask("edit-base", "PUT", f"{DATASETS}/{base_id}", json=fields)

    async def delete(self, base_id: str) -> None:
        """Remove it; one that is gone already is done."""
        try:
            await self._client.ask("delete-base", "DELETE", DATASETS, json={"ids": [base_id]})
        except Rejected:
            if any(card.id == base_id for card in await self.all()):
                raise


@dataclass(frozen=True, slots=True)
class RagflowAssistants(Applications):
    """The chat assistants that a key may ask."""

    why = "chat assistants are made and changed in RAGFlow"
    advice = "make a chat in RAGFlow that has the dataset"
    client: Client

    async def page(self, number: int, size: int) -> ListPage[ApplicationInfo]:
        """The oldest versions have them in one page."""
        params = {"page": str(number), "page_size": str(size)}
        answer = await self.client.ask("chats", "GET", "/api/v1/chats", params=params)
        return well_formed("chats", chats_of(answer.body))


class RagflowAnswers:
    """What the chat assistants of a user answer."""

    model = ""

    def __init__(self, target: RagflowTarget) -> None:
        _, _, self._client = target.access
        self.applications = RagflowAssistants(self._client)

    async def answer(self, question: Question) -> AsyncIterator[str | Sources]:
        """What a chat assistant answers from its datasets, or from the documents `among` them."""
        if not question.by.application:
            raise Rejected("chat assistants answer in RAGFlow, each with its own model; ask without --model")
        prompt: list[dict[str, Any]] = [*messages(question.text, question.turns)]
        prompt[-1] |= {"doc_ids": list(question.among)} if question.among else {}
        # This name of a model stands for that of the assistant.
        body = {"model": "model", "messages": prompt, "extra_body": {"reference": True}}
        chat, missing = quote(question.by.application, safe=""), NotOffered("no call")
        for call in CHAT_CALLS:
            way = Completions(self._client, f"{call}/{chat}/chat/completions")
            try:
                with self._client.redacting():
                    async with aclosing(way.pieces(body, question.streamed)) as pieces:
                        async for piece in pieces:
                            for text in texts_of(piece):
                                yield text
                yield sources_of(piece)
                return
            except NotOffered as error:
                missing = error
        raise missing


def chats_of(body: Any) -> ListPage[ApplicationInfo] | None:
    """A page of chat assistants; None for another shape. Up to 0.24 the list stands by itself."""
    data = object_of(body).get("data")
    about = object_of(data)
    return page_in(data if isinstance(data, list) else about.get("chats"), about.get("total"), _chat)


def _chat(one: Mapping[str, Any]) -> ApplicationInfo | None:
    """Up to 0.24 the datasets of an assistant stand in it, and its fields have other names."""
    if (chat_id := id_of(one.get("id"))) is None:
        return None
    model = text_of(one.get("llm_id") or object_of(one.get("llm")).get("model_name"))
    bases = one.get("dataset_ids") or [each.get("id") for each in objects_in(one.get("datasets"))]
    known = tuple(filter(None, map(id_of, bases if isinstance(bases, list) else ())))
    name, description = text_of(one.get("name")), text_of(one.get("description"))
    return ApplicationInfo(chat_id, name, description, model=model, bases=known)


def texts_of(piece: Piece) -> Iterator[str]:
    """What a piece adds to an answer, without what the model only thought. Raises `Unavailable`.

    An error is a text, too, wherever the answer stood, under a good end (rag/llm/chat_model.py).
    """
    text, is_error, words = piece.text.rpartition("</think>")[2].partition("**ERROR**: ")
    if text:
        yield text
    if is_error:
        raise broken_off("error", " ".join(words.split()))


def sources_of(last: Piece) -> Sources:
    """The passages that an assistant had, by document: `[ID:0]` in its answer is the first of all."""
    listed = last.part.get("reference")
    if not isinstance(listed, list):
        return Sources(None, usage=last.usage)
    passages: dict[str, list[Passage]] = {}
    marks: dict[str, list[str]] = {}
    for place, chunk in enumerate(map(object_of, listed)):
        if remote_id := id_of(chunk.get("document_id")):
            passages.setdefault(remote_id, []).append(shapes.passage_of(chunk))
            marks.setdefault(remote_id, []).append(f"ID:{place}")
    hits = tuple(Hit(one, several[0].score, tuple(several)) for one, several in passages.items())
    return Sources(hits, usage=last.usage, marks=marks)


def account(target: RagflowTarget) -> Account:
    """The user of a key."""
    return Account(RagflowBases(target), answers=RagflowAnswers(target))
