"""The stand-in has one address for the account, and calls it for documents that name none of their own."""

from __future__ import annotations

import pytest

from tests.standin.zhipu.vendor import DirectZhipu

URL = "http://127.0.0.1:9753/events"


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
def test_what_the_manual_does_not_know_is_refused(vendor: DirectZhipu, body: dict[str, object]) -> None:
    assert vendor.json("PUT", "/callback", body)["code"] == 400
    assert len(vendor.app.violations) == 1


def test_it_is_called_for_documents_without_an_address_of_their_own(vendor: DirectZhipu) -> None:
    vendor.json("PUT", "/callback", {"url": URL, "callback_header": {"x-a": "b"}})
    own = "http://127.0.0.1:9753/own"
    plain = vendor.put("a.txt")
    vendor.put("b.txt", knowledge_type="1", callback_url=own)
    assert [(letter.url, dict(letter.headers)) for letter in vendor.app.letters] == [
        (URL, {"x-a": "b"}),
        (own, {}),
    ]
    assert vendor.app.letters[0].about == plain
