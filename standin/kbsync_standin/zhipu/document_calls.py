"""The calls for documents: upload, list, show, change, delete, images, and retrieval."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import unquote, urlsplit

from kbsync_standin import rules
from kbsync_standin.application import Call, Json, route
from kbsync_standin.forms import form_in
from kbsync_standin.messages import Response
from kbsync_standin.rules import Refused, Test, Violation
from kbsync_standin.zhipu.account import Match, passages_of, search
from kbsync_standin.zhipu.answers import NULL, Answers, Null, gateway, storage
from kbsync_standin.zhipu.documents import ZhipuBase, ZhipuDocument, extension, title_of
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


_PAGE_TESTS = {**SLICING_TESTS, "url": rules.is_address}
_PAGES: Mapping[str, Test] = dict.fromkeys(("knowledge_id", "upload_detail"), lambda _: True)


def addresses_in(body: bytes) -> str:
    """Return the addresses in a request to upload pages, joined with ` | `; "" if it has none."""
    try:
        return " | ".join(str(item["url"]) for item in json.loads(body)["upload_detail"])
    except (ValueError, KeyError, TypeError):
        return ""


def _comparison(filter_text: str, form: str) -> Callable[[ZhipuDocument], bool]:
    match form:
        case "exact":
            return lambda document: document.name == filter_text
        case "case_insensitive":
            lower = filter_text.lower()
            return lambda document: lower in document.name.lower()
        case "tokenised":
            tokens = frozenset(re.findall(r"\w+", filter_text.lower()))
            return lambda document: not tokens.isdisjoint(re.findall(r"\w+", document.name.lower()))
        case _:
            return lambda document: filter_text in document.name


_PLACEHOLDER = re.compile("【示意图序号_[0-9_]+】")
_PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000b49444154789c6360000200000500017a5eab3f0000000049454e44ae426082"
)
_OTHERS = {"text": 7, "cos_url": "https://cdn.example/"}
_MALFORMED: list[object] = [None, "image", _OTHERS, {"text": "【示意图序号_1】"}, []]


def _is_threshold(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1


_RETRIEVE_TESTS: Mapping[str, Test] = {
    "query": lambda value: rules.is_text(value) and len(value) <= 1000,
    "knowledge_ids": rules.are_texts,
    "document_ids": rules.are_texts,
    "top_k": rules.integer(1, 20),
    "top_n": rules.integer(1, 100),
    "recall_method": rules.one_of("embedding", "keyword", "mixed"),
    "recall_ratio": rules.integer(0, 100),
    "rerank_status": rules.one_of(0, 1),
    "rerank_model": rules.one_of("rerank", "rerank-pro"),
    "fractional_threshold": _is_threshold,
    "request_id": rules.is_string,
}


class DocumentCalls(Answers):
    """The calls for documents."""

    # -- uploads

    @route("POST", "/document/upload_document/{id}", "upload")
    def upload(self, call: Call) -> Json:
        """POST /document/upload_document/{knowledge_id}: store the one file of the form and vectorize it."""
        base = self.known_base(call.ids["id"])
        form = upload_form(form_in(call.request, response=self.no_such_route(call, 415)))
        if len(form.content) > self.behaviour.max_bytes:
            raise Refused("", response=gateway(435, 435))
        is_misreported = call.plays("other-name") and "answer" in call.fault.args
        name_form = call.word("form", "suffixed") if call.plays("other-name") and not is_misreported else ""
        document = self.draft(base, form.name, form.content, form.slicing, name_form)
        document.parse_image, document.callback = form.parse_image, form.callback
        document.word_limit = form.word_limit
        reason = ""
        if extension(document.sent_name) not in SUPPORTED:
            reason = UNSUPPORTED
        elif self.behaviour.full == "refused" and self.is_full_for(document.size):
            reason = NO_SPACE
        # With `answer` only the response has a wrong name; the list has the right one.
        name = call.word("answer", document.name) if is_misreported else document.name
        fields = {"fileName": name, "url": self.signed(call, document.id)}
        return self._receipt([(document, fields, reason)], "fileName", UNSUPPORTED, call)

    @route("POST", "/document/upload_url", "upload-url")
    def upload_url(self, call: Call) -> Json:
        """POST /document/upload_url: store pages, which the service fetches now and at each re-embed."""
        body = call.body(_PAGES, *_PAGES)
        base, details = self.known_base(str(body["knowledge_id"])), body["upload_detail"]
        rules.require(isinstance(details, list) and bool(details), "upload_detail is not a list of pages")
        pages = [self._page(base, detail) for detail in details]
        return self._receipt([(page, {"url": page.address}, "") for page in pages], "url", UNREACHABLE, call)

    def _receipt(
        self, uploads: Sequence[tuple[ZhipuDocument, Json, str]], key: str, usual: str, call: Call
    ) -> Json:
        """Store what isn't refused, and return the lists of stored and failed uploads, as the fault requires.

        Each upload has its document, the fields to show, and the reason why it is refused; "": none. `key`:
        the field that names an upload. `usual`: the reason of a fault without one.
        """
        kind, successes, failures = call.fault.kind, list[Json](), list[Json]()
        is_stored = bool(call.arg("stored")) if kind == "failed-info" else call.fault.effect
        for document, fields, refusal in uploads:
            form, base = self.behaviour.equal_names, self.bases[document.base]
            namesakes = [] if form == "allow" else self.namesakes(base, document.name)
            reason = refusal or (NAME_TAKEN if namesakes and form == "refuse" else "")
            if is_stored and not reason:
                for older in namesakes:
                    self.delete(older, "replaced")
                self.store(document, call)
            if not reason and kind not in ("failed-info", "neither-list"):
                success = {"documentId": self.id_form_of(document.id), **fields}
                successes.append(self.add_extra_fields(success))
            if reason or kind in ("failed-info", "both-lists"):
                failures.append({key: fields[key], "failReason": reason or call.word("reason", usual)})
        stored = None if kind == "success-null" else successes
        return self.add_extra_fields({"successInfos": stored, "failedInfos": failures})

    def _page(self, base: ZhipuBase, detail: Any) -> ZhipuDocument:
        """Return a document for a page that was fetched, without storing it. Raises `Violation`."""
        rules.require(isinstance(detail, dict), "an item of upload_detail is not an object")
        rules.require_known(detail, _PAGE_TESTS, "the field of upload_detail")
        rules.require_fields(detail, _PAGE_TESTS, needed=("url", "knowledge_type"))
        address = detail["url"]
        rules.require(address.isascii(), "url is not in ASCII")
        slicing = slicing_of(detail, "page.url")
        is_for_pages = "url" in LEGAL[slicing.knowledge_type]
        rules.require(is_for_pages, f"knowledge_type {slicing.knowledge_type} is not for pages")
        last = unquote(urlsplit(address).path.rpartition("/")[2])
        names = {"title": title_of(address), "last": last or address}
        name = names.get(self.behaviour.page_names, address)
        page = self.draft(base, name, b"", slicing, "as_sent")
        page.address = page.sent_name = address
        page.callback = callback_of(detail)
        page.visit()
        return page

    # -- changes

    @route("DELETE", "/document/{id}", "delete")
    def delete_document(self, call: Call) -> None:
        """DELETE /document/{id}: delete it; searches stop finding it at once."""
        document = self.document(call.ids["id"])
        if document is None:
            raise Refused("", response=self.missing(self.behaviour.unknown_delete, "知识"))
        if call.fault.effect and call.fault.kind != "keeps-document":
            listed = float(call.arg("seconds", math.inf)) if call.plays("still-listed") else 0.0
            self.delete(document, listed=listed)
        if call.plays("delete-unknown"):
            raise Refused("", response=self.missing(call.word("form", "404"), "知识"))

    @route("POST", "/document/embedding/{id}", "reembed")
    def reembed(self, call: Call) -> None:
        """POST /document/embedding/{id}: vectorize it again with the same slicing."""
        document = self.known_document(call)
        document.callback = callback_of(call.body(CALLBACK_TESTS)) or document.callback
        if document.address:
            document.visit()
        self.vectorize_again(document, "reembedded", call)

    @route("PUT", "/document/{id}", "reslice")
    def reslice(self, call: Call) -> None:
        """PUT /document/{id}: slice it in another way; its content and name stay."""
        document = self.known_document(call)
        body = call.body(SLICING_TESTS, "knowledge_type")
        document.slicing = slicing_of(body, document.sent_name)
        self.vectorize_again(document, "resliced", call)

    # -- lists and details

    @route("GET", "/document", "list")
    def list_documents(self, call: Call) -> Json:
        """GET /document: list one page of a base's documents."""
        rules.require_fields(call.query, {}, needed=("knowledge_id",))
        base = self.known_base(call.query["knowledge_id"])
        behaviour = self.behaviour
        number, size = call.page("size", 10)
        rows = self.listed(base)
        if (filter_text := call.query.get("word", "")) and behaviour.word != "ignored":
            has_word = _comparison(filter_text, behaviour.word)
            rows = [document for document in rows if has_word(document)]
        if call.plays("left-out"):
            name = call.arg("name")
            rows = [document for document in rows if name not in (None, document.name, document.sent_name)]
        shift = -int(call.arg("n", 1)) if call.plays("duplicates") else 0
        # Pages shift as if others had added or deleted documents between two requests.
        if number > 1 and behaviour.unstable_pages:
            shift += self.chance.choice((-1, 0, 1))
        items = [self.item(document, call) for document in self.page(rows, number, size, shift=shift)]
        count = len(rows)
        total = {"right": count, "high": count + 7, "low": max(0, count - 1), "zero": 0, "string": str(count)}
        fields: Json = {"total": total[behaviour.total]} if behaviour.total in total else {}
        fields = call.distort("total", fields, "total")
        form: str = "list" if items else behaviour.empty_list
        form = call.word("form", "null") if call.plays("list-null") else form
        if form != "missing":
            fields["list"] = None if form == "null" else items
        return self.add_extra_fields(fields)

    @route("GET", "/document/{id}", "detail")
    def show_document(self, call: Call) -> Json:
        """GET /document/{id}: show one document."""
        document, lag = self.documents.get(call.ids["id"]), self.behaviour.detail_lag
        is_missing = (
            document is None
            or self.now < document.visible_from + lag
            or (document.deleted_at is not None and document.deleted_at + lag <= self.now)
            or document.base not in self.visible_bases()
        )
        form = self.behaviour.deleted_detail
        if call.plays("detail-missing"):
            raise Refused("", response=self.missing(call.word("form", form), "知识"))
        if document is None or is_missing:
            raise Refused("", response=self.missing(form, "知识"))
        return self.item(document, call)

    @route("POST", "/document/slice/image_list/{id}", "images")
    def list_images(self, call: Call) -> Json | Null:
        """Return each image of the document with its own signed address."""
        document = self.known_document(call)
        if not call.plays("pictures"):
            return {"images": self.images_of(document, call)}
        responses: dict[str, Json | Null] = {
            "none": {"images": []},
            "null": NULL,
            "missing": {},
            "others": {"images": [self._image("【示意图序号_999_9】", document, 0, call)]},
            "malformed": {"images": 2 * _MALFORMED},
        }
        return responses[call.word("form", "none")]

    def images_of(self, document: ZhipuDocument, call: Call) -> list[Json]:
        """Return an image for each placeholder in the text, as the service leaves placeholders for images."""
        text = "\n".join(passage.text for passage in passages_of(document))
        placeholders = dict.fromkeys(_PLACEHOLDER.findall(text))
        return [
            self._image(placeholder, document, number, call)
            for number, placeholder in enumerate(placeholders)
        ]

    def _image(self, placeholder: str, document: ZhipuDocument, number: int, call: Call) -> Json:
        url = self.signed(call, f"{document.id}.{number}.png")
        return {"text": placeholder, "cos_url": url}

    @route("GET", "/files/{id}", "file")
    def read_file(self, call: Call) -> Response:
        """Send the bytes of a document or an image to anyone who has the signed address."""
        if "authorization" in call.request.headers:
            sentence = "the API key was sent to the host of the files"
            raise Violation(sentence, response=storage("InvalidArgument", 400))
        if not self.is_signed(call.ids["id"], call.query):
            raise Refused("", response=storage("AccessDenied", 403))
        document = self.document(call.ids["id"].partition(".")[0])
        if document is None:
            raise Refused("", response=storage("NoSuchKey", 404))
        # Images have their own addresses, `{document}.{number}.png`.
        if call.ids["id"].endswith(".png"):
            return Response(200, _PIXEL, {"content-type": "image/png"})
        return Response(200, document.content, {"content-type": "application/octet-stream"})

    # -- search

    @route("POST", "/knowledge/retrieve", "retrieve")
    def retrieve(self, call: Call) -> list[Json] | Null:
        """POST /knowledge/retrieve: return the best passages of searchable documents."""
        body = call.body(_RETRIEVE_TESTS, "query", "knowledge_ids")
        bases = [self.known_base(ident) for ident in body["knowledge_ids"]]
        documents = self.searchable(bases, body.get("document_ids", []))
        threshold = float(body.get("fractional_threshold", 0.0))
        matches = search(body["query"], documents, body.get("top_k", 8), threshold)
        hits = [self._hit(match, call) for match in matches]
        match call.fault.kind:
            case "nothing-found":
                return []
            case "retrieve-null":
                return NULL
            case "retrieve-no-scores" | "retrieve-no-metadata":
                missing = "score" if call.plays("retrieve-no-scores") else "metadata"
                return [{key: value for key, value in hit.items() if key != missing} for hit in hits]
            case "retrieve-deleted":
                return [self._hit_of_deleted(call), *hits]
        return hits

    def searchable(self, bases: Iterable[ZhipuBase], only: Collection[str]) -> list[ZhipuDocument]:
        """Return the searchable documents of these bases; with `only`, those among these ids."""
        return [
            document
            for base in bases
            for document in self.documents_of(base.id)
            if document.is_searchable(self.now) and (not only or document.id in only)
        ]

    def _hit(self, match: Match, call: Call) -> Json:
        document = match.document
        ident = hashlib.sha256(f"{document.id} {match.index}".encode()).hexdigest()[:32]
        metadata = {
            "_id": ident,
            "knowledge_id": self.id_form_of(document.base),
            "know_id": self.id_form_of(document.base),
            "doc_id": self.id_form_of(document.id),
            "doc_name": document.name,
            "doc_url": self.signed(call, document.id),
            "doc_type": extension(document.sent_name),
            "index": match.index,
        }
        fields: Json = {"id": ident, "text": match.passage.text, "score": match.score, "medias": []}
        if self.bases[document.base].contextual:
            fields["contextual_text"] = match.passage.text
        return self.add_extra_fields(fields | {"metadata": self.add_extra_fields(metadata)})

    def _hit_of_deleted(self, call: Call) -> Json:
        """Return a passage of a document that was deleted, or never existed."""
        deleted_ids = (document.id for document in self.documents.values() if document.is_deleted)
        ident = str(call.arg("id", next(deleted_ids, "1000000000000000000")))
        document = self.documents.get(ident)
        metadata = {
            "doc_id": self.id_form_of(ident),
            "doc_name": document.name if document else "gone.txt",
            "index": 0,
        }
        return {"id": "0" * 32, "text": "gone", "score": 1.0, "medias": [], "metadata": metadata}
