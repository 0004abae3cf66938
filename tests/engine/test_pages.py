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


LINK = ("HTTPS://Example.org:443/guides/faq.pdf", ("HTTPS://Example.org:443/guides/faq.pdf",))


@pytest.mark.parametrize(
    ("name", "addresses", "at", "verdict"),
    [
        *((ADDRESS, (ADDRESS,), at, "seen") for at in (0.0, -4.0, 100.0)),
        *((ADDRESS, (ADDRESS,), at, "doubt") for at in (-60.0, 600.0, None)),
        *((ADDRESS, (ADDRESS,), at, "neither") for at in (-600.0, 3600.0)),
        (*LINK, 0.0, "seen"),
        ("Welcome", (ADDRESS,), 0.0, "seen"),
        ("Welcome", ("https://cdn.example/knowledge/1.html?q-sign=1",), 0.0, "doubt"),
        ("Welcome", (), 0.0, "doubt"),
        ("faq.pdf", (), 0.0, "doubt"),
        ("guide.pdf", (), 0.0, "neither"),
        ("notes~mfrggzdf.md", (), 0.0, "neither"),
        ("https://example.org/another", ("https://example.org/another",), 0.0, "neither"),
    ],
)
def test_address_and_moment_prove_a_page_and_names_tell_it_from_files(
    name: str, addresses: tuple[str, ...], at: float | None, verdict: str
) -> None:
    """`at`: made so many seconds after the request."""
    limits = Limits(extensions=frozenset({"md", "pdf", "url"}), links=frozenset({"url"}))
    settings, rules = MirrorSettings("docs", Path("/srv"), "zhipu"), Rules(None, (), limits)
    binding = Binding(settings, 1, 1, limits, Abilities(), lambda _path: "k1", rules, Path("/tmp"))
    row = Upload(1, 1, 1, "a.url", "a.url", ADDRESS, "", 9, "k1", UploadState.UNSURE, sent_at=SENT)
    page = Page(binding, row, trusts_times=True)
    page.see(Listed("7", name, created=None if at is None else SENT + at, addresses=addresses))
    assert ("seen" if page.seen else "doubt" if page.doubts else "neither") == verdict
