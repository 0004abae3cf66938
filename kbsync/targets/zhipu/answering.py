"""Questions to an application, and its answers: in one piece, or in many as they are made."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import fields
from typing import Any

from kbsync.contract.answering import Sources, Turn
from kbsync.contract.searching import Box, Hit, Passage
from kbsync.errors import NotOffered, TargetError, Unavailable
from kbsync.targets.http import Answer, Client
from kbsync.targets.http.events import Event, EventReader
from kbsync.targets.zhipu.codes import Op
from kbsync.targets.zhipu.history import messages
from kbsync.targets.zhipu.ids import id_of, number_of, path_part
from kbsync.targets.zhipu.images import with_images
from kbsync.targets.zhipu.wire import (
    Images,
    data_of,
    flag_of,
    images_in,
    integer,
    number,
    objects_in,
    text_of,
    usage_of,
)
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
                            yield await self._sources(piece.id or request_id, _usage_in(piece))
                return
            except NotOffered:
                asked["incremental"] = False
        answer = await self._client.post(Op.INVOKE, f"{path}/invoke", json=asked)
        text, named, usage = _whole(answer)
        yield text
        yield await self._sources(named or request_id, usage)

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
                    text, named, usage = _whole(piece)
                    yield text
                    yield Event("finish", named, fields={"usage": json.dumps(usage)})
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

    async def _sources(self, request_id: str, usage: Mapping[str, int] | None) -> Sources:
        """What the answer was made from, as far as the vendor tells; an answer is worth having without."""
        try:
            path = f"/v2/{path_part(request_id)}/slice_info"
            answer = await self._client.ask(Op.SLICE_INFO, "GET", path)
        except TargetError:
            return Sources(None, request_id, usage)
        content = data_of(answer.body)
        is_old = flag_of(content.get("has_old_document")) if isinstance(content, dict) else None
        return Sources(sources_of(answer.body), request_id, usage, is_old)


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
    hides = flag_of(item.get("hide_positions"))
    return with_images(Hit(remote_id, 0.0, tuple(map(_passage, slices)), hides_positions=hides), images)


def _passage(item: Mapping[str, Any]) -> Passage:
    """Pages of PDFs, lines and sheets of tables are told, of other files none of them."""
    position = item.get("position")
    place = position if isinstance(position, dict) else {}
    page, line = integer(place.get("page")), integer(item.get("line"))
    sheet = text_of(item.get("sheet_name"))
    text = text_of(item.get("text"))
    return Passage(text, page=page or None, line=line or None, box=_box(place), sheet=sheet or None)


def _box(place: Mapping[str, Any]) -> Box | None:
    """All but the page; None where there is nothing else."""
    box = Box(**{side.name: number(place.get(side.name)) for side in fields(Box)})
    return None if box == Box() else box


def _whole(answer: Answer) -> tuple[str, str, Mapping[str, int] | None]:
    """Text, request id and usage of an answer in one piece.

    The manual's table has the usage under `token`, its example beside the text.
    """
    content = data_of(answer.body)
    if not isinstance(content, dict) or not isinstance(content.get("content"), str):
        raise Unavailable("the vendor's answer has no text; ask again", code="no-content")
    token = content.get("token")
    usage = content.get("usage") or (token.get("usage") if isinstance(token, dict) else None)
    return content["content"], id_of(content.get("requestId")) or "", usage_of(usage)


def _usage_in(event: Event) -> Mapping[str, int] | None:
    """In a line of its own, as the manual prints it, or beside the text, as the newer stream has it."""
    own, data = _json(event.fields.get("usage", "")), _json(event.data)
    return usage_of(own) or usage_of(data.get("usage") if isinstance(data, dict) else None)


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


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
    value = _json(data)
    if isinstance(value, dict) and _ENVELOPED & value.keys():
        return text_of(value.get("msg"))
    return data
