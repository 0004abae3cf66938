"""The account's one address: what the vendor may answer, and what is never repeated."""

from __future__ import annotations

from typing import Any

import pytest

from kbsync.contract.managing import Callback
from kbsync.errors import NotOffered, Rejected
from tests.targets.zhipu.vendor import Vendor, failed, ok, target

URL = "https://events.example.org/kb"
SECRET = "s3cr3t-of-the-header"


@pytest.mark.parametrize(
    ("data", "known"),
    [
        (
            {"url": URL, "callback_header": {"X-Token": SECRET}, "be_in_use": 1},
            Callback(URL, ("X-Token",), True),
        ),
        ({"url": URL, "callback_header": f'{{"X-Token": "{SECRET}"}}'}, Callback(URL, ("X-Token",))),
        ({"url": URL, "callback_header": SECRET, "be_in_use": 0}, Callback(URL, in_use=False)),
        ({"url": URL, "callback_header": None, "be_in_use": "1"}, Callback(URL)),
        ({"url": " ", "callback_header": {}, "be_in_use": 0}, None),
        ({"url": None}, None),
        ({}, None),
        (None, None),
        ([], None),
    ],
)
async def test_what_is_set_is_read_in_every_form(data: Any, known: Callback | None) -> None:
    found = await target(Vendor(callback=[ok(data)])).callbacks.look()
    assert found == known
    assert SECRET not in repr(found)


@pytest.mark.parametrize("reply", [404, 405, 501, (404, failed(404, "Not Found")), failed(1222)], ids=str)
async def test_a_missing_call_is_told_as_one(reply: Any) -> None:
    vendor = Vendor(callback=[reply], set_callback=[reply], delete_callback=[reply])
    callbacks = target(vendor).callbacks
    for deed in (callbacks.look(), callbacks.set_url(URL, {}), callbacks.remove()):
        with pytest.raises(NotOffered):
            await deed


async def test_words_say_that_there_is_none() -> None:
    gone = failed(400, "回调地址不存在")
    callbacks = target(Vendor(callback=[gone], delete_callback=[gone])).callbacks
    assert await callbacks.look() is None
    await callbacks.remove()


async def test_headers_are_sent_where_there_are_any() -> None:
    vendor = Vendor(set_callback=[ok()])
    await target(vendor).callbacks.set_url(URL, {})
    assert vendor.body("set_callback") == {"url": URL}
    await target(vendor).callbacks.set_url(URL, {"X-Token": SECRET})
    assert vendor.body("set_callback") == {"url": URL, "callback_header": {"X-Token": SECRET}}


@pytest.mark.parametrize("echo", [SECRET, f"{'x' * 80} {SECRET}", SECRET * 20])
async def test_no_error_repeats_a_header(echo: str) -> None:
    vendor = Vendor(set_callback=[failed(1214, f"callback_header {echo}")])
    with pytest.raises(Rejected) as caught:
        await target(vendor).callbacks.set_url(URL, {"X-Token": SECRET})
    assert SECRET[:4] not in caught.value.reason + str(caught.value)
    assert "1214" in str(caught.value)
