"""The calls about documents: upload, list, look, change, delete, images, and retrieval."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from kbsync_standin.messages import Response
from kbsync_standin.zhipu.account import Match, passages_of, search
from kbsync_standin.zhipu.answers import (
    NO_DATA,
    Call,
    Json,
    NoData,
    Refusal,
    extra,
    gateway,
    item,
    no_route,
    storage,
)
from kbsync_standin.zhipu.documents import Base, Document, Rows, Slicing, extension
from kbsync_standin.zhipu.faults import script_of
from kbsync_standin.zhipu.rules import (
    CALLBACK_FIELDS,
    CALLBACK_TESTS,
    LEGAL,
    SUPPORTED,
    Test,
    UploadForm,
    are_texts,
    boundary_of,
    callback_of,
    check_needed,
    check_slicing,
    check_values,
    is_address,
    is_string,
    is_text,
    is_whole,
    json_body,
    number_in_query,
    one_of,
    parse_form,
    reslice_form,
    upload_form,
    whole,
)

UNSUPPORTED = "不支持的文档类型"
NAME_TAKEN = "文件名已存在"
NAME_TOO_LONG = "文件名过长"
NO_SPACE = "知识库空间不足"


def upload(call: Call) -> Json:
    """Store the one file of the form. Raises `Refusal`, or `Breach` for a rule that is broken."""
    base = call.known_base(call.ident)
    boundary = boundary_of(call.request.headers.get("content-type", ""))
    if boundary is None:
        refusal = no_route(call.request.path, call.behaviour, call.now, 415)
        raise Refusal(refusal, "the content type is not multipart/form-data with a boundary")
    form = upload_form(parse_form(boundary, call.request.body), call.rules)
    if len(form.content) > call.behaviour.max_bytes:
        raise Refusal(gateway(435, 435))
    document = _draft_file(form, base, call)
    if reason := _objection(document, call):
        return _lists([], [_failed(document.name, reason)], call)
    is_stored = bool(call.play.arg("stored", False)) if call.play.kind == "failed-info" else call.play.effect
    if is_stored:
        _store(document, call)
    return _receipt(document, call)


def _objection(document: Document, call: Call) -> str:
    behaviour = call.behaviour
    if extension(document.sent_name) not in SUPPORTED:
        return UNSUPPORTED
    if behaviour.name_bytes and len(document.sent_name.encode()) > behaviour.name_bytes:
        return NAME_TOO_LONG
    if behaviour.equal_names == "refuse" and call.account.namesakes(document.base, document.name):
        return NAME_TAKEN
    is_refused = behaviour.full == "refused" and call.account.is_full_for(document.size)
    return NO_SPACE if is_refused else ""


def _receipt(document: Document, call: Call) -> Json:
    success = _success(document, call)
    match call.play.kind:
        case "failed-info":
            return _lists([], [_failed(document.name, call.play.word("reason", UNSUPPORTED))], call)
        case "both-lists":
            return _lists([success], [_failed(document.name, UNSUPPORTED)], call)
        case "neither-list":
            return _lists([], [], call)
        case "success-null":
            return _lists(None, [], call)
        case _:
            return _lists([success], [], call)


def _draft_file(form: UploadForm, base: Base, call: Call) -> Document:
    name_form = ""
    if call.play.kind == "other-name" and "answer" not in call.play.args:
        name_form = call.play.word("form", "suffixed")
    document = call.account.draft(base, form.name, form.content, form.slicing, name_form)
    document.parse_image, document.callback = form.parse_image, form.callback
    document.word_limit = form.word_limit
    return document


def _store(document: Document, call: Call) -> None:
    namesakes = call.account.namesakes(document.base, document.name)
    if call.behaviour.equal_names == "replace":
        for older in list(namesakes):
            call.account.remove(older, "replaced")
    call.account.store(document, script_of(call.play))


def _success(document: Document, call: Call) -> Json:
    name = document.name
    if call.play.kind == "other-name":
        name = call.play.word("answer", name)
    url = call.signer.url(call.origin, document.id, call.now)
    return extra({"documentId": call.written(document.id), "fileName": name, "url": url}, call)


def _failed(name: str, reason: str) -> Json:
    return {"fileName": name, "failReason": reason}


def _lists(successes: list[Json] | None, failures: list[Json], call: Call) -> Json:
    return extra({"successInfos": successes, "failedInfos": failures}, call)


UNREACHABLE = "网页无法访问"
PAGE_TAKEN = "文件名已存在"

_PAGE_FIELDS = CALLBACK_FIELDS | {"url", "knowledge_type", "custom_separator", "sentence_size"}
_PAGE_TESTS = {
    **CALLBACK_TESTS,
    "url": is_address,
    "knowledge_type": is_whole,
    "custom_separator": are_texts,
    "sentence_size": is_whole,
}


def upload_url(call: Call) -> Json:
    """Store every page that is named. Raises `Refusal`, or `Breach` for a rule that is broken."""
    body = json_body(call.request, ("knowledge_id", "upload_detail"), call.rules)
    check_needed(body, ("knowledge_id", "upload_detail"), call.rules)
    base = call.known_base(str(body["knowledge_id"]))
    details = body["upload_detail"]
    call.rules.must(isinstance(details, list) and bool(details), "upload_detail is no list of pages")
    pages = [_page(detail, base, call) for detail in details]
    told = [_stored(page, call) for page in pages]
    return extra(_page_lists(told, call), call)


def address_in(body: bytes) -> str:
    """The addresses of a request, joined with ` | `; "" where it names none."""
    try:
        details = json.loads(body)["upload_detail"]
        return " | ".join(str(one["url"]) for one in details)
    except (ValueError, KeyError, TypeError):
        return ""


def visit(page: Document) -> None:
    """Fetch it: another time there is something else in it."""
    page.visits += 1
    page.content = f"{title_of(page.address)}\n\nVisit {page.visits:06} to {page.address}".encode()
    page.sha256, page.size = hashlib.sha256(page.content).hexdigest(), len(page.content)
    page.passages = None


def title_of(address: str) -> str:
    """What its page is headed."""
    return f"Welcome to {urlsplit(address).hostname}"


def _page(detail: Any, base: Base, call: Call) -> Document:
    rules = call.rules
    rules.must(isinstance(detail, dict), "an item of upload_detail is no object")
    rules.only(detail, _PAGE_FIELDS, "the field of upload_detail")
    check_needed(detail, ("url", "knowledge_type"), rules)
    check_values(detail, _PAGE_TESTS, rules)
    rules.must(detail["url"].isascii(), "url is not in ASCII")
    separators = tuple(detail.get("custom_separator", ()))
    slicing = Slicing(detail["knowledge_type"], separators, detail.get("sentence_size", 300))
    check_slicing(slicing, "page.url", detail.keys(), rules)
    kinds = LEGAL.get(slicing.knowledge_type, frozenset())
    rules.should("url" in kinds, f"knowledge_type {slicing.knowledge_type} is not for pages")
    page = _drafted(detail["url"], base, slicing, call)
    page.callback = callback_of(detail)
    return page


def _drafted(address: str, base: Base, slicing: Slicing, call: Call) -> Document:
    last = unquote(urlsplit(address).path.rpartition("/")[2])
    names = {"title": title_of(address), "last": last or address}
    name = names.get(call.behaviour.page_names, address)
    page = call.account.draft(base, name, b"", slicing, "as_sent")
    page.address = page.sent_name = address
    visit(page)
    return page


def _stored(page: Document, call: Call) -> tuple[Document, str]:
    """The page and why it was refused ("": it was not)."""
    if call.play.kind == "failed-info":
        reason = call.play.word("reason", UNREACHABLE)
        if call.play.arg("stored", False):
            call.account.store(page, script_of(call.play))
        return page, reason
    if call.behaviour.equal_names == "refuse" and call.account.namesakes(page.base, page.name):
        return page, PAGE_TAKEN
    if call.play.effect:
        call.account.store(page, script_of(call.play))
    return page, ""


def _page_lists(told: list[tuple[Document, str]], call: Call) -> Json:
    good = [
        extra({"documentId": call.written(page.id), "url": page.address}, call)
        for page, reason in told
        if not reason
    ]
    bad = [{"url": page.address, "failReason": reason} for page, reason in told if reason]
    match call.play.kind:
        case "both-lists":
            return {
                "successInfos": good,
                "failedInfos": [{"url": told[0][0].address, "failReason": UNREACHABLE}],
            }
        case "neither-list":
            return {"successInfos": [], "failedInfos": []}
        case "success-null":
            return {"successInfos": None, "failedInfos": []}
    return {"successInfos": good, "failedInfos": bad}


def delete_document(call: Call) -> NoData:
    """Remove a document; it is gone for searches at once."""
    document = call.account.document(call.ident)
    if document is None:
        raise Refusal(call.missing(call.behaviour.unknown_delete, "知识"))
    if call.play.effect and call.play.kind != "keeps-document":
        listed = call.play.seconds("seconds", math.inf) if call.play.kind == "still-listed" else 0.0
        call.account.remove(document, listed=listed)
    if call.play.kind == "delete-unknown":
        raise Refusal(call.missing(call.play.word("form", "404"), "知识"))
    return NO_DATA


def reembed(call: Call) -> NoData:
    """Vectorize a document again, its slicing unchanged."""
    document = call.known_document(call.ident)
    body = json_body(call.request, CALLBACK_FIELDS, call.rules)
    check_values(body, CALLBACK_TESTS, call.rules)
    document.callback = callback_of(body) or document.callback
    if call.play.effect:
        if document.address:
            visit(document)
        call.account.again(document, "reembedded", script_of(call.play))
    return NO_DATA


def reslice(call: Call) -> NoData:
    """Cut a document anew; neither content nor name change."""
    document = call.known_document(call.ident)
    slicing = reslice_form(call.request, document.sent_name, call.rules)
    if call.play.effect:
        document.slicing = slicing
        call.account.again(document, "resliced", script_of(call.play))
    return NO_DATA


PLACEHOLDER = re.compile("【示意图序号_[0-9_]+】")
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000b49444154789c6360000200000500017a5eab3f0000000049454e44ae426082"
)
_MALFORMED: list[object] = [
    None,
    "image",
    {"text": 7, "cos_url": "https://cdn.example/"},
    {"text": "【示意图序号_1】"},
    [],
]


def list_images(call: Call) -> Json | None:
    """Each image of the document with a signed address of its own."""
    document = call.known_document(call.ident)
    match call.play.word("form", "none") if call.play.kind == "pictures" else "":
        case "null":
            return None
        case "missing":
            return {}
        case "none":
            return {"images": []}
        case "others":
            return {"images": [_image("【示意图序号_999_9】", document, 0, call)]}
        case "malformed":
            return {"images": [*_MALFORMED, *_MALFORMED]}
    return {"images": images_of(document, call)}


def images_of(document: Document, call: Call) -> list[Json]:
    """The images behind the placeholders in its text."""
    text = "\n".join(passage.text for passage in passages_of(document))
    found = dict.fromkeys(PLACEHOLDER.findall(text))
    return [_image(placeholder, document, number, call) for number, placeholder in enumerate(found)]


def _image(placeholder: str, document: Document, number: int, call: Call) -> Json:
    url = call.signer.url(call.origin, f"{document.id}.{number}.png", call.now)
    return {"text": placeholder, "cos_url": url}


def is_picture(ident: str) -> bool:
    """`ident` of an address is that of an image."""
    return ident.endswith(".png")


def picture() -> Response:
    """One pixel."""
    return Response(200, PIXEL, {"content-type": "image/png"})


_HIGH_BY = 7
_TOKENS = re.compile(r"\w+")


def list_documents(call: Call) -> Json:
    """One page of a base's documents."""
    check_needed(call.request.query, ("knowledge_id",), call.rules)
    base = call.known_base(call.request.query["knowledge_id"])
    wanted = _Page.asked(call)
    base.shelf.settle(call.now)
    rows = _filtered(base.shelf.rows(call.behaviour.order), call)
    shown = [item(document, call) for document in wanted.cut(rows, call)]
    return extra(_total(len(rows), call) | _list_field(shown, call), call)


@dataclass(frozen=True, slots=True)
class _Page:
    """A page that is asked for, 1-based."""

    number: int
    size: int

    @staticmethod
    def asked(call: Call) -> _Page:
        number = number_in_query(call.request, "page", 1, call.rules)
        size = number_in_query(call.request, "size", 10, call.rules)
        return _Page(number, min(size, call.behaviour.page_cap or size))

    def cut(self, rows: Rows, call: Call) -> list[Document]:
        """What the page shows of `rows`."""
        number = self.number
        if call.behaviour.page_beyond == "repeats":
            number = min(number, max(1, -(-len(rows) // self.size)))
        start = (number - 1) * self.size
        if number > 1 and call.behaviour.unstable_pages:
            start += call.account.chance.choice((-1, 0, 1))
        if call.play.kind == "duplicates" and number > 1:
            start -= call.play.whole("n", 1)
        return rows.cut(start, self.size)


def _filtered(rows: Rows, call: Call) -> Rows:
    word = call.request.query.get("word", "")
    if word and call.behaviour.word != "ignored":
        rows = rows.where(_comparison(word, call.behaviour.word))
    if call.play.kind == "left-out":
        name = call.play.arg("name", None)
        rows = rows.where(lambda document: name not in (None, document.name, document.sent_name))
    return rows


def _comparison(word: str, form: str) -> Callable[[Document], bool]:
    match form:
        case "exact":
            return lambda document: document.name == word
        case "case_insensitive":
            lower = word.lower()
            return lambda document: lower in document.name.lower()
        case "tokenised":
            tokens = frozenset(_TOKENS.findall(word.lower()))
            return lambda document: not tokens.isdisjoint(_TOKENS.findall(document.name.lower()))
        case _:
            return lambda document: word in document.name


def _total(count: int, call: Call) -> Json:
    if call.play.kind == "total":
        return {} if call.play.arg("missing", False) else {"total": call.play.arg("value", 0)}
    totals: dict[str, Any] = {
        "right": count,
        "high": count + _HIGH_BY,
        "low": max(0, count - 1),
        "zero": 0,
        "string": str(count),
    }
    form = call.behaviour.total
    return {"total": totals[form]} if form in totals else {}


def _list_field(shown: list[Json], call: Call) -> Json:
    form: str = "list" if shown else call.behaviour.empty_list
    if call.play.kind == "list-null":
        form = call.play.word("form", "null")
    match form:
        case "null":
            return {"list": None}
        case "missing":
            return {}
        case _:
            return {"list": shown}


def show_document(call: Call) -> Json:
    """One document."""
    document = call.account.documents.get(call.ident)
    if call.play.kind == "detail-missing":
        raise Refusal(call.missing(call.play.word("form", call.behaviour.deleted_detail), "知识"))
    if document is None or not _has_detail(document, call):
        raise Refusal(call.missing(call.behaviour.deleted_detail, "知识"))
    return item(document, call)


def _has_detail(document: Document, call: Call) -> bool:
    lag = call.behaviour.detail_lag
    is_gone = document.deleted is not None and document.deleted + lag <= call.now
    return document.seen_from + lag <= call.now and not is_gone and not document.base.is_hidden


def read_file(call: Call) -> Response:
    """The bytes of a document, for whoever has its signed address."""
    if "authorization" in call.request.headers:
        sentence = "the API key was sent to the host of the files"
        raise Refusal(storage("InvalidArgument", 400), sentence)
    if not call.signer.allows(call.ident, call.request.query, call.now):
        raise Refusal(storage("AccessDenied", 403))
    document = call.account.document(call.ident.partition(".")[0])
    if document is None:
        raise Refusal(storage("NoSuchKey", 404))
    if is_picture(call.ident):
        return picture()
    return Response(200, document.content, {"content-type": "application/octet-stream"})


MOST_CHARACTERS = 1000


def _is_threshold(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1


_RETRIEVE_TESTS: Mapping[str, Test] = {
    "query": lambda value: is_text(value) and len(value) <= MOST_CHARACTERS,
    "knowledge_ids": are_texts,
    "document_ids": are_texts,
    "top_k": whole(1, 20),
    "top_n": whole(1, 100),
    "recall_method": one_of("embedding", "keyword", "mixed"),
    "recall_ratio": whole(0, 100),
    "rerank_status": one_of(0, 1),
    "rerank_model": one_of("rerank", "rerank-pro"),
    "fractional_threshold": _is_threshold,
    "request_id": is_string,
}


def retrieve(call: Call) -> list[Json] | None:
    """The best passages of what is searchable now."""
    body = json_body(call.request, _RETRIEVE_TESTS.keys(), call.rules)
    check_needed(body, ("query", "knowledge_ids"), call.rules)
    check_values(body, _RETRIEVE_TESTS, call.rules)
    bases = [call.known_base(ident) for ident in body["knowledge_ids"]]
    documents = _searchable(bases, body.get("document_ids"), call)
    threshold = float(body.get("fractional_threshold", 0.0))
    found = search(body["query"], documents, body.get("top_k", 8), threshold)
    return _played([_hit(match, call) for match in found], call)


def _searchable(bases: list[Base], idents: list[str] | None, call: Call) -> Iterator[Document]:
    for base in bases:
        known = base.documents
        wanted = known if idents is None else [ident for ident in idents if ident in known]
        candidates = (known[ident] for ident in wanted)
        yield from (document for document in candidates if document.phase(call.now).stat == 1)


def _hit(match: Match, call: Call) -> Json:
    document = match.document
    ident = hashlib.sha256(f"{document.id} {match.index}".encode()).hexdigest()[:32]
    metadata = {
        "_id": ident,
        "knowledge_id": call.written(document.base.id),
        "know_id": call.written(document.base.id),
        "doc_id": call.written(document.id),
        "doc_name": document.name,
        "doc_url": call.signer.url(call.origin, document.id, call.now),
        "doc_type": extension(document.sent_name),
        "index": match.index,
    }
    fields: Json = {"id": ident, "text": match.passage.text, "score": match.score, "medias": []}
    if document.base.contextual:
        fields["contextual_text"] = match.passage.text
    return extra(fields | {"metadata": extra(metadata, call)}, call)


def _played(hits: list[Json], call: Call) -> list[Json] | None:
    match call.play.kind:
        case "retrieve-empty":
            return []
        case "retrieve-null":
            return None
        case "retrieve-no-scores":
            return [_without(hit, "score") for hit in hits]
        case "retrieve-no-metadata":
            return [_without(hit, "metadata") for hit in hits]
        case "retrieve-deleted":
            return [_of_deleted(call), *hits]
        case _:
            return hits


def _without(hit: Json, name: str) -> Json:
    return {key: value for key, value in hit.items() if key != name}


def _of_deleted(call: Call) -> Json:
    """A passage whose document nobody can read any more: one that was deleted, or never was."""
    gone = (document.id for document in call.account.documents.values() if document.deleted is not None)
    ident = str(call.play.arg("id", next(gone, "1000000000000000000")))
    known = call.account.documents.get(ident)
    metadata = {"doc_id": call.written(ident), "doc_name": known.name if known else "gone.txt", "index": 0}
    return {"id": "0" * 32, "text": "gone", "score": 1.0, "medias": [], "metadata": metadata}
