"""A list of pages as text, and the refresh of link files in a config."""

from __future__ import annotations

import json

import pytest

from kbsync.config.links import Unusable, read_list
from kbsync.core.links import Link, read_link


def links(text: str) -> dict[str, Link]:
    return {name: read_link(name, content) for name, content in read_list(text.encode()).items()}


def test_an_entry_is_an_address_or_a_block() -> None:
    text = "- https://a.org/x\n- {url: https://b.org, name: The handbook, refresh: 1d, knowledge_type: 2}\n"
    found = links(text)
    assert list(found.values()) == [
        Link("https://a.org/x"),
        Link("https://b.org", {"refresh": "1d", "knowledge_type": 2}),
    ]
    assert list(found)[1] == "The handbook.url"


def test_a_name_that_is_not_given_stays_and_is_no_others() -> None:
    first = list(links("- https://a.org/x?a=1\n- https://a.org/x?a-1\n"))
    assert len(set(first)) == 2
    assert list(links("- https://b.org\n- https://a.org/x?a=1\n"))[1] == first[0]
    assert all("/" not in name and len(name) < 90 for name in links(f"- https://a.org/{'x' * 500}\n"))


def test_settings_that_go_together_are_taken() -> None:
    settings = {"knowledge_type": 5, "custom_separator": ["x"], "sentence_size": 500, "splitter": "x"}
    (link,) = links(f"- {json.dumps({'url': 'https://a.org', **settings})}\n").values()
    assert link.settings == settings


def test_an_empty_list_is_one() -> None:
    assert links("[]") == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "holds no list"),
        ("# nothing\n", "holds no list"),
        ("a: b\n", "holds no list"),
        ("- 5\n", "line 1: an entry"),
        ("- a: b\n", "line 1: unknown key a"),
        ("- name: b\n", "line 1: url is missing"),
        ("- url: [a]\n", "line 1: url is no text"),
        ("- {url: https://a.org, header_row: 2}\n", "unknown key header_row"),
        ("- {url: https://a.org, refresh: 1m}\n", "refresh"),
        ("- {url: https://a.org, refresh: daily}\n", "refresh"),
        ("- {url: https://a.org, name: .hidden}\n", "name"),
        ("- {url: https://a.org, name: ''}\n", "name"),
        (
            "- {url: https://a.org, knowledge_type: 6}\n",
            "line 1: knowledge_type: 6 .* 1, 2, 5",
        ),
        ("- {url: https://a.org, knowledge_type: 3}\n", "knowledge_type: 3 does not take url"),
        ("- {url: https://a.org, sentence_size: 500}\n", "sentence_size: .*knowledge_type 5"),
        ("- {url: https://a.org, knowledge_type: 2, custom_separator: [x]}\n", "custom_separator: .*type 5"),
        ("- {url: https://a.org, splitter: x, chunk_token: 300}\n", "splitter: excludes chunk_token"),
        ("- https://a.org\n-\n", "line 2"),
        ("- {url: https://a.org, url: https://b.org}\n", "twice"),
        ("- &a [*a]\n", "line 1"),
    ],
)
def test_a_mistake_is_named_with_its_line(text: str, words: str) -> None:
    with pytest.raises(Unusable, match=words):
        read_list(text.encode())


def test_other_encodings_are_refused() -> None:
    with pytest.raises(Unusable, match="UTF-8"):
        read_list("- https://a.org/ä".encode("latin-1"))
