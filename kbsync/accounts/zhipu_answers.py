"""Answers questions from the knowledge base, whole or in pieces as the answer is made.

An application of the account answers or, where there is none, a model of the platform that is given the
passages of a search. Source of the latter: the vendor's page of chat completions.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from kbsync.accounts.account import Applications, Question, Sources
from kbsync.accounts.answering import ModelAnswers, Piece, broken_off, event_pieces, messages, usage_of
from kbsync.accounts.events import Event
from kbsync.contract.searching import Hit, Passage
from kbsync.errors import NotOffered, TargetError, Unavailable
from kbsync.targets.http.bodies import parsed
from kbsync.targets.http.errors import HttpAnswer
from kbsync.targets.http.reading import flag_of, id_of, integer, number, object_of, objects_in, text_of
from kbsync.targets.http.rules import is_completion
from kbsync.targets.zhipu.api import MirrorJudge
from kbsync.targets.zhipu.errors import judge, quoted
from kbsync.targets.zhipu.shapes import Envelope, data_of, images_in, number_of, path_part, with_images
from kbsync.targets.zhipu.target import ZhipuTarget

CHAT_PATH = "/paas/v4/chat/completions"
"""Behind `base_url` itself: it is not of the knowledge API."""

_BOX = ("x0", "x1", "top", "bottom", "height", "width")
_ENDS_BADLY = ("errorhandle", "error", "interrupted")
_ENVELOPED = frozenset({"msg", "extra_input", "usage"})


class ZhipuAnswers:
    """Both ways for one knowledge base."""

    def __init__(self, target: ZhipuTarget, applications: Applications) -> None:
        config, _, self._client = target.access
        self.applications, self.model = applications, config.chat_model
        self._knowledge_id = config.knowledge_id
        judge = self._client.judge
        assert isinstance(judge, MirrorJudge)
        platform = self._client.at(config.base_url, judge.reading(judge_chat))
        self._models = ModelAnswers(target, CHAT_PATH, platform)

    def answer(self, question: Question) -> AsyncGenerator[str | Sources, None]:
        """The answer from this base, piece by piece, and its sources."""
        request_id = str(uuid.uuid4())
        answer = self._models.answer if question.by.model else self._by_application
        return answer(question, request_id)

    async def _by_application(
        self, question: Question, request_id: str
    ) -> AsyncGenerator[str | Sources, None]:
        """The pieces, and the sources at the end. Where there is no stream the answer is asked for whole."""
        body: dict[str, Any] = {
            "prompt": messages(question.text, question.turns),
            "request_id": request_id,
            "returnType": "text",
            "knowledge_ids": [number_of(self._knowledge_id)],
        }
        if question.among:
            body["document_ids"] = [number_of(one) for one in question.among]
        path = f"/model-api/{path_part(question.by.application)}"
        last: Piece | None = None
        try:
            if question.streamed:
                try:
                    # Each event holds the new text alone, and not all of it so far.
                    pieces_only = body | {"incremental": True}
                    stream = self._client.stream("sse-invoke", f"{path}/sse-invoke", json=pieces_only)
                    with self._client.redacting():
                        async with aclosing(event_pieces(stream, _application_piece, _whole)) as pieces:
                            previous = ""
                            async for piece in pieces:
                                # In the manual's example (3.7.2) `finish` repeats the text of the last `add`.
                                if piece.text and not (piece.finish and piece.text == previous):
                                    yield piece.text
                                previous = piece.text or previous
                                if piece.finish:
                                    last = piece
                                    break
                except NotOffered:
                    pass  # asked for whole below
                else:
                    if last is None:
                        raise broken_off()
            if last is None:
                last = _whole((await self._client.post("invoke", f"{path}/invoke", json=body)).body)
                yield last.text
        except NotOffered as error:
            # applications that cannot be asked are as good as none, for as long as that is remembered
            self._client.missing.note("applications", error)
            raise
        yield await self._sources(last.request_id or request_id, last.usage)

    async def _sources(self, request_id: str, usage: Mapping[str, int] | None) -> Sources:
        """What the answer was made from, as far as the vendor says; an answer is worth having without."""
        try:
            path = f"/v2/{path_part(request_id)}/slice_info"
            answer = await self._client.ask("slice-info", "GET", path)
        except TargetError:
            return Sources(None, request_id, usage)
        is_old = flag_of(object_of(data_of(answer.body)).get("has_old_document"))
        return Sources(sources_of(answer.body), request_id, usage, is_old)


def _application_piece(event: Event) -> Piece:
    """The text of an event. Raises `Unavailable` for a bad end.

    The usage stands in a line of its own, as the manual prints it, or beside the text, as the newer stream
    has it.
    """
    data = parsed(event.data)
    text = event.data
    if event.data.lstrip().startswith("{") and isinstance(data, dict) and _ENVELOPED & data.keys():
        text = text_of(data.get("msg"))
    if event.name in _ENDS_BADLY:
        why = quoted(text or event.data)
        reason = f"the vendor broke the answer off{f' ({why})' if why else ''}; ask again"
        raise Unavailable(reason, code=event.name)
    if event.name != "finish":
        return Piece(text)
    usage = usage_of(parsed(event.fields.get("usage", ""))) or usage_of(object_of(data).get("usage"))
    return Piece(text, "finish", event.id, usage)


def _whole(body: Any) -> Piece:
    """An answer in one piece. The manual's table has the usage under `token`, its example beside the text."""
    content = object_of(data_of(body))
    if not isinstance(content.get("content"), str):
        raise Unavailable("the vendor's answer has no text; ask again", code="no-content")
    usage = content.get("usage") or object_of(content.get("token")).get("usage")
    return Piece(content["content"], "finish", id_of(content.get("requestId")) or "", usage_of(usage))


def sources_of(body: Any) -> tuple[Hit, ...] | None:
    """The documents of `GET /v2/{request_id}/slice_info`, in their order; None where it has none."""
    content = object_of(data_of(body))
    listed = content.get("document_slices")
    if not isinstance(listed, list):
        return None
    hits = []
    for item in objects_in(listed):
        remote_id = id_of(object_of(item.get("document")).get("id"))
        if remote_id is None:
            continue
        # pictures stand with the slice, the document or beside all: the manual's example and table differ
        images = {**images_in(content.get("images")), **images_in(item.get("images"))}
        passages = []
        for one in objects_in(item.get("slice_info")):
            images |= images_in(one.get("images"))
            # The vendor gives pages of PDFs, lines and sheets of tables, and nothing for other files.
            place = object_of(one.get("position"))
            box = {side: number(place.get(side)) for side in _BOX}
            passages.append(
                Passage(
                    text_of(one.get("text")),
                    page=integer(place.get("page")) or None,
                    line=integer(one.get("line")) or None,
                    box=box if any(value is not None for value in box.values()) else None,
                    sheet=text_of(one.get("sheet_name")) or None,
                )
            )
        hides = flag_of(item.get("hide_positions"))
        hits.append(with_images(Hit(remote_id, 0.0, tuple(passages), hides_positions=hides), images))
    return tuple(hits)


def judge_chat(answer: HttpAnswer, envelope: Envelope | None) -> TargetError | None:
    """None for a completion, which has no envelope; all else is read as everywhere."""
    return None if is_completion(answer) else judge(answer, envelope)
