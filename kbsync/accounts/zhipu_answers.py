"""Gets answers from a Zhipu knowledge base.

The answer comes from one of the account's applications, or from one of the platform's models, which gets
the passages found by a search. Source: the service's page on chat completions.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

from kbsync.accounts.account import Applications, Question, Sources
from kbsync.accounts.answering import ModelAnswers, Piece, event_pieces, incomplete_answer, messages, usage_of
from kbsync.accounts.events import Event
from kbsync.contract.searching import Hit, Passage
from kbsync.errors import NotOffered, TargetError, Unavailable
from kbsync.targets.http.bodies import parse_json
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.http.reading import object_of, objects_in, path_part
from kbsync.targets.http.rules import is_completion
from kbsync.targets.zhipu.shapes import data_of, images_in, number_of, with_images
from kbsync.targets.zhipu.target import ZhipuTarget

CHAT_PATH = "/paas/v4/chat/completions"
"""The path of the chat completions call.

It comes directly after `base_url`, because the call isn't part of the knowledge API.
"""

_BOX = ("x0", "x1", "top", "bottom", "height", "width")
_ENDS_BADLY = ("errorhandle", "error", "interrupted")
_ENVELOPED = frozenset({"msg", "extra_input", "usage"})


class ZhipuAnswers:
    """Gets answers from one knowledge base."""

    def __init__(self, target: ZhipuTarget, applications: Applications) -> None:
        config, _, self._client = target.access
        self.applications, self.model = applications, config.chat_model
        self._knowledge_id = config.knowledge_id

        def classify_chat(response: HttpResponse) -> TargetError | None:
            """Classify a chat completion response. A successful one has no status code in its body."""
            return None if is_completion(response) else target.classify_response(response)

        platform = self._client.with_base_url(config.base_url, classify_chat)
        self._models = ModelAnswers(target, CHAT_PATH, platform)

    def answer(self, question: Question) -> AsyncGenerator[str | Sources, None]:
        """Yield the pieces of the answer, then its sources."""
        request_id = str(uuid.uuid4())
        answer = self._models.answer if question.answerer.model else self._by_application
        return answer(question, request_id)

    async def _by_application(
        self, question: Question, request_id: str
    ) -> AsyncGenerator[str | Sources, None]:
        """Yield an application's answer. If the service can't stream it, request it in one piece."""
        body: dict[str, Any] = {
            "prompt": messages(question.text, question.turns),
            "request_id": request_id,
            "returnType": "text",
            "knowledge_ids": [number_of(self._knowledge_id)],
        }
        if question.document_ids:
            body["document_ids"] = [number_of(document_id) for document_id in question.document_ids]
        path = f"/model-api/{path_part(question.answerer.application)}"
        last: Piece | None = None
        try:
            if question.streamed:
                try:
                    # With this parameter, each event has only the new text.
                    pieces_only = body | {"incremental": True}
                    stream = self._client.stream("sse-invoke", f"{path}/sse-invoke", json=pieces_only)
                    with self._client.redacting():
                        async with aclosing(event_pieces(stream, _application_piece, _whole)) as pieces:
                            previous = ""
                            async for piece in pieces:
                                # According to the manual (3.7.2), `finish` repeats the text of the last
                                # `add`.
                                if piece.text and not (piece.finish and piece.text == previous):
                                    yield piece.text
                                previous = piece.text or previous
                                if piece.finish:
                                    last = piece
                                    break
                except NotOffered:
                    pass  # request the whole answer below
                else:
                    if last is None:
                        raise incomplete_answer()
            if last is None:
                last = _whole((await self._client.post("invoke", f"{path}/invoke", json=body)).body)
                yield last.text
        except NotOffered as error:
            # Don't call applications for an hour after they turn out to be missing.
            self._client.missing.note("applications", error)
            raise
        yield await self._sources(last.request_id or request_id, last.usage)

    async def _sources(self, request_id: str, usage: Mapping[str, int] | None) -> Sources:
        """Return the sources of an answer.

        Errors are ignored, because an answer is useful even without sources.
        """
        try:
            path = f"/v2/{path_part(request_id)}/slice_info"
            response = await self._client.request("slice-info", "GET", path)
        except TargetError:
            return Sources(None, request_id, usage)
        is_old = data_of(response.body).flag("has_old_document")
        return Sources(sources_of(response.body), request_id, usage, is_old)


def _application_piece(event: Event) -> Piece:
    """Return the text of an event. Raises `Unavailable` for an event that reports a failure.

    According to the manual, the token usage arrives on a line of its own; newer versions send it with the
    text.
    """
    data, text = object_of(parse_json(event.data)), event.data
    if event.data.lstrip().startswith("{") and _ENVELOPED & data.keys():
        text = data.text("msg")
    if event.name in _ENDS_BADLY:
        raise incomplete_answer(event.name, text or event.data)
    if event.name != "finish":
        return Piece(text)
    usage = usage_of(parse_json(event.fields.get("usage", ""))) or usage_of(data.get("usage"))
    return Piece(text, "finish", event.id, usage)


def _whole(body: Any) -> Piece:
    """Return the answer in a response that isn't streamed.

    The manual puts the token usage in `token`, but its example puts it next to the text.
    """
    content = data_of(body)
    if not isinstance(content.get("content"), str):
        raise Unavailable("the answer has no text; ask again", code="no-content")
    usage = content.get("usage") or content.object("token").get("usage")
    return Piece(content["content"], "finish", content.id("requestId") or "", usage_of(usage))


def sources_of(body: Any) -> tuple[Hit, ...] | None:
    """Return the documents in the response to `GET /v2/{request_id}/slice_info`, in order, or None if it
    lists none.
    """
    content = data_of(body)
    listed = content.get("document_slices")
    if not isinstance(listed, list):
        return None
    hits = []
    for item in objects_in(listed):
        remote_id = item.object("document").id("id")
        if remote_id is None:
            continue
        # The manual's example and table differ: images belong to a slice, a document, or the whole answer.
        images = {**images_in(content.get("images")), **images_in(item.get("images"))}
        passages = []
        for piece in item.objects("slice_info"):
            images |= images_in(piece.get("images"))
            # The service returns pages of PDFs, lines and sheets of tables, and no position in other files.
            position = piece.object("position")
            box = {side: position.number(side) for side in _BOX}
            passages.append(
                Passage(
                    piece.text("text"),
                    page=position.integer("page") or None,
                    line=piece.integer("line") or None,
                    box=box if any(value is not None for value in box.values()) else None,
                    sheet=piece.text("sheet_name") or None,
                )
            )
        hides = item.flag("hide_positions")
        hits.append(with_images(Hit(remote_id, 0.0, tuple(passages), hides_positions=hides), images))
    return tuple(hits)
