"""Tests that the stand-in returns images of documents like the manual's example."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import pytest

from tests.standin.zhipu.client import DirectZhipu

PLACEHOLDER = "【示意图序号_1829473032620613632_103】"
TEXT = f"The badge looks like {PLACEHOLDER}.\n\nAgain {PLACEHOLDER}.\n"


def listed(service: DirectZhipu, ident: str) -> object:
    return service.json("POST", f"/document/slice/image_list/{ident}")["data"]


def test_each_placeholder_in_the_text_has_an_address_of_an_image(service: DirectZhipu) -> None:
    data = service.json("POST", f"/document/slice/image_list/{service.put(text=TEXT)}")["data"]
    [image] = data["images"]
    assert image["text"] == PLACEHOLDER
    parts = urlsplit(image["cos_url"])
    request = service.request("GET", parts.path, query=dict(parse_qsl(parts.query)))
    del request.headers["authorization"]
    response = service.send(request)
    assert (response.status, response.headers["content-type"]) == (200, "image/png")
    assert response.body.startswith(b"\x89PNG")
    assert service.app.violations == []


def test_a_document_without_images_has_an_empty_list(service: DirectZhipu) -> None:
    assert listed(service, service.put()) == {"images": []}
    assert service.json("POST", "/document/slice/image_list/17")["code"] != 200


@pytest.mark.parametrize(
    ("form", "expected"), [("none", {"images": []}), ("null", None), ("missing", {})], ids=str
)
def test_images_may_be_missing(service: DirectZhipu, form: str, expected: object) -> None:
    ident = service.put(text=TEXT)
    service.fault("pictures", form=form)
    assert listed(service, ident) == expected


@pytest.mark.parametrize("form", ["others", "malformed"])
def test_images_may_belong_to_other_documents(service: DirectZhipu, form: str) -> None:
    ident = service.put(text=TEXT)
    service.fault("pictures", form=form)
    assert PLACEHOLDER not in str(listed(service, ident))
