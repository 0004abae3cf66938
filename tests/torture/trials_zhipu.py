"""Every fault of Zhipu's stand-in on each operation that it can affect."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from tests.remote.faults import Trial
from tests.torture.trials import WISHES, Args, Calls, blaming, forms, on_the_way, passing, redirections

OPS = ("upload", "detail", "list", "delete", "reembed", "base", "capacity", "retrieve", "file")
API = tuple(op for op in OPS if op != "file")
"""All but the file host, which sends no JSON."""

CALLS = Calls(OPS, API, changes=("upload", "delete", "reembed"), uploads=("upload",))
FORMS = ("404", "code", "null")
BASE = "/api/llm-application/open/knowledge/1734786402936664064"


def statuses() -> Iterator[Trial]:
    """Yield 2, 3, 11, 13, 14: HTTP statuses."""
    yield from passing(CALLS)
    for op in API:
        yield Trial("rate-limited", op)
        yield Trial("status", op, {"status": 429}, effect=False)
        yield from forms("rate-limited", op, ({"code": code} for code in (1303, 1113, 1304, 1308)))
    for op, request in itertools.product(("upload", "list", "delete"), WISHES):
        yield Trial("rate-limited", op, {"retry_after": request})
    yield from blaming(CALLS)


def refusals() -> Iterator[Trial]:
    """Yield 12, 23: the key, the account and the base disappear in a run, and return."""
    for op, times in itertools.product(API, (1, 3)):
        yield Trial("unauthorized", op, {"code": 1000 + times}, times=times)
        yield Trial("no-right", op, {"status": 434 if times == 1 else 403}, times=times)
        yield from forms(
            "base-gone", op, ({"form": form} for form in FORMS), times=times, blames_document=op == "upload"
        )


def codes() -> Iterator[Trial]:
    """Yield 7, 8, 31: errors in the body under any HTTP status."""
    unsure, busy = (500, 1200, 1230, 1231, 1234), (1120, 1302, 1303, 1305, 1312)
    for code, op in itertools.product((*unsure, *busy, 1113), API):
        yield Trial("code-in-200", op, {"code": code}, effect=code in unsure)
    for op in API:
        good = ({"code": 200, "as_string": True}, {"missing": True})
        yield from forms("code-in-200", op, good)
        yield Trial(
            "code-in-200", op, {"code": 400, "as_string": True}, effect=False, blames_document=op == "upload"
        )
        shapes = ("flat", "error-object", "error-int", "no-message", "detail-list", "typed", "string")
        yield from forms("error-shapes", op, ({"shape": shape} for shape in shapes))
        yield from forms("envelope", op, ({"missing": ["timestamp", "message"]}, {"set": {"more": [{}]}}))
        yield from forms(
            "envelope", op, ({"set": {"timestamp": timestamp}} for timestamp in (0, 1e14, "now", None))
        )
        yield from forms("envelope", op, ({"missing": ["data"]}, {"set": {"data": None}}))


def uploads() -> Iterator[Trial]:
    """Yield 9, 15, 16, 17: wrong names in upload responses, and documents that fail."""
    yield from forms("failed-info", "upload", ({"reason": "服务器繁忙，请稍后再试"},))
    # The last where there is room.
    reasons = ({}, {"reason": "解析失败"}, {"reason": ""}, {"reason": "空间不足"})
    yield from forms("failed-info", "upload", reasons, blames_document=True)
    for kind in ("both-lists", "neither-list", "success-null"):
        yield from (Trial(kind, "upload", effect=effect) for effect in (True, False))
    names = ("nfc", "nfd", "basename", "suffixed", "question_marks", "mojibake")
    yield from forms("other-name", "upload", ({"form": form} for form in names))
    yield from forms("other-name", "upload", ({"answer": "else.md"}, {"answer": ""}))
    yield from forms("unlisted", "upload", ({"seconds": 8}, {"seconds": 30}))
    yield from forms("detail-missing", "upload", ({"seconds": 30, "form": form} for form in FORMS))
    yield from forms("polls", "upload", ({"n": 1}, {"n": 9}))
    full = ({"text": "知识不可用，知识库空间已满"}, {"code": 10002, "text": "字数超出限制"})
    yield from forms("fails", "upload", ({**text, "runs": runs} for text in full for runs in (1, 2)))
    yield from forms(
        "fails", "upload", ({"text": "知识不可用，文档损坏", "runs": runs} for runs in (1, 2, 0))
    )
    yield from forms("fails", "upload", ({"runs": 1, "silent": True}, {"runs": 0, "silent": True}))
    stale = {"stale_stat": 20.0, "keeps_fail_info": True}
    yield from forms("fails", "upload", ({"runs": 1}, {"runs": 2}), under=stale)
    yield from forms("stuck", "upload", ({}, {"searchable": True}))
    yield from forms("relapse", "upload", ({"after": 2, "back": 3}, {"after": 30, "back": 60}))
    yield Trial("fails-later", "upload", {"after": 300})
    for op in ("upload", "detail", "list"):
        odd: list[Args] = [{"value": value} for value in ("1", 1.0, True, None, 3, 99, -1, [], {})]
        yield from forms("stat", op, ({**value, "seconds": 20} for value in (*odd, {"missing": True})))
        infos: list[Any] = [
            {"embedding_code": 0, "embedding_msg": ""},
            {"embedding_code": 10001},
            "x",
            [],
            None,
        ]
        yield from forms("fail-info", op, ({"value": info, "seconds": 20} for info in infos))


def lists() -> Iterator[Trial]:
    """Yield 17, 18, 22: lists and details that lag, lie or lack fields."""
    for under in ({}, {"page_cap": 2}, {"page_cap": 2, "page_beyond": "repeats"}, {"unstable_pages": True}):
        yield from forms("duplicates", "list", ({"n": 1}, {"n": 2}), under=under)
        yield from forms("list-null", "list", ({"form": "null"}, {"form": "missing"}), under=under)
        yield from forms(
            "total", "list", ({"value": value} for value in (1000, 0, 1, "5", "", None, -1)), under=under
        )
        yield Trial("total", "list", {"missing": True}, under=under)
        yield Trial("left-out", "list", under=under)
    optional = (
        "length",
        "word_num",
        "knowledge_type",
        "custom_separator",
        "parse_image",
        "url",
        "name",
        "id",
    )
    for op, name in itertools.product(("detail", "list"), optional):
        yield from forms("fields", op, ({"missing": [name]}, {"set": {name: None}}, {"set": {name: {}}}))
    yield from forms(
        "fields", "list", ({"set": {"sentence_size": value}} for value in ("300", 300, None, []))
    )
    yield from forms("detail-missing", "detail", ({"form": form} for form in FORMS))


def deletes() -> Iterator[Trial]:
    """Yield 17, 25: deletions that lie."""
    yield Trial("keeps-document", "delete")
    yield from forms("delete-unknown", "delete", ({"form": form} for form in (*FORMS, "ok")))
    yield from forms("still-listed", "delete", ({"seconds": 40}, {"seconds": 400}))


def searches() -> Iterator[Trial]:
    """Yield 27: a search that misses existing documents."""
    for kind in ("nothing-found", "retrieve-null", "retrieve-no-scores", "retrieve-no-metadata"):
        yield Trial(kind, "retrieve")
    yield Trial("retrieve-deleted", "retrieve", {"id": "1999999999999999999"})


def addresses() -> Iterator[Trial]:
    """Yield 21, 29: invalid signed addresses, redirects."""
    unread = {"asking": "file", "twins": True}
    yield from forms(
        "url", "detail", ({"form": form} for form in ("missing", "null", "expired", "wrong")), **unread
    )
    yield from forms(
        "url", "detail", ({"to": to} for to in ("http://127.0.0.1:1/x", "file:///etc/passwd", "x")), **unread
    )
    yield from redirections(CALLS, BASE)


def trials() -> list[Trial]:
    """Return all of them, in a fixed order."""
    tables = (statuses, refusals, codes, uploads, lists, deletes, searches, addresses)
    return [*on_the_way(CALLS), *(trial for table in tables for trial in table())]
