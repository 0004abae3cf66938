"""The stand-in has one address for the account, and calls it for documents that name none of their own."""

from __future__ import annotations

import pytest

from tests.standin.zhipu.vendor import Vendor

URL = "http://127.0.0.1:9753/events"


@pytest.fixture
def vendor() -> Vendor:
    return Vendor()


def test_it_is_set_shown_and_removed(vendor: Vendor) -> None:
    assert vendor.json("GET", "/callback")["data"] is None
    assert vendor.json("PUT", "/callback", {"url": URL, "callback_header": {"x-a": "b"}})["code"] == 200
    shown = {"url": URL, "callback_header": {"x-a": "b"}, "be_in_use": 1}
    assert vendor.json("GET", "/callback")["data"] == shown
    assert vendor.json("DELETE", "/callback")["code"] == 200
    assert vendor.json("GET", "/callback")["data"] is None
    assert [entry["effect"] for entry in vendor.app.journal()] == ["callback-set", "callback-removed"]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": "events.example.org"},
        {"url": URL, "callback_header": "x-a: b"},
        {"url": URL, "secret": "x"},
    ],
    ids=str,
)
def test_what_the_manual_does_not_know_is_refused(vendor: Vendor, body: dict[str, object]) -> None:
    assert vendor.json("PUT", "/callback", body)["code"] == 400
    assert len(vendor.app.violations) == 1


def test_it_is_called_for_documents_without_an_address_of_their_own(vendor: Vendor) -> None:
    vendor.json("PUT", "/callback", {"url": URL, "callback_header": {"x-a": "b"}})
    own = "http://127.0.0.1:9753/own"
    plain = vendor.put("a.txt")
    vendor.put("b.txt", knowledge_type="1", callback_url=own)
    assert [(letter.url, dict(letter.headers)) for letter in vendor.app.letters] == [
        (URL, {"x-a": "b"}),
        (own, {}),
    ]
    assert vendor.app.letters[0].about == plain


def test_all_three_calls_may_be_missing(vendor: Vendor) -> None:
    vendor.app.set_behaviour({"not_offered": ["callback"]})
    answers = [vendor.call(method, "/callback", {"url": URL}) for method in ("GET", "PUT", "DELETE")]
    assert [answer.status for answer in answers] == [404, 404, 404]
    assert vendor.app.violations == []
