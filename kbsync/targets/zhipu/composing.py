"""Answers without an application: a search finds passages, and a model of the platform reads them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from kbsync.contract.answering import Sources, Turn
from kbsync.contract.searching import Hit, Query
from kbsync.errors import Unavailable
from kbsync.targets.http import Answer, Client, Judge
from kbsync.targets.http.events import EventReader
from kbsync.targets.zhipu import chatting
from kbsync.targets.zhipu.chatting import Said
from kbsync.targets.zhipu.codes import Op

Search = Callable[[Query], Awaitable[Sequence[Hit]]]


class Composing:
    """One knowledge base, as `search` looks into it. `client`: the way to the platform's models.

    `judge` reads errors that stand in a stream.
    """

    def __init__(self, client: Client, judge: Judge, search: Search) -> None:
        self._client, self._judge, self._search = client, judge, search

    async def answer(
        self, question: str, model: str, *, turns: Sequence[Turn], among: Sequence[str], streamed: bool
    ) -> AsyncGenerator[str | Sources, None]:
        """The pieces, and at the end the passages that were sent. Nothing is sent where none is found."""
        hits = await self._passages(chatting.searched_for(question, turns), among)
        if not hits:
            yield Sources(())
            return
        request_id = str(uuid.uuid4())
        body = chatting.body_of(model, question, turns, hits, request_id) | {"stream": streamed}
        async with aclosing(self._streamed(body) if streamed else self._whole(body)) as pieces:
            async for said in pieces:
                if said.text:
                    yield said.text
                if said.finish:
                    chatting.check_end(said.finish)
                    yield Sources(hits, request_id, said.usage)
                    return
        chatting.check_end("")

    async def _passages(self, text: str, among: Sequence[str]) -> tuple[Hit, ...]:
        """Only of documents that are meant, also where the search is not so exact."""
        found = await self._search(Query(text, chatting.MOST_PASSAGES, among=tuple(among)))
        return chatting.sendable([hit for hit in found if not among or hit.remote_id in among])

    async def _whole(self, body: Mapping[str, Any]) -> AsyncGenerator[Said, None]:
        yield chatting.said_in((await self._client.post(Op.CHAT, chatting.PATH, json=body)).body)

    async def _streamed(self, body: Mapping[str, Any]) -> AsyncGenerator[Said, None]:
        """Until the last event, or as far as it goes."""
        reader = EventReader()
        async with aclosing(self._client.stream(Op.CHAT, chatting.PATH, json=body)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Answer):  # no stream after all
                    yield chatting.said_in(piece.body)
                    return
                for event in reader.feed(piece):
                    yield self._said(event.data)
        for event in reader.end():
            yield self._said(event.data)

    def _said(self, data: str) -> Said:
        """Raises what the vendor reports in place of a piece."""
        body = chatting.event_of(data)
        if not isinstance(body, dict) or not body.get("error"):
            return chatting.said_in(body)
        error = self._judge(Answer(Op.CHAT, 200, {}, body, "", 0.0))
        raise error or Unavailable("the answer broke off before its end; ask again", code="error")
