"""Documents made to harm: each is told apart or read within its bounds, and the others go on."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from kbsync.core.text import printable
from kbsync.errors import Rejected
from kbsync.index.chunk import chunk
from kbsync.index.fence.parser import Bounds, Parser
from kbsync.index.read.text import parse_text
from tests.cli.place import Place
from tests.growth import assert_linear
from tests.index import samples
from tests.security.attacks import ATTACKS
from tests.targets.bodies import BytesBody

MIB = 1024 * 1024
TIMEOUT = 2.0
CODES = {"bomb", "damaged", "memory", "timeout", "output", "crash", "no-text", "scanned", "binary"}


@pytest.fixture(scope="module")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parser]:
    spool = tmp_path_factory.mktemp("state") / "spool"
    parser = Parser(spool, Bounds(TIMEOUT, 512 * MIB, 8 * MIB))
    yield parser
    parser.close()


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_or_read_within_its_bounds_and_the_next_document_is_read(parser, name):
    extension, build = ATTACKS[name]
    raw = build()
    began = time.monotonic()
    try:
        text = parser.parse(f"x.{extension}", BytesBody(raw)).text
        assert len(text) <= 8 * MIB and "root:" not in text
    except Rejected as refusal:
        assert refusal.code in CODES and refusal.reason and len(refusal.reason) < 600
    assert time.monotonic() - began < 30  # twice, where it crashed, and a new process each
    assert parser.parse("x.html", BytesBody(b"<p>an honest page")).text == "an honest page"


@pytest.mark.parametrize(
    "name", [name for name in ATTACKS if " in " in name and name.split()[0] in ("a", "an")]
)
def test_no_entity_of_a_document_is_expanded_or_fetched(parser, name):
    extension, build = ATTACKS[name]
    try:
        text = parser.parse(f"x.{extension}", BytesBody(build())).text
    except Rejected as refusal:
        assert refusal.code in ("bomb", "damaged")
    else:
        assert "haha" not in text and "hhh" not in text and "root:" not in text


@pytest.mark.parametrize(
    "name", ["a size that lies", "a size that lies about the text", "a chapter whose size lies"]
)
def test_a_part_longer_than_it_says_is_not_unpacked(parser, name):
    extension, build = ATTACKS[name]
    with pytest.raises(Rejected) as refusal:
        parser.parse(f"x.{extension}", BytesBody(build()))
    assert refusal.value.code == "damaged"


CHOSEN = (
    "a part of 2 GiB",
    "a deep notebook",
    "deep sections",
    "an outside entity in pptx",
    "a size that lies",
)


def test_a_folder_of_attacks_is_told_file_by_file_and_the_honest_file_is_found(tmp_path):
    place = Place(tmp_path)
    for number, name in enumerate(CHOSEN):
        extension, build = ATTACKS[name]
        place.write(f"{number}.{extension}", build())
    place.write("honest.docx", samples.docx())
    ran = place.run("--once", "--json", "--folder", place.docs)
    assert ran.code == 1
    assert (ran.json["failed"], ran.json["uploaded"]) == (len(CHOSEN), 1)
    listed = place.run("status", "--documents", "--json", "--folder", place.docs).json["mirrors"][0]["items"]
    failed = {item["path"]: item["reason"] for item in listed if item["state"] == "failed"}
    assert len(failed) == len(CHOSEN) and all(failed.values())
    assert json.dumps(failed) == json.dumps({path: printable(reason) for path, reason in failed.items()})
    hits = place.run("search", "holiday", "--json", "--folder", place.docs).json["hits"]
    assert [hit["path"] for hit in hits] == ["honest.docx"]


TEXTS = {
    "one Chinese line": ("x.txt", "漢"),
    "Chinese and letters": ("x.txt", "漢a"),
    "Latin letters with accents": ("x.txt", "é"),
    "sentences": ("x.txt", "a. "),
    "headings": ("x.md", "# a\n"),
    "underlined headings": ("x.md", "a\n=\n"),
    "open fences": ("x.md", "```\n"),
    "pipes": ("x.md", "|a|b|\n"),
    "rules": ("x.md", "---\n"),
    "quotes": ("x.csv", '"'),
    "rows": ("x.csv", "a,b\n"),
    "cue numbers": ("x.srt", "1\n"),
    "open tags": ("x.vtt", "<"),
    "open sections": ("x.tex", "\\section{"),
    "combining marks": ("x.txt", "a\u0301"),
    "line ends": ("x.log", "x\r"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_time_a_text_takes_grows_with_its_length_and_no_faster(name):
    path, unit = TEXTS[name]

    assert_linear(lambda size: chunk(parse_text(path, (unit * (size // len(unit))).encode())), 5_000)
