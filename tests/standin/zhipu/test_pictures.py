"""Tests that the stand-in returns images of documents like the manual's example."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.standin.zhipu.vendor import DirectZhipu

PLACEHOLDER = "【示意图序号_1829473032620613632_103】"
TEXT = f"The badge looks like {PLACEHOLDER}.\n\nAgain {PLACEHOLDER}.\n"


def listed(vendor: DirectZhipu, ident: str) -> object:
    return vendor.json("POST", f"/document/slice/image_list/{ident}")["data"]


def test_each_placeholder_in_the_text_has_an_address_of_an_image() -> None:
    vendor = DirectZhipu()
    data = vendor.json("POST", f"/document/slice/image_list/{vendor.put(text=TEXT)}")["data"]
    [image] = data["images"]
    assert image["text"] == PLACEHOLDER
    parts = urlsplit(image["cos_url"])
    request = vendor.request("GET", parts.path, query=dict(parse_qsl(parts.query)))
    del request.headers["authorization"]
    answer = vendor.send(request)
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    assert answer.body.startswith(b"\x89PNG")
    assert vendor.app.violations == []


def test_a_document_without_images_has_an_empty_list() -> None:
    vendor = DirectZhipu()
    assert listed(vendor, vendor.put()) == {"images": []}
    assert vendor.json("POST", "/document/slice/image_list/17")["code"] != 200


@pytest.mark.parametrize(
    ("form", "told"), [("none", {"images": []}), ("null", None), ("missing", {})], ids=str
)
def test_images_may_be_missing(form: str, told: object) -> None:
    vendor = DirectZhipu()
    ident = vendor.put(text=TEXT)
    vendor.fault("pictures", form=form)
    assert listed(vendor, ident) == told


@pytest.mark.parametrize("form", ["others", "malformed"])
def test_images_may_belong_to_other_documents(form: str) -> None:
    vendor = DirectZhipu()
    ident = vendor.put(text=TEXT)
    vendor.fault("pictures", form=form)
    assert PLACEHOLDER not in str(listed(vendor, ident))
