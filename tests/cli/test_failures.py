"""Every failure that a person must act on says what, where and the cure: in `status`, log and exit code."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from kbsync.cli.exits import Code, worst
from tests.cli.catalogue import MIRRORS, Trouble
from tests.cli.house import Evidence, house_in

NAMES = [row.name for row in MIRRORS]


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evidence]:
    with house_in(tmp_path_factory.mktemp("house")) as house:
        yield Evidence(house)


def said(row: Trouble, evidence: Evidence) -> list[str]:
    """Each of the row's sayings, as it begins after the mirror's name."""
    places = {"folder": evidence.house.folder(row.name), "base": evidence.house.base(row.name)}
    return [words.format(**places) for words in row.says]


def cure_of(row: Trouble, evidence: Evidence) -> str:
    return row.cure.format(name=row.name, base=evidence.house.base(row.name))


def lines_about(row: Trouble, text: str) -> list[str]:
    return [line for line in text.splitlines() if f"{row.name}: " in line and not line.startswith("{")]


@pytest.mark.parametrize("row", MIRRORS, ids=NAMES)
def test_a_pass_says_what_is_wrong_where_and_the_cure(row: Trouble, evidence: Evidence) -> None:
    for text in (evidence.once.err, evidence.text, evidence.quiet):
        lines = lines_about(row, text)
        assert [words for words in said(row, evidence) if not any(words in line for line in lines)] == []
        assert lines[0].endswith(f"; cure: {cure_of(row, evidence)}") or not row.reason
        assert cure_of(row, evidence) in text


@pytest.mark.parametrize("row", MIRRORS, ids=NAMES)
def test_status_has_the_reason_the_detail_and_the_cure_for_programs(row: Trouble, evidence: Evidence) -> None:
    halt = evidence.shown[row.name]["halt"]
    assert (halt["reason"] if halt else "") == row.reason
    if halt:
        assert halt["cure"] == cure_of(row, evidence)
        assert halt["detail"] in " ".join(lines_about(row, evidence.once.err))
    else:
        items = {item["path"]: item["reason"] for item in evidence.shown[row.name]["items"]}
        told = [f"{path}: {reason}" for path, reason in items.items()]
        assert [words for words in said(row, evidence) if not any(words in line for line in told)] == []


@pytest.mark.parametrize("row", MIRRORS, ids=NAMES)
def test_a_health_check_exits_as_a_pass_of_this_mirror_does(row: Trouble, evidence: Evidence) -> None:
    assert evidence.checked[row.name] == row.code


def test_where_several_apply_the_worst_code_wins(evidence: Evidence) -> None:
    codes = {Code(row.code) for row in MIRRORS}
    assert codes == {Code.USAGE, Code.PERSON, Code.PASSING, Code.FAILED}
    assert evidence.once.code == worst(codes) == 2


@pytest.mark.parametrize("row", [row for row in MIRRORS if row.logged], ids=lambda row: row.name)
def test_the_log_says_it_once_with_mirror_place_and_cure(row: Trouble, evidence: Evidence) -> None:
    lines = [line for line in evidence.log if line["event"] == "mirror.halted" and line["mirror"] == row.name]
    first = lines[0]
    assert (first["level"], first["reason"]) == ("error", row.logged)
    assert first["folder"] == str(evidence.house.folder(row.name))
    assert said(row, evidence)[0] in first["detail"]
    halt = evidence.watched[row.name]["halt"]
    assert (first["detail"], first["cure"]) == (halt["detail"], halt["cure"])
    assert len([line for line in lines if line["detail"] == first["detail"]]) == 1


def test_the_cures_that_are_pasted_cure(evidence: Evidence) -> None:
    """With the causes gone: each command ends well (an audit that found something exits 1, as it says)."""
    codes = {name: ran.code for name, ran in evidence.pasted.items() if ran is not None}
    assert codes == dict.fromkeys(codes, 0) | {"emptied": 1}
    assert evidence.left["shrunk"]["documents"]["ready"] == 1
    assert evidence.left["emptied"]["documents"]["ready"] == 8
    last = evidence.house.run("--once", "--json")
    assert (last.code, last.json["uploaded"], last.json["deleted"]) == (0, 0, 0)


def test_every_line_of_the_log_is_json_without_a_traceback(evidence: Evidence) -> None:
    assert "exception" not in json.dumps(evidence.log)
    logged = [json.loads(line) for line in evidence.once.err.splitlines() if line.startswith("{")]
    rest = [line for line in evidence.once.err.splitlines() if not line.startswith(("{", "kbsync: "))]
    assert rest == []
    assert {line["level"] for line in logged} == {"warning", "error"}
    assert [line for line in logged if not line["mirror"]] == []
