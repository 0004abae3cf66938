"""The address to call goes with everything that makes the vendor index, and shows nowhere else."""

from __future__ import annotations

import json

import pytest

from kbsync.contract.target import Outgoing
from kbsync.errors import Rejected
from tests.targets.blocks import around
from tests.targets.zhipu.vendor import FIRST_ID, Vendor, document, failed, ok, row, settings, stored, target

SECRET = "5ec4e7" * 6
URL = f"https://kb.example/callback/{SECRET}"


def field(vendor: Vendor, name: str) -> bool:
    return f'name="{name}"'.encode() in vendor.requests[-1].content


async def test_an_upload_tells_where_to_call() -> None:
    vendor = Vendor(upload=[stored()])
    await target(vendor, callback_url=URL).put([document()])
    assert field(vendor, "callback_url")
    assert URL.encode() in vendor.requests[-1].content


async def test_a_gateway_before_the_listener_is_shown_its_header() -> None:
    header = {"Authorization": "Bearer of-the-gateway"}
    told = {"callback_url": URL, "callback_header": header}
    vendor = Vendor(upload=[stored()], reembed=[ok()], reslice=[ok()], detail=[ok(row())])
    one = target(vendor, callback_url=URL, callback_authorization=header["Authorization"])
    await one.put([document()])
    assert field(vendor, "callback_header")
    assert json.dumps(header).encode() in vendor.requests[-1].content
    await one.reembed(FIRST_ID)
    assert vendor.body("reembed") == told
    await one.reslice(FIRST_ID, "a.md", {})
    assert vendor.body("reslice") == {"knowledge_type": 1, **told}
    assert header["Authorization"] not in repr(settings(callback_authorization=header["Authorization"]))


async def test_without_an_address_nothing_is_told() -> None:
    vendor = Vendor(upload=[stored()], reembed=[ok()])
    one = target(vendor)
    await one.put([document()])
    assert not field(vendor, "callback_url")
    await one.reembed(FIRST_ID)
    assert vendor.body("reembed") == {}


async def test_the_secret_is_in_no_message_and_no_repr() -> None:
    assert SECRET not in repr(around(callback_url=URL))
    vendor = Vendor(upload=[failed(1214, f"callback_url {URL} is not reachable, {SECRET}")])
    sent: Outgoing = document()
    [outcome] = await target(vendor, callback_url=URL).put([sent])
    assert isinstance(outcome, Rejected)
    assert SECRET not in outcome.reason + str(outcome)


@pytest.mark.parametrize(
    ("header", "echo"),
    [
        ("Bearer of-the-gateway", "of-the-gateway"),
        ("Bearer of-the-gateway", "bearer of-the-gateway"),
        ("of-the-gateway", "of-the-gateway"),
        ('Token token="of-the-gateway", user="us"', "token of-the-gateway"),
        ("Basic of-the-gateway==", "of-the-gateway"),
    ],
)
async def test_no_part_of_the_gateways_header_is_repeated(header: str, echo: str) -> None:
    vendor = Vendor(upload=[failed(1214, f"Bearer of {echo} is refused: {header}")])
    [outcome] = await target(vendor, callback_url=URL, callback_authorization=header).put([document()])
    assert isinstance(outcome, Rejected)
    assert "of-the-gateway" not in outcome.reason + str(outcome)
    assert "Bearer of" in outcome.reason
