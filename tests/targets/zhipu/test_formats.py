"""Tests recipes, valid ways of splitting, and limits."""

from __future__ import annotations

import re
from typing import Any

import pytest

from kbsync.targets.zhipu.config import (
    EXTENSIONS,
    SLICES,
    describe_recipe,
    recipe_of,
    reslicing_of,
    slicing_of,
)
from kbsync.targets.zhipu.shapes import document_of
from tests.targets.zhipu.scripted import BASE, FIRST_ID, ScriptedService, document, ok, row, stored, target

CUSTOM = {"knowledge_type": 5, "custom_separator": ["\n\n", "。"], "sentence_size": 500}


@pytest.mark.parametrize("extension", sorted(EXTENSIONS))
def test_tables_are_sliced_by_rows_and_texts_by_paragraphs(extension: str) -> None:
    kind = "k3" if extension in {"xls", "xlsx", "csv"} else "k1"
    assert recipe_of(slicing_of(f"deep/x.{extension.upper()}", {})) == kind


@pytest.mark.parametrize(
    ("path", "settings", "recipe"),
    [
        ("a.md", {"knowledge_type": 2}, "k2"),
        ("a.pdf", {"knowledge_type": 6}, "k6"),
        ("a.csv", {"knowledge_type": 7}, "k7"),
        ("a.md", {"knowledge_type": 6}, "k1"),
        ("a.csv", {"knowledge_type": 5}, "k3"),
        ("a.md", {"knowledge_type": 3}, "k1"),
        ("a.md", {"parse_image": True}, "k1:images"),
        ("a.pdf", {"parse_image": True, "knowledge_type": 6}, "k6:images"),
        ("a.md", {"sentence_size": 500}, "k1"),
        ("a.md", {"custom_separator": ["x"], "knowledge_type": 2}, "k2"),
        ("a.md", {"word_num_limit": 500}, "k1!w500"),
        ("a.pdf", {"word_num_limit": 500, "knowledge_type": 6, "parse_image": True}, "k6:images!w500"),
        ("a.url", {"word_num_limit": 500}, "k1"),
    ],
)
def test_recipe_consists_of_the_slicing_settings(path: str, settings: dict[str, Any], recipe: str) -> None:
    assert recipe_of(slicing_of(path, settings)) == recipe


def test_recipes_without_a_limit_equal_those_of_former_versions() -> None:
    """The texts are in the state of every user: other texts would cause all documents to be sent again."""
    former = {
        "k1": {},
        "k6:images": {"knowledge_type": 6, "parse_image": True},
        "k5:d42b5f56": {"knowledge_type": 5},
        "k5:9372a862": CUSTOM,
    }
    assert [recipe_of(slicing_of("a.pdf", given)) for given in former.values()] == list(former)


def test_stored_document_is_split_again_without_a_word_limit() -> None:
    slicing = slicing_of("a.md", {**CUSTOM, "word_num_limit": 500, "parse_image": True})
    assert reslicing_of(slicing) == CUSTOM
    assert slicing == {**CUSTOM, "word_num_limit": 500, "parse_image": True}


def test_custom_separators_and_sizes_make_their_own_recipes() -> None:
    def recipe(**changes: Any) -> str:
        return recipe_of(slicing_of("a.md", {**CUSTOM, **changes})) or ""

    assert recipe().startswith("k5:")
    assert len({recipe(), recipe(sentence_size=501), recipe(custom_separator=["\n\n"])}) == 3
    assert recipe(parse_image=True) == f"{recipe()}:images"


async def test_form_fields_depend_on_the_type() -> None:
    service = ScriptedService(upload=[stored()])
    custom = {**CUSTOM, "parse_image": True, "word_num_limit": 500}
    for name, settings, fields in (
        ("a.csv", CUSTOM, {"knowledge_type": "3"}),
        (
            "a.md",
            custom,
            {
                "knowledge_type": "5",
                "custom_separator": '["\\n\\n","。"]',
                "sentence_size": "500",
                "parse_image": "true",
                "word_num_limit": "500",
            },
        ),
    ):
        await target(service).put([document(name, **settings)])
        sent = service.requests[-1].content.decode()
        parts = dict(re.findall(r'name="(\w+)"\r\n\r\n(.*?)\r\n--', sent))
        assert parts == {"req_id": "kbsync-7", **fields}


async def test_link_settings_reach_the_service() -> None:
    service = ScriptedService(upload_url=[stored()])
    callback = {"callback_url": "https://kb.example.org/callback/secret"}
    subject = target(service, **callback)
    link = document("a.url", b"[InternetShortcut]\nURL=https://x.example/0\n", **CUSTOM, parse_image=True)
    await subject.put([link])
    page = {"url": "https://x.example/0", **CUSTOM, **callback}
    assert service.body("upload_url") == {"knowledge_id": BASE, "upload_detail": [page]}


@pytest.mark.parametrize(
    ("fields", "recipe"),
    [
        ({}, "k1"),
        ({"knowledge_type": "3"}, "k3"),
        ({"knowledge_type": 0}, "k0"),
        ({"parse_image": 1}, "k1:images"),
        ({"parse_image": True}, "k1:images"),
        ({"parse_image": None}, None),
        ({"knowledge_type": None}, None),
        ({"knowledge_type": 5}, None),
        ({"knowledge_type": 5, "sentence_size": 300, "custom_separator": None}, None),
    ],
)
def test_listed_document_has_a_recipe_when_the_list_has_enough_fields(
    fields: dict[str, Any], recipe: str | None
) -> None:
    listed = document_of(ok(row(**fields)), FIRST_ID)
    assert listed is not None
    assert listed.recipe == recipe


@pytest.mark.parametrize("separators", [["\n\n", "。"], '["\\n\\n", "。"]'])
@pytest.mark.parametrize("size", [500, "500"])
def test_recipe_of_a_listed_document_equals_the_sent_one(separators: Any, size: Any) -> None:
    fields = {"knowledge_type": 5, "custom_separator": separators, "sentence_size": size}
    listed = document_of(ok(row(**fields)), FIRST_ID)
    assert listed is not None
    assert listed.recipe == recipe_of(slicing_of("a.md", CUSTOM))


def test_limits_come_from_the_service_and_the_config() -> None:
    limits = target(
        ScriptedService(), max_bytes=5, concurrency=3, reembed_tries=1, poll_first=0.2, give_up=60.0
    ).limits
    files = {"txt", "doc", "pdf", "docx", "ppt", "pptx", "md", "xls", "xlsx", "csv"}
    assert limits.extensions - limits.links == files
    assert limits.links == {"url", "webloc", "desktop"}
    assert (limits.batch, limits.marks, limits.list_lag, limits.embedded) == (1, False, 1.0, False)
    assert (limits.max_bytes, limits.concurrency, limits.reembed_tries, limits.give_up) == (5, 3, 1, 60.0)
    assert limits.reembed_grace == 2.0
    assert target(ScriptedService()).limits.reembed_grace == 10.0


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ("k1", "knowledge_type 1"),
        ("k6:images", "knowledge_type 6 with parse_image"),
        ("k5:1f0c9a3b", "knowledge_type 5 (separators and size 1f0c9a3b)"),
        ("k5:1f0c9a3b:images", "knowledge_type 5 (separators and size 1f0c9a3b) with parse_image"),
        ("k1!w500", "knowledge_type 1 and word_num_limit 500"),
        ("k1:images!w500", "knowledge_type 1 with parse_image and word_num_limit 500"),
        ("t600", ""),
        ("", ""),
    ],
)
def test_recipe_is_described_in_the_words_of_the_config(recipe: str, words: str) -> None:
    assert describe_recipe(recipe) == words


def test_every_recipe_can_be_described() -> None:
    settings = [
        CUSTOM,
        *({"knowledge_type": n, "parse_image": images} for n in SLICES for images in (True, False)),
    ]
    recipes = {
        recipe_of(slicing_of(f"a.{extension}", setting)) for extension in EXTENSIONS for setting in settings
    }
    assert len({describe_recipe(recipe) for recipe in recipes} - {""}) == len(recipes)
