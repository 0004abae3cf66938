from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from kbsync.index.embed import TOKENIZER, Vocabulary, wordllama_folder
from tests.share import long

CONTENT = (wordllama_folder() / TOKENIZER).read_bytes()
DOCS = sorted((Path(__file__).parents[2] / "docs").rglob("*.md"))


@pytest.fixture(scope="module")
def vocabulary() -> Vocabulary:
    return Vocabulary(CONTENT)


@pytest.fixture(scope="module")
def library() -> Any:
    return Tokenizer.from_str(CONTENT.decode())


def expected(library: Any, text: str) -> list[int]:
    return list(library.encode(text, add_special_tokens=False).ids)


@long
def test_token_ranks_follow_the_merge_order_of_the_file(vocabulary: Vocabulary) -> None:
    model = json.loads(CONTENT)["model"]
    ids = model["vocab"]
    pairs = [
        (token[:cut], token[cut:])
        for token in ids
        for cut in range(1, len(token))
        if token[:cut] in ids and token[cut:] in ids
    ]
    ranks = {pair: vocabulary.rank(*pair) for pair in pairs}
    assert None not in ranks.values()
    ordered = sorted(pairs, key=lambda pair: ranks[pair] or (True, 0, 0, 0))
    assert [" ".join(pair) for pair in ordered] == model["merges"]


def test_no_token_has_a_space_after_another_character() -> None:
    assert not [
        token for token in json.loads(CONTENT)["model"]["vocab"] if "\u2581" in token.lstrip("\u2581")
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "   ",
        "a",
        " a",
        "a  b   c ",
        "员工每年有三十天假期。",
        "𠮷野家 🙂",
        "naïve façade",
        "\t\n",
        "\u2581x",
    ],
)
def test_unusual_texts_have_the_tokens_of_the_library(
    vocabulary: Vocabulary, library: Any, text: str
) -> None:
    assert vocabulary.encode(text) == expected(library, text)


@long
def test_docs_lines_have_the_tokens_of_the_library(vocabulary: Vocabulary, library: Any) -> None:
    lines = {line for path in DOCS for line in path.read_text().splitlines() if "<" not in line}
    assert len(lines) > 1_000
    for line in lines:
        assert vocabulary.encode(line[:300]) == expected(library, line[:300])


@long
@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), max_size=60).filter(lambda text: "<" not in text)
)
def test_any_text_has_the_tokens_of_the_library(vocabulary: Vocabulary, library: Any, text: str) -> None:
    assert vocabulary.encode(text) == expected(library, text)
