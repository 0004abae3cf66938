"""POST /document/upload_url: pages that the vendor fetches by itself, the first time and at each re-embed."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import unquote, urlsplit

from kbsync_standin.zhipu import strict
from kbsync_standin.zhipu.answers import Json
from kbsync_standin.zhipu.calls import Call
from kbsync_standin.zhipu.documents import Base, Document, Slicing
from kbsync_standin.zhipu.forms import callback_of
from kbsync_standin.zhipu.scripts import script_of
from kbsync_standin.zhipu.shapes import extra
from kbsync_standin.zhipu.strict import LEGAL

UNREACHABLE = "网页无法访问"
NAME_TAKEN = "文件名已存在"

_DETAIL = strict.CALLBACK_FIELDS | {"url", "knowledge_type", "custom_separator", "sentence_size"}
_TESTS = {
    **strict.CALLBACK_TESTS,
    "url": strict.is_address,
    "knowledge_type": strict.is_whole,
    "custom_separator": strict.are_texts,
    "sentence_size": strict.is_whole,
}


def upload_url(call: Call) -> Json:
    """Store every page that is named. Raises `Refusal`, or `Breach` for a rule that is broken."""
    body = strict.json_body(call.request, ("knowledge_id", "upload_detail"), call.rules)
    strict.check_needed(body, ("knowledge_id", "upload_detail"), call.rules)
    base = call.known_base(str(body["knowledge_id"]))
    details = body["upload_detail"]
    call.rules.must(isinstance(details, list) and bool(details), "upload_detail is no list of pages")
    pages = [_page(detail, base, call) for detail in details]
    told = [_stored(page, call) for page in pages]
    return extra(_lists(told, call), call)


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
    rules.only(detail, _DETAIL, "the field of upload_detail")
    strict.check_needed(detail, ("url", "knowledge_type"), rules)
    strict.check_values(detail, _TESTS, rules)
    rules.must(detail["url"].isascii(), "url is not in ASCII")
    separators = tuple(detail.get("custom_separator", ()))
    slicing = Slicing(detail["knowledge_type"], separators, detail.get("sentence_size", 300))
    strict.check_slicing(slicing, "page.url", detail.keys(), rules)
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
        return page, NAME_TAKEN
    if call.play.effect:
        call.account.store(page, script_of(call.play))
    return page, ""


def _lists(told: list[tuple[Document, str]], call: Call) -> Json:
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
