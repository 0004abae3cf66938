"""Tests that Dify's page matches the program."""

from __future__ import annotations

from kbsync.core.names import MAX_NAME_BYTES
from kbsync.errors import Halted, NameTaken, Rejected, TargetError, Unavailable
from kbsync.targets.dify.config import FORMATS, MAX_BYTES
from kbsync.targets.dify.shapes import RULES, SENTENCES, classify_response
from kbsync.targets.dify.target import MAX_PASSAGES, MAX_QUERY_LENGTH
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.http.reading import PAGE_SIZE
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "targets" / "dify.md").read_text()

DEEDS: dict[str, tuple[type[TargetError], str]] = {
    "halts with `credentials`": (Halted, "credentials"),
    "halts with `quota`": (Halted, "quota"),
    "blames the document": (Rejected, ""),
    "can't delete the document": (Rejected, ""),
    "retries later": (Unavailable, ""),
    "`kb create`": (NameTaken, ""),
    "`kb delete`": (Rejected, ""),
}


def table(heading: str) -> list[list[str]]:
    below = PAGE.split(f"\n| {heading} |", 1)[1].split("\n\n", 1)[0]
    return [[cell.strip() for cell in row.strip("| ").split(" | ")] for row in below.splitlines()[2:]]


def test_documented_formats_and_limits_are_enforced() -> None:
    documented = {cells[0].strip("`"): set(cells[1].split()) for cells in table("`etl_type`")}
    assert documented == {etl_type: set(formats) for etl_type, formats in FORMATS.items()}
    assert [cells[1] for cells in table("what | at most")] == [
        f"{MAX_BYTES >> 20} MiB",
        str(PAGE_SIZE),
        str(MAX_PASSAGES),
        str(MAX_QUERY_LENGTH),
        f"{MAX_NAME_BYTES} bytes",
    ]


def test_codes_are_documented_with_their_reaction() -> None:
    documented = {cells[0].strip("`"): cells[1] for cells in table("code")}
    assert documented.keys() >= SENTENCES.keys() | {code for rule in RULES for code in rule.code or ()}
    for code, what in documented.items():
        if what.startswith("depends on the message"):
            continue
        [deed] = [deed for beginning, deed in DEEDS.items() if what.startswith(beginning)]
        body = {"code": code, "message": "no more words", "status": 400}
        error = classify_response(HttpResponse("upload", 400, {}, body, "", 0.0))
        assert (type(error), getattr(error, "halt", "")) == deed, code
