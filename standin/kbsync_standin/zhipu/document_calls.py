"""The calls about documents: upload, list, look, change, delete, images, and retrieval."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from kbsync_standin.forms import boundary_of, parse_form
from kbsync_standin.listing import page_of
from kbsync_standin.messages import Response
from kbsync_standin.rules import Test, are_texts, is_address, is_string, is_text, one_of, whole
from kbsync_standin.zhipu.account import Match, passages_of, search
from kbsync_standin.zhipu.answers import (
    NO_DATA,
    Call,
    Json,
    NoData,
    Refusal,
    gateway,
    item,
    storage,
)
from kbsync_standin.zhipu.documents import ZhipuDocument, extension
from kbsync_standin.zhipu.faults import script_of
from kbsync_standin.zhipu.rules import (
    CALLBACK_TESTS,
    LEGAL,
    SLICING_TESTS,
    SUPPORTED,
    callback_of,
    slicing_of,
    upload_form,
)

UNSUPPORTED = "不支持的文档类型"
NAME_TAKEN = "文件名已存在"
NO_SPACE = "知识库空间不足"
UNREACHABLE = "网页无法访问"

# -- adding


def upload(call: Call) -> Json:
    """POST /document/upload_document/{knowledge_id}: store the one file of the form and vectorize it."""
    base = call.known_base(call.ident)
    boundary = boundary_of(call.request.headers.get("content-type", ""))
    if boundary is None:
        refusal = call.no_route(415)
        raise Refusal(refusal, "the content type is not multipart/form-data with a boundary")
    form = upload_form(parse_form(boundary, call.request.body), call.rules)
    if len(form.content) > call.behaviour.max_bytes:
        raise Refusal(gateway(435, 435))
    account, behaviour, play = call.account, call.behaviour, call.play
    lies_about_name = play.kind == "other-name" and "answer" in play.args
    name_form = play.word("form", "suffixed") if play.kind == "other-name" and not lies_about_name else ""
    document = account.draft(base, form.name, form.content, form.slicing, name_form)
    document.parse_image, document.callback = form.parse_image, form.callback
    document.word_limit = form.word_limit
    namesakes = account.namesakes(base, document.name)
    reason = ""
    if extension(document.sent_name) not in SUPPORTED:
        reason = UNSUPPORTED
    elif behaviour.equal_names == "refuse" and namesakes:
        reason = NAME_TAKEN
    elif behaviour.full == "refused" and account.is_full_for(document.size):
        reason = NO_SPACE
    if reason:
        failure = {"fileName": document.name, "failReason": reason}
        return call.dressed({"successInfos": [], "failedInfos": [failure]})
    if play.arg("stored", False) if play.kind == "failed-info" else play.effect:
        if behaviour.equal_names == "replace":
            for older in list(namesakes):
                account.remove(older, "replaced")
        account.store(document, script_of(play))
    # A name that is wrong in the answer alone: the list has the right one.
    told_name = play.word("answer", document.name) if lies_about_name else document.name
    url = call.signer.url(call.origin, document.id, call.now)
    success = call.dressed({"documentId": call.written(document.id), "fileName": told_name, "url": url})
    reason = play.word("reason", UNSUPPORTED)
    return call.dressed(_lists([success], {"fileName": document.name, "failReason": reason}, call))


def _lists(successes: list[Json], failure: Json, call: Call) -> Json:
    """What was taken, or what a fault makes of the two lists; `failure`: what it shows as failed."""
    match call.play.kind:
        case "failed-info":
            return {"successInfos": [], "failedInfos": [failure]}
        case "both-lists":
            return {"successInfos": successes, "failedInfos": [failure]}
        case "neither-list":
            return {"successInfos": [], "failedInfos": []}
        case "success-null":
            return {"successInfos": None, "failedInfos": []}
    return {"successInfos": successes, "failedInfos": []}


_PAGE_TESTS = {**SLICING_TESTS, "url": is_address}


def upload_url(call: Call) -> Json:
    """POST /document/upload_url: store pages, which the vendor fetches, now and at each re-embed."""
    fields = ("knowledge_id", "upload_detail")
    body = call.body(dict.fromkeys(fields, lambda _: True), needed=fields)
    base = call.known_base(str(body["knowledge_id"]))
    details, account, play, rules = body["upload_detail"], call.account, call.play, call.rules
    rules.must(isinstance(details, list) and bool(details), "upload_detail is no list of pages")
    pages = []
    for detail in details:
        rules.must(isinstance(detail, dict), "an item of upload_detail is no object")
        rules.only(detail, _PAGE_TESTS, "the field of upload_detail")
        rules.fields(detail, _PAGE_TESTS, needed=("url", "knowledge_type"))
        address = detail["url"]
        rules.must(address.isascii(), "url is not in ASCII")
        slicing = slicing_of(detail, "page.url", rules)
        kinds = LEGAL.get(slicing.knowledge_type, frozenset())
        rules.should("url" in kinds, f"knowledge_type {slicing.knowledge_type} is not for pages")
        last = unquote(urlsplit(address).path.rpartition("/")[2])
        names = {"title": _title_of(address), "last": last or address}
        name = names.get(call.behaviour.page_names, address)
        page = account.draft(base, name, b"", slicing, "as_sent")
        page.address = page.sent_name = address
        page.callback = callback_of(detail)
        _visit(page)
        pages.append(page)
    good, bad = [], []
    for page in pages:
        reason = ""
        if play.kind == "failed-info":
            reason = play.word("reason", UNREACHABLE)
        elif call.behaviour.equal_names == "refuse" and account.namesakes(base, page.name):
            reason = NAME_TAKEN
        if play.arg("stored", False) if play.kind == "failed-info" else play.effect and not reason:
            account.store(page, script_of(play))
        if reason:
            bad.append({"url": page.address, "failReason": reason})
        else:
            good.append(call.dressed({"documentId": call.written(page.id), "url": page.address}))
    if bad and play.kind in ("", "failed-info"):
        return call.dressed({"successInfos": good, "failedInfos": bad})
    return call.dressed(_lists(good, {"url": pages[0].address, "failReason": UNREACHABLE}, call))


def addresses_in(body: bytes) -> str:
    """The addresses of a request to upload pages, joined with ` | `; "" where it names none."""
    try:
        return " | ".join(str(one["url"]) for one in json.loads(body)["upload_detail"])
    except (ValueError, KeyError, TypeError):
        return ""


def _visit(page: ZhipuDocument) -> None:
    """Fetch it: another time there is something else in it."""
    page.visits += 1
    page.content = f"{_title_of(page.address)}\n\nVisit {page.visits:06} to {page.address}".encode()
    page.sha256, page.size = hashlib.sha256(page.content).hexdigest(), len(page.content)
    page.passages = None


def _title_of(address: str) -> str:
    return f"Welcome to {urlsplit(address).hostname}"


# -- changing


def delete_document(call: Call) -> NoData:
    """DELETE /document/{id}: it is gone for searches at once."""
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
    """POST /document/embedding/{id}: vectorize it again, cut as before."""
    document = call.known_document(call.ident)
    document.callback = callback_of(call.body(CALLBACK_TESTS)) or document.callback
    if call.play.effect:
        if document.address:
            _visit(document)
        call.account.again(document, "reembedded", script_of(call.play))
    return NO_DATA


def reslice(call: Call) -> NoData:
    """PUT /document/{id}: cut it in another way; neither content nor name change."""
    document = call.known_document(call.ident)
    body = call.body(SLICING_TESTS, needed=("knowledge_type",))
    slicing = slicing_of(body, document.sent_name, call.rules)
    if call.play.effect:
        document.slicing = slicing
        call.account.again(document, "resliced", script_of(call.play))
    return NO_DATA


# -- looking


def list_documents(call: Call) -> Json:
    """GET /document: one page of a base's documents."""
    call.rules.fields(call.request.query, {}, needed=("knowledge_id",))
    base = call.known_base(call.request.query["knowledge_id"])
    behaviour, play = call.behaviour, call.play
    number, size = call.page()
    rows = base.listing.rows(call.now, behaviour.order)
    if (word := call.request.query.get("word", "")) and behaviour.word != "ignored":
        has_word = _comparison(word, behaviour.word)
        rows = [document for document in rows if has_word(document)]
    if play.kind == "left-out":
        name = play.arg("name", None)
        rows = [document for document in rows if name not in (None, document.name, document.sent_name)]
    shift = -play.whole("n", 1) if play.kind == "duplicates" else 0
    # As if others came and went between two pages.
    if number > 1 and behaviour.unstable_pages:
        shift += call.account.chance.choice((-1, 0, 1))
    page = page_of(rows, number, size, repeats=behaviour.page_beyond == "repeats", shift=shift)
    shown = [item(document, call) for document in page]
    total: dict[str, Any] = {
        "right": len(rows),
        "high": len(rows) + 7,
        "low": max(0, len(rows) - 1),
        "zero": 0,
        "string": str(len(rows)),
    }
    fields: Json = {}
    if play.kind == "total":
        fields = {} if play.arg("missing", False) else {"total": play.arg("value", 0)}
    elif behaviour.total in total:
        fields["total"] = total[behaviour.total]
    form = "list" if shown else behaviour.empty_list
    if play.kind == "list-null":
        form = "missing" if play.word("form", "null") == "missing" else "null"
    if form != "missing":
        fields["list"] = None if form == "null" else shown
    return call.dressed(fields)


def _comparison(word: str, form: str) -> Callable[[ZhipuDocument], bool]:
    match form:
        case "exact":
            return lambda document: document.name == word
        case "case_insensitive":
            lower = word.lower()
            return lambda document: lower in document.name.lower()
        case "tokenised":
            tokens = frozenset(re.findall(r"\w+", word.lower()))
            return lambda document: not tokens.isdisjoint(re.findall(r"\w+", document.name.lower()))
        case _:
            return lambda document: word in document.name


def show_document(call: Call) -> Json:
    """GET /document/{id}."""
    document, lag = call.account.documents.get(call.ident), call.behaviour.detail_lag
    is_missing = (
        document is None
        or call.now < document.seen_from + lag
        or (document.deleted is not None and document.deleted + lag <= call.now)
        or document.base.is_hidden
    )
    form = call.behaviour.deleted_detail
    if call.play.kind == "detail-missing":
        raise Refusal(call.missing(call.play.word("form", form), "知识"))
    if document is None or is_missing:
        raise Refusal(call.missing(form, "知识"))
    return item(document, call)


_PLACEHOLDER = re.compile("【示意图序号_[0-9_]+】")
_PIXEL = bytes.fromhex(
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
    """POST /document/slice/image_list/{id}: each image of the document with a signed address of its own."""
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


def images_of(document: ZhipuDocument, call: Call) -> list[Json]:
    """The vendor puts placeholders in place of images; here each that stands in the text has an image."""
    text = "\n".join(passage.text for passage in passages_of(document))
    found = dict.fromkeys(_PLACEHOLDER.findall(text))
    return [_image(placeholder, document, number, call) for number, placeholder in enumerate(found)]


def _image(placeholder: str, document: ZhipuDocument, number: int, call: Call) -> Json:
    url = call.signer.url(call.origin, f"{document.id}.{number}.png", call.now)
    return {"text": placeholder, "cos_url": url}


def read_file(call: Call) -> Response:
    """The bytes of a document or of an image, for anyone who has the signed address."""
    if "authorization" in call.request.headers:
        sentence = "the API key was sent to the host of the files"
        raise Refusal(storage("InvalidArgument", 400), sentence)
    if not call.signer.allows(call.ident, call.request.query, call.now):
        raise Refusal(storage("AccessDenied", 403))
    document = call.account.document(call.ident.partition(".")[0])
    if document is None:
        raise Refusal(storage("NoSuchKey", 404))
    # Images have addresses of their own, `{document}.{number}.png`.
    if call.ident.endswith(".png"):
        return Response(200, _PIXEL, {"content-type": "image/png"})
    return Response(200, document.content, {"content-type": "application/octet-stream"})


# -- finding


def _is_threshold(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1


_RETRIEVE_TESTS: Mapping[str, Test] = {
    "query": lambda value: is_text(value) and len(value) <= 1000,
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
    """POST /knowledge/retrieve: the best passages of what is searchable now."""
    body = call.body(_RETRIEVE_TESTS, needed=("query", "knowledge_ids"))
    only = body.get("document_ids")
    documents = [
        document
        for base in [call.known_base(ident) for ident in body["knowledge_ids"]]
        for document in base.documents.values()
        if document.phase(call.now).stat == 1 and (only is None or document.id in only)
    ]
    threshold = float(body.get("fractional_threshold", 0.0))
    found = search(body["query"], documents, body.get("top_k", 8), threshold)
    hits = [_hit(match, call) for match in found]
    match call.play.kind:
        case "retrieve-empty":
            return []
        case "retrieve-null":
            return None
        case "retrieve-no-scores" | "retrieve-no-metadata":
            missing = "score" if call.play.kind == "retrieve-no-scores" else "metadata"
            return [{key: value for key, value in hit.items() if key != missing} for hit in hits]
        case "retrieve-deleted":
            return [_hit_of_deleted(call), *hits]
    return hits


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
    return call.dressed(fields | {"metadata": call.dressed(metadata)})


def _hit_of_deleted(call: Call) -> Json:
    """A passage whose document nobody can read any more: one that was deleted, or never was."""
    gone = (document.id for document in call.account.documents.values() if document.deleted is not None)
    ident = str(call.play.arg("id", next(gone, "1000000000000000000")))
    known = call.account.documents.get(ident)
    metadata = {"doc_id": call.written(ident), "doc_name": known.name if known else "gone.txt", "index": 0}
    return {"id": "0" * 32, "text": "gone", "score": 1.0, "medias": [], "metadata": metadata}
