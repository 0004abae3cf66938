"""Tests that a user can see everywhere which promises a service doesn't allow kbsync to keep."""

from __future__ import annotations

import re

import pytest

from kbsync.contract.promises import PROMISES, describe_unkept
from kbsync.targets.registry import TARGETS
from tests.conformance import promises
from tests.docs.pages import ROOT

PAGES = ROOT / "docs" / "targets"


def test_promises_match_the_page() -> None:
    headings = re.findall(r"^## (\d+)\. (.+)$", (ROOT / "docs" / "promises.md").read_text(), re.MULTILINE)
    assert {int(number): title for number, title in headings} == dict(PROMISES)


def test_docs_table_matches_the_generated_one() -> None:
    """Run `python -m tests.conformance.promises` to generate it again."""
    text = (PAGES / "README.md").read_text().partition(promises.HEAD)
    assert (text[1] + text[2]).partition("\n\n")[0].rstrip("\n") == promises.table()


@pytest.mark.parametrize("name", TARGETS)
def test_each_type_documents_the_promises_it_does_not_keep(name: str) -> None:
    unkept = TARGETS[name].unkept
    assert unkept.keys() <= PROMISES.keys()
    for instead in unkept.values():
        assert (
            instead == instead.strip()
            and not instead.endswith(".")
            and "\n" not in instead
            and "|" not in instead
        )
    assert promises.missing_on_page((PAGES / f"{name}.md").read_text(), unkept) == []


@pytest.mark.parametrize("name", TARGETS)
def test_each_type_passes_the_suite_somewhere(name: str) -> None:
    assert list(promises.tried_on(name))


def test_page_that_omits_a_promise_is_detected() -> None:
    unkept = {2: "a gap while it is replaced", 7: "a rename is sent again"}
    page = "Promise 2 does not hold; promise 11 does, and so does [promise 1](../promises.md)."
    assert promises.missing_on_page(page, unkept) == [7]
    assert promises.missing_on_page(f"{page} [Promise 7](../promises.md) neither.", unkept) == []


def test_unkept_promise_is_named_with_what_holds_instead() -> None:
    assert list(describe_unkept({7: "b", 2: "a"})) == [
        ("promise 2", "not kept here (never absent while replaced): a"),
        ("promise 7", "not kept here (same bytes, no work): b"),
    ]
