"""Parses the service's responses defensively, without I/O.

Parsers ignore unknown fields. Ids may be strings or integers, and numbers may be strings of digits. Only
`embedding_stat` is parsed strictly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from kbsync.contract.searching import Hit, Image, Passage
from kbsync.contract.target import Accepted, Capacity, DocState, DocStatus
from kbsync.core.backoff import LIMITED_PAUSE
from kbsync.core.links import is_address
from kbsync.core.text import number_in
from kbsync.dataclass import dataclass
from kbsync.errors import Unsure
from kbsync.targets.http import reading
from kbsync.targets.http.bodies import parse_json
from kbsync.targets.http.reading import DocumentRow, Fields, ListPage, T, list_at, value_at
from kbsync.targets.http.rules import quote_message
from kbsync.targets.zhipu.config import ZhipuSearchConfig, recipe_of
from kbsync.targets.zhipu.errors import FAILED_INFOS, INDEXED, NoRoom, receipt_error, refusal, without_names

MAX_PASSAGES = 20
"""The service's maximum for `top_k`, which is requested if the engine will filter the passages."""

_EPOCH_MS = 1_288_834_974_657
_EARLIEST, _LATEST = 1_420_070_400.0, 4_102_444_800.0  # 2015 and 2100: a document's time must be between them
_WORD = re.compile(r"\w+")
_ESCAPED = re.compile(r"~[0-9A-F]{2}")
_PLACEHOLDER = re.compile("【示意图序号_[^【】]{1,100}】")

Images = Mapping[str, str]
"""The URLs of pictures, keyed by their placeholders in the text."""


def number_of(some_id: str) -> int | str:
    """Return an id in the form that request bodies need, which is a number if the id looks like one."""
    number = number_in(some_id)
    return some_id if number is None else number


def created_of(remote_id: str) -> float | None:
    """Return when an id was created, in epoch seconds by the service's clock, or None for an id of a
    different shape.

    Ids are snowflakes: `(id >> 22) + 1288834974657` milliseconds, verified against the service's ids and
    response times. The service doesn't document this, so kbsync uses these times for confirmation and
    sorting, never as the only evidence against a document.
    """
    seconds = (((number_in(remote_id) or 0) >> 22) + _EPOCH_MS) / 1000.0
    return seconds if _EARLIEST <= seconds < _LATEST else None


def data_of(body: Any) -> Fields:
    """Return the object in the envelope; if there is none, return an empty one."""
    return reading.object_of(value_at(body, "data"))


_FULL = "the account has no space left to make documents searchable"
_STATES = {0: DocState.INDEXING, 1: DocState.READY, 2: DocState.FAILED}
_MEANINGS = {
    "10001": "the knowledge base is full, or the document is damaged",
    "10002": "the knowledge base is full",
}
"""Sentences from the manual, used only if the service doesn't add a message."""


@dataclass(frozen=True, slots=True)
class ZhipuDocument(DocumentRow):
    """A document, from an entry in a list or from a response of its own.

    `fail_text` and `fail_code`: the content of `failInfo`; "" if missing.
    """

    url: str = ""
    parse_image: bool | None = None
    fail_text: str = ""
    fail_code: str = ""

    def failed(self, *, has_room: bool) -> DocStatus:
        """Return the status of a document that the service failed to index.

        `has_room`: whether the account has space left. If so, a message about space or length concerns only
        the document.
        """
        words = quote_message(self.fail_text)
        reason = words or _MEANINGS.get(self.fail_code, "the service gives no reason")
        # 10001 was observed with "document damaged", so a message takes precedence
        code = "" if words else self.fail_code
        rule = refusal(INDEXED, words, without_names(self.fail_text, self.name), code)
        if rule.halt == "quota" and not (has_room and rule.means is NoRoom):
            return DocStatus(DocState.FAILED, f"{_FULL} ({reason}); {rule.hint}", self.fail_code, "quota")
        pause = LIMITED_PAUSE if rule.is_rate_limit else 0.0
        return DocStatus(DocState.FAILED, reason, self.fail_code, pause=pause)


def read_receipt(body: Any, name: str, key: str = "fileName") -> Accepted:
    """Return a document's outcome from the response to its upload. Code 200 alone doesn't mean success
    (promise 10).

    `name`: the value sent under `key`, which is a file's name or a page's `url`. If the response contains a
    single success, it is accepted regardless of its name. If the response lists the document both as stored
    and as failed, or not at all, the outcome is `Unsure`.
    """
    content = data_of(body)
    names = {info.id("documentId"): info.text(key) for info in content.objects("successInfos")}
    stored = {remote_id: stored_name for remote_id, stored_name in names.items() if remote_id is not None}
    failed = {info.text(key): info.text("failReason") for info in content.objects(FAILED_INFOS)}
    own = {remote_id: stored_name for remote_id, stored_name in stored.items() if stored_name == name}
    # A single success counts under any name, unless a failure may be about the same document.
    blamed = failed.keys() & {"", name} if own else failed.keys()
    own = own or stored
    if len(own) == 1 and not blamed:
        [(remote_id, stored_name)] = own.items()
        return Accepted(remote_id, name=stored_name)
    if stored:
        raise Unsure(f"the service's response contradicts itself about {name}", code="contradiction")
    if failed:
        failed_name = name if name in failed else next(iter(failed))
        raise receipt_error(failed[failed_name], name, failed_name)
    raise Unsure(f"the service's response lists {name} as neither stored nor failed", code="no-receipt")


def rows_of(body: Any, read: Callable[[object], T | None]) -> ListPage[T]:
    """Return a page of the list in `data.list` or `data`, with rows parsed by `read` (see `row_reader`)."""
    listed, total = list_at(body, "data.list", "data"), value_at(body, "data.total")
    return reading.page_in(listed, total, read) or ListPage((), reading.count_of(total), is_null=True)


def page_of(body: Any) -> ListPage[ZhipuDocument]:
    """Return a page of `GET /document`."""
    return rows_of(body, _document)


def document_of(body: Any, remote_id: str) -> ZhipuDocument | None:
    """Return the document of `GET /document/{id}`, under the requested id if it has none. Return None if
    there is no data.
    """
    content = data_of(body)
    return _document(Fields(content, id=content.id("id") or remote_id)) if content else None


@reading.row_reader
def _document(item: Fields) -> ZhipuDocument:
    """Parse a document.

    Only the integers 0, 1 and 2 are valid for `embedding_stat`; anything else (text, fraction, null, 3) is
    UNKNOWN. `failInfo` is used only with 2, because an old value remains after indexing restarts.
    """
    name, url = item.text("name"), item.text("url")
    parse_image, failure = item.flag("parse_image"), item.object("failInfo")
    slicing = {key: item.integer(key) for key in ("knowledge_type", "sentence_size")}
    separators = _separators(item.get("custom_separator"))
    recipe = recipe_of({**slicing, "custom_separator": separators, "parse_image": parse_image})
    # Parse strictly: a string "1" or an unknown number must not count as ready (promise 10).
    stat = item.get("embedding_stat")
    state = _STATES.get(stat, DocState.UNKNOWN) if type(stat) is int else DocState.UNKNOWN
    document = ZhipuDocument(
        item["id"],
        name,
        item.count("length"),
        None,
        DocStatus(state),
        recipe=recipe,
        addresses=tuple(text for text in (name, url) if is_address(text)),
        url=url,
        parse_image=parse_image,
        fail_text=failure.text("embedding_msg"),
        fail_code=failure.id("embedding_code") or "",
    )
    is_failed = state is DocState.FAILED
    return replace(document, status=document.failed(has_room=False)) if is_failed else document


def _separators(value: object) -> list[str] | None:
    """Parse separators: a list, a list as JSON text, or a single plain separator."""
    if isinstance(value, str):
        listed = parse_json(value)
        value = listed if isinstance(listed, list) else [value]
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return value
    return None


def capacity_of(body: Any) -> Capacity | None:
    """Return the account's space from `GET /knowledge/capacity`, or None if it is missing or its total is
    0.
    """
    content = data_of(body)
    used, total = content.object("used"), content.object("total")
    used_bytes, all_bytes = used.count("length"), total.count("length")
    used_words, all_words = used.count("word_num"), total.count("word_num")
    if used_bytes is None or not all_bytes:
        return None
    if used_words is None or not all_words:
        return Capacity(used_bytes, all_bytes)
    return Capacity(used_bytes, all_bytes, used_words, all_words)


def found_of(body: Any) -> tuple[tuple[str, Passage], ...]:
    """Return the passages from `POST /knowledge/retrieve` that have a text, each with its document's id.

    Scores are used only if every passage has one. Otherwise, the order of the passages decides.
    """
    # A passage without its document's id is useless, because the engine finds the file by the id.
    rows = [
        (doc_id, text, item.number("score"))
        for item in reading.objects_in(value_at(body, "data"))
        if (text := item.text("text")) and (doc_id := item.object("metadata").id("doc_id")) is not None
    ]
    is_scored = all(score is not None for *_, score in rows)
    return tuple(
        (doc_id, Passage(text, score=score if is_scored and score is not None else 1.0 / (1 + rank)))
        for rank, (doc_id, text, score) in enumerate(rows)
    )


def images_in(listed: object) -> Images:
    """Return the pictures in a list, skipping entries without a web URL."""
    return {
        placeholder: url
        for item in reading.objects_in(listed)
        if (placeholder := item.text("text")) and is_address(url := item.text("cos_url"))
    }


def lacks_images(hit: Hit) -> bool:
    """Return whether a passage mentions pictures that are missing."""
    return any(not passage.images and _PLACEHOLDER.search(passage.text) for passage in hit.passages)


def with_images(hit: Hit, images: Images) -> Hit:
    """Return the hit with the images mentioned in its passages. `images` maps placeholders to URLs."""
    passages = []
    for passage in hit.passages:
        # Each picture once, in the order of the text.
        named = dict.fromkeys(_PLACEHOLDER.findall(passage.text))
        mentioned = tuple(Image(name, images[name]) for name in named if name in images)
        passages.append(replace(passage, images=passage.images or mentioned))
    return replace(hit, passages=tuple(passages))


USUAL = ZhipuSearchConfig()


def words_in(name: str) -> str:
    """Return the words in a document's name, without its tag and extension, as the text of a search."""
    stem = name.rpartition("/")[2].rpartition(".")[0] or name
    readable = _ESCAPED.sub(" ", stem.rpartition("~")[0] or stem)
    return " ".join(_WORD.findall(readable.replace("_", " "))) or "document"
