"""Tests that the stand-in calls back as the manual says, and with possible faults."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kbsync_standin.messages import Letter
from kbsync_standin.zhipu import HOME_ID
from tests.standin.zhipu.client import START, DirectZhipu

URL = "http://127.0.0.1:9753/callback/x"
FIELDS = {"knowledge_type": "1", "callback_url": URL, "callback_header": '{"x-secret": "s"}'}


def letters(service: DirectZhipu) -> list[Letter]:
    return service.app.letters


def body_of(letter: Letter) -> dict[str, Any]:
    return dict(json.loads(letter.body))


def test_end_of_vectorizing_triggers_the_callback() -> None:
    service = DirectZhipu(vectorize=(3.0, 3.0))
    ident = service.put(**FIELDS)
    [letter] = letters(service)
    assert (letter.due_at, letter.url) == (START + 3, URL)
    assert letter.headers == {"x-secret": "s"}
    assert body_of(letter)["eventId"] == "knowledge_construction"
    assert (body_of(letter)["event"]["status"], body_of(letter)["event"]["documentId"]) == (1, ident)


def test_failure_and_later_reembed_trigger_the_callback() -> None:
    service = DirectZhipu(stale_stat=2.0)
    service.fault("fails")
    ident = service.put(**FIELDS)
    service.reembed(ident)
    assert [body_of(letter)["event"]["status"] for letter in letters(service)] == [2, 1]


def test_page_callback_has_its_own_fields(service: DirectZhipu) -> None:
    pages = [{"url": f"https://example.org/{name}", "knowledge_type": 1} for name in ("a", "b")]
    pages[1] |= {"callback_url": URL}
    body = {"knowledge_id": HOME_ID, "upload_detail": pages}
    response = service.json("POST", "/document/upload_url", body)["data"]["successInfos"]
    [letter] = letters(service)
    assert body_of(letter)["event"]["documentId"] == response[1]["documentId"]


def test_only_requested_and_finished_documents_trigger_callbacks(service: DirectZhipu) -> None:
    service.put()
    service.fault("stuck")
    service.put("b.txt", **FIELDS)
    assert letters(service) == []


@pytest.mark.parametrize(("form", "count"), [("never", 0), ("twice", 2), ("late", 1), ("slow", 1)])
def test_callbacks_may_be_missing_repeated_or_late(service: DirectZhipu, form: str, count: int) -> None:
    service.fault("callback", form=form, seconds=7)
    service.put(**FIELDS)
    assert len(letters(service)) == count
    assert [letter.due_at for letter in letters(service)] == [START + (7 if form == "late" else 0)] * count
    assert [letter.slow for letter in letters(service)] == [7.0 if form == "slow" else 0.0] * count


def test_callbacks_may_be_wrong(service: DirectZhipu) -> None:
    idents = []
    for form in ("other", "status", "malformed"):
        service.fault("callback", form=form)
        idents.append(service.put(f"{form}.txt", **FIELDS))
    other, status, malformed = letters(service)
    assert body_of(other)["event"]["documentId"] not in idents
    assert body_of(status)["event"]["status"] == 2
    with pytest.raises(ValueError):
        json.loads(malformed.body)


# ---- the account's only address, for documents that don't name one


ACCOUNT_URL = "http://127.0.0.1:9753/events"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": "events.example.org"},
        {"url": ACCOUNT_URL, "callback_header": "x-a: b"},
        {"url": ACCOUNT_URL, "secret": "x"},
    ],
    ids=str,
)
def test_undocumented_callback_fields_are_refused(service: DirectZhipu, body: dict[str, object]) -> None:
    assert service.json("PUT", "/callback", body)["code"] == 400
    assert len(service.app.violations) == 1


def test_account_callback_is_used_for_documents_without_their_own(service: DirectZhipu) -> None:
    service.json("PUT", "/callback", {"url": ACCOUNT_URL, "callback_header": {"x-a": "b"}})
    own_url = "http://127.0.0.1:9753/own"
    plain = service.put("a.txt")
    service.put("b.txt", knowledge_type="1", callback_url=own_url)
    assert [(letter.url, dict(letter.headers)) for letter in service.app.letters] == [
        (ACCOUNT_URL, {"x-a": "b"}),
        (own_url, {}),
    ]
    assert body_of(service.app.letters[0])["event"]["documentId"] == plain
