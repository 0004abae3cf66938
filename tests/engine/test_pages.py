"""Which listed documents are, or may be, the page of a link file whose answer was lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbsync.contract.target import Listed
from kbsync.core.model import Abilities, Limits, Upload, UploadState
from kbsync.core.selection import Rules
from kbsync.engine.lost_uploads import Page
from kbsync.engine.settings import Binding, MirrorSettings

SENT = 1_800_000_000.0
ADDRESS = "https://example.org/guides/faq.pdf"


def judged(name: str, *addresses: str, at: float | None = 0.0, names: str = "tagged") -> str:
    """What becomes of a document of this name, made `at` seconds after the request."""
    limits = Limits(extensions=frozenset({"md", "pdf", "url"}), links=frozenset({"url"}))
    binding = Binding(
        settings=MirrorSettings("docs", Path("/srv"), "zhipu", names=names),
        mirror=1,
        id=1,
        limits=limits,
        abilities=Abilities(),
        recipe=lambda _path: "k1",
        rules=Rules(None, (), limits),
        spool_dir=Path("/tmp"),
    )
    row = Upload(1, 1, 1, "a.url", "a.url", ADDRESS, "", 9, "k1", UploadState.UNSURE, sent_at=SENT)
    page = Page(binding, row, trusts_times=True)
    page.see(Listed("7", name, created=None if at is None else SENT + at, addresses=addresses))
    return "seen" if page.seen else "doubt" if page.doubts else "neither"


@pytest.mark.parametrize(
    ("at", "verdict"),
    [
        (0.0, "seen"),
        (-4.0, "seen"),
        (100.0, "seen"),
        (-60.0, "doubt"),
        (600.0, "doubt"),
        (None, "doubt"),
        (-600.0, "neither"),
        (3600.0, "neither"),
    ],
)
def test_its_address_proves_a_page_of_the_moment_alone(at: float | None, verdict: str) -> None:
    assert judged(ADDRESS, ADDRESS, at=at) == verdict


@pytest.mark.parametrize(
    ("name", "addresses", "verdict"),
    [
        ("HTTPS://Example.org:443/guides/faq.pdf", ("HTTPS://Example.org:443/guides/faq.pdf",), "seen"),
        ("Welcome", (ADDRESS,), "seen"),
        ("Welcome", ("https://cdn.example/knowledge/1.html?q-sign=1",), "doubt"),
        ("Welcome", (), "doubt"),
        ("faq.pdf", (), "doubt"),
        ("guide.pdf", (), "neither"),
        ("notes.md", (), "neither"),
        ("https://example.org/another", ("https://example.org/another",), "neither"),
        ("notes~mfrggzdf.md", (), "neither"),
    ],
)
def test_what_the_list_calls_it_tells_pages_from_files(
    name: str, addresses: tuple[str, ...], verdict: str
) -> None:
    assert judged(name, *addresses) == verdict


def test_a_plain_name_says_nothing_of_whose_it_is() -> None:
    assert judged("Welcome", names="plain") == "doubt"
