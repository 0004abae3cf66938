"""Questions to an application, and its answers: in one piece, or in many as they are made."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from kbsync.contract.answering import Sources, Turn
from kbsync.contract.searching import Hit, Passage
from kbsync.errors import NotOffered, TargetError, Unavailable
from kbsync.targets.http import Answer, Client
from kbsync.targets.http.events import Event, EventReader
from kbsync.targets.zhipu.codes import Op
from kbsync.targets.zhipu.history import messages
from kbsync.targets.zhipu.ids import id_of, number_of, path_part
from kbsync.targets.zhipu.images import with_images
from kbsync.targets.zhipu.wire import Images, data_of, images_in, integer, objects_in, text_of
from kbsync.targets.zhipu.words import quoted

_ENDS_BADLY = ("errorhandle", "error", "interrupted")
_ENVELOPED = frozenset({"msg", "extra_input", "usage"})


class Answering:
    """One knowledge base as an application sees it. `judge` reads errors that stand in a stream."""

    def __init__(self, client: Client, knowledge_id: str) -> None:
        self._client, self._knowledge_id = client, knowledge_id

    async def answer(
        self,
        question: str,
        application_id: str,
        *,
        turns: Sequence[Turn] = (),
        among: Sequence[str] = (),
        streamed: bool,
    ) -> AsyncGenerator[str | Sources, None]:
        """The pieces, and the sources at the end. Where there is no stream the answer is asked for whole."""
        request_id = str(uuid.uuid4())
        asked = self._asked(question, turns, among, request_id)
        path = f"/model-api/{path_part(application_id)}"
        if streamed:
            try:
                async with aclosing(self._streamed(f"{path}/sse-invoke", asked)) as pieces:
                    async for piece in pieces:
                        if isinstance(piece, str):
                            yield piece
                        else:
                            yield await self._sources(piece.id or request_id)
                return
            except NotOffered:
                asked["incremental"] = False
        answer = await self._client.post(Op.INVOKE, f"{path}/invoke", json=asked)
        text, named = _whole(answer)
        yield text
        yield await self._sources(named or request_id)

    def _asked(
        self, question: str, turns: Sequence[Turn], among: Sequence[str], request_id: str
    ) -> dict[str, Any]:
        narrowed = {"document_ids": [number_of(one) for one in among]} if among else {}
        return {
            "prompt": messages(question, turns),
            "request_id": request_id,
            "incremental": True,
            "returnType": "text",
            "knowledge_ids": [number_of(self._knowledge_id)],
            **narrowed,
        }

    async def _streamed(self, path: str, asked: Mapping[str, Any]) -> AsyncGenerator[str | Event, None]:
        """The pieces, then the event that ends them. Raises `Unavailable` where none does."""
        reader = EventReader()
        async with aclosing(self._client.stream(Op.SSE_INVOKE, path, json=asked)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Answer):  # no stream after all
                    text, named = _whole(piece)
                    yield text
                    yield Event("finish", named)
                    return
                for event in reader.feed(piece):
                    for said in _said(event):
                        yield said
                        if isinstance(said, Event):
                            return
        for event in reader.end():
            for said in _said(event):
                yield said
                if isinstance(said, Event):
                    return
        raise Unavailable("the answer broke off before its end; ask again", code="no-finish")

    async def _sources(self, request_id: str) -> Sources:
        """What the answer was made from, as far as the vendor tells; an answer is worth having without."""
        try:
            path = f"/v2/{path_part(request_id)}/slice_info"
            answer = await self._client.ask(Op.SLICE_INFO, "GET", path)
        except TargetError:
            return Sources(None, request_id)
        return Sources(sources_of(answer.body), request_id)


def sources_of(body: Any) -> tuple[Hit, ...] | None:
    """The documents of `GET /v2/{request_id}/slice_info`, in their order; None where it has none."""
    content = data_of(body)
    listed = content.get("document_slices") if isinstance(content, dict) else None
    if not isinstance(listed, list):
        return None
    elsewhere = images_in(content.get("images"))
    hits = (_hit(item, elsewhere) for item in objects_in(listed))
    return tuple(hit for hit in hits if hit is not None)


def _hit(item: Mapping[str, Any], elsewhere: Images) -> Hit | None:
    """Pictures stand with the slice, the document or beside all: the manual's example and table differ."""
    document = item.get("document")
    remote_id = id_of(document.get("id")) if isinstance(document, dict) else None
    if remote_id is None:
        return None
    slices = list(objects_in(item.get("slice_info")))
    images = {**elsewhere, **images_in(item.get("images"))}
    for one in slices:
        images |= images_in(one.get("images"))
    return with_images(Hit(remote_id, 0.0, tuple(map(_passage, slices))), images)


def _passage(item: Mapping[str, Any]) -> Passage:
    """Pages of PDFs and lines of tables are told, of other files neither."""
    position = item.get("position")
    page = integer(position.get("page")) if isinstance(position, dict) else None
    line = integer(item.get("line"))
    return Passage(text_of(item.get("text")), page=page or None, line=line or None)


def _whole(answer: Answer) -> tuple[str, str]:
    """Text and request id of an answer in one piece."""
    content = data_of(answer.body)
    if not isinstance(content, dict) or not isinstance(content.get("content"), str):
        raise Unavailable("the vendor's answer has no text; ask again", code="no-content")
    return content["content"], id_of(content.get("requestId")) or ""


def _said(event: Event) -> list[str | Event]:
    """The text of an event, and the event itself where it is the last. Raises `Unavailable` for a bad end."""
    if event.name in _ENDS_BADLY:
        why = quoted(_text(event.data) or event.data)
        raise Unavailable(
            f"the vendor broke the answer off{f' ({why})' if why else ''}; ask again", code=event.name
        )
    text = _text(event.data)
    said: list[str | Event] = [text] if text else []
    return [*said, event] if event.name == "finish" else said


def _text(data: str) -> str:
    """The text in the data: bare, or in an object beside what is none."""
    if not data.lstrip().startswith("{"):
        return data
    try:
        value = json.loads(data)
    except ValueError:
        return data
    if isinstance(value, dict) and _ENVELOPED & value.keys():
        return text_of(value.get("msg"))
    return data
