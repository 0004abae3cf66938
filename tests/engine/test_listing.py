"""Tests who owns a listed document: the table of `identify`, and web pages whose response was lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from kbsync.contract.target import Limits, Listed
from kbsync.core.model import Abilities, Phase, Upload
from kbsync.core.model import UploadState as S
from kbsync.core.names import Naming
from kbsync.core.selection import Rules
from kbsync.engine.listing import Whose, identify
from kbsync.engine.settings import Binding, MirrorSettings

SENT = 1_800_000_000.0
DIGEST, OTHER = "ab" * 32, "cd" * 32
NAME, SIZE, MARK = Naming().name("a.md", DIGEST), 9, 4

TAGGED = Limits(extensions=frozenset({"md", "pdf", "url"}), links=frozenset({"url"}))
PLAIN = replace(TAGGED, paid=True)  # the test tells it from TAGGED
MARKS = Limits(marks=True)
EMBEDDED = replace(MARKS, embedded=True)
IDS_RETURN = replace(TAGGED, ids_return=True)


def binding_with(limits: Limits) -> Binding:
    names = "plain" if limits is PLAIN else "tagged"
    settings, rules = MirrorSettings("docs", Path("/srv"), "zhipu", names=names), Rules(None, (), limits)
    return Binding(settings, 1, 1, limits, Abilities(), lambda _path: "k1", rules, Path("/tmp"))


def row(state: S, **more: Any) -> Upload:
    """Return an upload of a.md. `id`: `MARK`."""
    values = {"name": NAME, "digest": DIGEST, "size": SIZE, "recipe": "k1", "sent_at": SENT, **more}
    return Upload(MARK, values.pop("mirror", 1), 1, "a.md", "a.md", state=state, **values)


def others_upload(state: S) -> Upload:
    return row(state, mirror=2)


def named(name: str = NAME, size: int | None = SIZE, created_after: float | None = 1.0) -> Listed:
    """Return a row of a target without marks. `created_after`: its creation, in seconds after the request."""
    return Listed("7", name, size, None if created_after is None else SENT + created_after)


def marked(number: int | None = MARK, digest: str = DIGEST, path: str | None = "a.md") -> Listed:
    return Listed("7", "a.md", SIZE, path=path, digest=digest, upload_id=number)


UNSURE, LOST = row(S.UNSURE), row(S.PRESUMED_LOST)
GONE, TOMBSTONE, SERVES = (row(state, remote_id="7") for state in (S.GONE, S.TOMBSTONE, S.SERVING))


@pytest.mark.parametrize(
    ("limits", "listed", "holders", "candidates", "owner"),
    [
        # Rows have its id: the row that needs it most decides.
        (TAGGED, named(), [SERVES], [], Whose.ROW),
        (TAGGED, named("renamed in the console.md"), [SERVES], [], Whose.ROW),
        (TAGGED, named(), [row(S.INDEXING)], [], Whose.ROW),
        (TAGGED, named(), [row(S.FAILED)], [], Whose.ROW),
        (TAGGED, named(), [row(S.RETIRING)], [], Whose.ROW),
        (TAGGED, named(), [row(S.RETIRING, attempts=3)], [], Whose.OURS_UNNEEDED),
        (TAGGED, named(), [TOMBSTONE], [], Whose.OURS_UNNEEDED),
        (TAGGED, named(), [GONE], [], Whose.OURS_UNNEEDED),
        (TAGGED, named(), [GONE, SERVES], [], Whose.ROW),
        (TAGGED, named(), [row(S.ADOPTING)], [], Whose.PATH),
        (MARKS, marked(), [row(S.ADOPTING, phase=Phase.MARKED)], [], Whose.OURS_UNNEEDED),
        (TAGGED, named(), [others_upload(S.SERVING)], [], Whose.OTHERS),
        (TAGGED, named(), [others_upload(S.GONE)], [], Whose.OTHERS),
        (TAGGED, named(), [others_upload(S.SERVING), GONE], [], Whose.OTHERS),
        (TAGGED, named(), [others_upload(S.GONE), GONE], [], Whose.OURS_UNNEEDED),
        # It has the name and length of an open upload, and no row has its id.
        (TAGGED, named(), [], [UNSURE], Whose.OPEN),
        (TAGGED, named(), [], [row(S.SENDING)], Whose.OPEN),
        (TAGGED, named(), [], [LOST], Whose.OURS_UNNEEDED),
        (TAGGED, named(), [], [LOST, UNSURE], Whose.OPEN),
        (TAGGED, named(NAME.replace(".md", "(1).md")), [], [UNSURE], Whose.OPEN),
        (TAGGED, named(size=None), [], [UNSURE], Whose.OPEN),
        (TAGGED, named(size=8), [], [UNSURE], Whose.PATH),
        (TAGGED, named(created_after=None), [], [UNSURE], Whose.OPEN),
        (TAGGED, named(created_after=-200.0), [], [UNSURE], Whose.OPEN),
        (TAGGED, named(created_after=-300.0), [], [UNSURE], Whose.PATH),
        (TAGGED, named(), [SERVES], [UNSURE], Whose.ROW),
        (TAGGED, named(), [GONE], [UNSURE], Whose.OURS_UNNEEDED),
        (IDS_RETURN, named(), [GONE], [UNSURE], Whose.OPEN),
        (IDS_RETURN, named(), [TOMBSTONE], [UNSURE], Whose.OURS_UNNEEDED),
        (PLAIN, named("a.md"), [], [row(S.UNSURE, name="a.md")], Whose.OPEN),
        (PLAIN, named("a.md"), [], [row(S.PRESUMED_LOST, name="a.md")], Whose.OPEN),
        # It has the mark of an upload that is open, or has no document or another one.
        (MARKS, marked(), [], [UNSURE], Whose.OPEN),
        (MARKS, marked(), [], [LOST], Whose.OURS_UNNEEDED),
        (MARKS, marked(), [SERVES], [UNSURE], Whose.OPEN),  # updated in place
        (MARKS, marked(digest=OTHER), [], [UNSURE], Whose.PATH),
        (MARKS, marked(), [], [others_upload(S.UNSURE)], Whose.PATH),
        (MARKS, marked(), [], [row(S.DROPPED)], Whose.OURS_UNNEEDED),
        (MARKS, marked(path=None), [], [row(S.DROPPED)], Whose.OURS_UNNEEDED),
        (MARKS, marked(), [], [row(S.SERVING, remote_id="6")], Whose.OURS_UNNEEDED),
        (MARKS, marked(), [SERVES], [SERVES], Whose.ROW),
        (EMBEDDED, marked(), [], [], Whose.OURS_UNNEEDED),
        (EMBEDDED, marked(), [others_upload(S.SERVING)], [], Whose.OURS_UNNEEDED),
        # No row decides: its mark or its name may.
        (MARKS, marked(), [], [], Whose.PATH),
        (MARKS, marked(None), [], [], Whose.PATH),
        (MARKS, marked(path=None), [], [], Whose.FOREIGN),
        (EMBEDDED, marked(path=None), [], [], Whose.FOREIGN),
        (TAGGED, named(), [], [], Whose.PATH),
        (TAGGED, named("a.md"), [], [], Whose.FOREIGN),
        (PLAIN, named("a.md"), [], [], Whose.PATH),
    ],
)
def test_owner_of_a_listed_document(
    limits: Limits, listed: Listed, holders: Sequence[Upload], candidates: Sequence[Upload], owner: Whose
) -> None:
    claim = identify(binding_with(limits), listed, holders, candidates, trusts_times=True)
    assert claim.whose is owner
    assert claim.path == ("" if owner in (Whose.FOREIGN, Whose.OTHERS) else "a.md")
    is_open = owner is Whose.OPEN or (owner is Whose.OURS_UNNEEDED and LOST in candidates)
    assert claim.uploads == (tuple(candidates) if is_open else ())


@pytest.mark.parametrize(
    ("state", "is_new"), [(S.GONE, True), (S.DROPPED, True), (S.TOMBSTONE, False), (S.SERVING, False)]
)
def test_listed_document_is_new_if_work_for_its_row_has_ended(state: S, is_new: bool) -> None:
    """Otherwise a base that a mirror has released and uses again would get each document twice."""
    assert identify(binding_with(TAGGED), named(), [row(state, remote_id="7")]).is_new == is_new


def test_unreliable_time_disproves_nothing() -> None:
    claim = identify(binding_with(TAGGED), named(created_after=-300.0), candidates=[UNSURE])
    assert claim.whose is Whose.OPEN


ADDRESS = "https://example.org/guides/faq.pdf"


LINK = ("HTTPS://Example.org:443/guides/faq.pdf", ("HTTPS://Example.org:443/guides/faq.pdf",))


@pytest.mark.parametrize(
    ("name", "addresses", "created_after", "expected"),
    [
        *((ADDRESS, (ADDRESS,), created_after, "seen") for created_after in (0.0, -4.0, 100.0)),
        *((ADDRESS, (ADDRESS,), created_after, "doubt") for created_after in (-60.0, 600.0, None)),
        *((ADDRESS, (ADDRESS,), created_after, "neither") for created_after in (-600.0, 3600.0)),
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
def test_address_and_time_prove_a_link_document_and_names_separate_it_from_files(
    name: str, addresses: tuple[str, ...], created_after: float | None, expected: str
) -> None:
    """`created_after`: its creation, in seconds after the request."""
    page = row(S.UNSURE, name=ADDRESS, digest="")
    listed = Listed(
        "7", name, created=None if created_after is None else SENT + created_after, addresses=addresses
    )
    claim = identify(binding_with(TAGGED), listed, candidates=[page], trusts_times=True)
    assert ("seen" if claim.uploads else "doubt" if claim.doubts else "neither") == expected
