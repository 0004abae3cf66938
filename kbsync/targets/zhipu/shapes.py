"""Parses the service's responses defensively, without I/O.

Parsers ignore unknown fields. Ids may be strings or integers, and numbers may be strings of digits. Only
`embedding_stat` is parsed strictly.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from kbsync.contract.searching import Hit, Image, Passage
from kbsync.contract.target import Accepted, Capacity, DocState, DocStatus
from kbsync.core.links import is_address
from kbsync.core.text import number_in
from kbsync.dataclass import dataclass
from kbsync.errors import Rejected, TargetError, Unsure
from kbsync.targets.http import reading
from kbsync.targets.http.bodies import parse_json
from kbsync.targets.http.reading import DocumentRow, Fields, ListPage, T
from kbsync.targets.http.rules import ErrorCase, quote_message
from kbsync.targets.zhipu.config import ZhipuSearchConfig, recipe_of
from kbsync.targets.zhipu.errors import INDEXED, RECEIPT, NoRoom, refusal, without_names

MAX_QUERY_LENGTH = 1000
"""Maximum length of a query in characters."""

MAX_PASSAGES = 20
"""The service's maximum for `top_k`, which is requested if the engine will filter the passages."""

FAILED_INFOS = "failedInfos"

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
    if not (remote_id.isascii() and remote_id.isdigit() and len(remote_id) <= 20):
        return None
    seconds = ((int(remote_id) >> 22) + _EPOCH_MS) / 1000.0
    return seconds if _EARLIEST <= seconds < _LATEST else None


def path_part(value: str) -> str:
    """Return an id escaped for a URL path."""
    return quote(value, safe="")


def data_of(body: Any) -> Any:
    """Return the envelope's `data`, or None."""
    return reading.object_of(body).get("data")


def listed_in(body: Any) -> Any:
    """Return the list in the envelope, which is either under `list` or directly there."""
    content = data_of(body)
    return content.get("list") if isinstance(content, dict) else content


@dataclass(frozen=True, slots=True)
class FailInfo:
    """The content of `failInfo`, or of one of the `failedInfos`. `code` is "" if missing."""

    text: str
    code: str = ""
    name: str = ""


_FULL = "the account has no space left to make documents searchable"
_STATES = {0: DocState.INDEXING, 1: DocState.READY, 2: DocState.FAILED}
_MEANINGS = {
    "10001": "the knowledge base is full, or the document is damaged",
    "10002": "the knowledge base is full",
}
"""Sentences from the manual, used only if the service doesn't add a message."""


@dataclass(frozen=True, slots=True)
class ZhipuDocument(DocumentRow):
    """A document, from an entry in a list or from a response of its own."""

    url: str = ""
    parse_image: bool | None = None
    failure: FailInfo = FailInfo("")

    def failed(self, *, has_room: bool) -> DocStatus:
        """Return the status of a document that the service failed to index.

        `has_room`: whether the account has space left. If so, a message about space or length concerns only
        the document.
        """
        failure = self.failure
        words = quote_message(failure.text)
        reason = words or _MEANINGS.get(failure.code, "the service gives no reason")
        text = without_names(failure.text, self.name)
        # 10001 was observed with "document damaged", so a message takes precedence
        rule = refusal(INDEXED, words, text, "" if words else failure.code)
        if rule.halt == "quota" and not (has_room and rule.means is NoRoom):
            return DocStatus(DocState.FAILED, f"{_FULL} ({reason}); {rule.hint}", failure.code, "quota")
        return DocStatus(DocState.FAILED, reason, failure.code)


def read_receipt(body: Any, name: str, key: str = "fileName") -> Accepted:
    """Return a document's outcome from the response to its upload. Code 200 alone doesn't mean success
    (promise 10).

    `name`: the value sent under `key`, which is a file's name or a page's `url`. If the response contains a
    single success, it is accepted regardless of its name. If the response lists the document both as stored
    and as failed, or not at all, the outcome is `Unsure`.
    """
    content = reading.object_of(data_of(body))
    stored = {
        remote_id: info.text(key)
        for info in content.objects("successInfos")
        if (remote_id := info.id("documentId")) is not None
    }
    failed = [
        FailInfo(info.text("failReason"), name=info.text(key)) for info in content.objects(FAILED_INFOS)
    ]
    candidates = (
        list(stored) if len(stored) == 1 else [remote_id for remote_id in stored if stored[remote_id] == name]
    )
    if len(candidates) == 1:
        stored_name = stored[candidates[0]]
        is_of_others = stored_name == name and all(info.name not in ("", name) for info in failed)
        if not failed or is_of_others:
            return Accepted(candidates[0], name=stored_name)
    if stored:
        raise Unsure(f"the service's response contradicts itself about {name}", code="contradiction")
    if failed:
        info = next((failure for failure in failed if failure.name == name), failed[0])
        raise receipt_error(info, name)
    raise Unsure(f"the service's response lists {name} as neither stored nor failed", code="no-receipt")


def receipt_error(failure: FailInfo, name: str) -> TargetError:
    """Return the error for one file in the response.

    `failReason` is free text. Its words, without the document's name, show whether the account or the
    document is to blame.
    """
    message = quote_message(failure.text)
    rule = refusal(RECEIPT, message, without_names(failure.text, name, failure.name))
    sentence = rule.says or "the service refused the document"
    reason = f"{sentence} ({message or 'no reason given'})"
    case = ErrorCase(RECEIPT, code=FAILED_INFOS, message=message)
    return rule.error(case, reason) or Rejected(reason, code=FAILED_INFOS)


ZhipuPage = ListPage[ZhipuDocument]


def rows_of(body: Any, read: Callable[[object], T | None]) -> ListPage[T]:
    """Return a page of a list, with rows parsed by `read` (see `row_reader`)."""
    total = reading.object_of(data_of(body)).get("total")
    return reading.page_in(listed_in(body), total, read) or ListPage(
        (), reading.count_of(total), is_null=True
    )


def page_of(body: Any) -> ZhipuPage:
    """Return a page of `GET /document`."""
    return rows_of(body, _document)


def document_of(body: Any, remote_id: str) -> ZhipuDocument | None:
    """Return the document of `GET /document/{id}`, under the requested id if it has none. Return None if
    there is no data.
    """
    content = reading.object_of(data_of(body))
    return _document(Fields(content, id=content.id("id") or remote_id)) if content else None


@reading.row_reader
def _document(item: Fields) -> ZhipuDocument:
    """Parse a document.

    Only the integers 0, 1 and 2 are valid for `embedding_stat`; anything else (text, fraction, null, 3) is
    UNKNOWN. `failInfo` is used only with 2, because an old value remains after indexing restarts.
    """
    name, url = item.text("name"), item.text("url")
    parse_image, failure = item.flag("parse_image"), item.object("failInfo")
    slicing = {
        "knowledge_type": item.integer("knowledge_type"),
        "custom_separator": _separators(item.get("custom_separator")),
        "sentence_size": item.integer("sentence_size"),
        "parse_image": parse_image,
    }
    # Parse strictly: a string "1" or an unknown number must not count as ready (promise 10).
    stat = item.get("embedding_stat")
    state = _STATES.get(stat, DocState.UNKNOWN) if type(stat) is int else DocState.UNKNOWN
    document = ZhipuDocument(
        item["id"],
        name,
        item.count("length"),
        None,
        DocStatus(state),
        recipe=recipe_of(slicing),
        addresses=tuple(text for text in (name, url) if is_address(text)),
        url=url,
        parse_image=parse_image,
        failure=FailInfo(failure.text("embedding_msg"), failure.id("embedding_code") or ""),
    )
    if state is not DocState.FAILED:
        return document
    return replace(document, status=document.failed(has_room=False))


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
    content = reading.object_of(data_of(body))
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
        for item in reading.objects_in(data_of(body))
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
        if (placeholder := item.text("text"))
        and (url := item.text("cos_url")).startswith(("https://", "http://"))
    }


def lacks_images(hit: Hit) -> bool:
    """Return whether a passage mentions pictures that are missing."""
    return any(not passage.images and _PLACEHOLDER.search(passage.text) for passage in hit.passages)


def with_images(hit: Hit, images: Images) -> Hit:
    """Return the hit with the images mentioned in its passages. `images` maps placeholders to URLs."""
    if not images:
        return hit
    passages = []
    for passage in hit.passages:
        named = dict.fromkeys(
            _PLACEHOLDER.findall(passage.text)
        )  # each picture once, in the order of the text
        mentioned = tuple(Image(name, images[name]) for name in named if name in images)
        passages.append(replace(passage, images=passage.images or mentioned))
    return replace(hit, passages=tuple(passages))


USUAL = ZhipuSearchConfig()


def words_in(name: str) -> str:
    """Return the words in a document's name, without its tag and extension, as the text of a search."""
    stem = name.rpartition("/")[2].rpartition(".")[0] or name
    readable = _ESCAPED.sub(" ", stem.rpartition("~")[0] or stem)
    return " ".join(_WORD.findall(readable.replace("_", " "))) or "document"


def shortened(text: str) -> str:
    """Return at most `MAX_QUERY_LENGTH` characters, cut off between words if possible."""
    text = text.strip()
    if len(text) <= MAX_QUERY_LENGTH or text[MAX_QUERY_LENGTH].isspace():
        return text[:MAX_QUERY_LENGTH].rstrip()
    return text[:MAX_QUERY_LENGTH].rpartition(" ")[0].rstrip() or text[:MAX_QUERY_LENGTH]
