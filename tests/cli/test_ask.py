"""`kbsync ask` and `kbsync kb app`: answers from an application of the stand-in, with files as citations."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbsync.standin.faults import Fault
from kbsync.standin.zhipu import HOME_ID
from tests.cli.vendor import LONGEST, Desk, desk_in, shelf_in, tidied

HOURS = 'The "office" opens at nine. 周末不开门。'
FORMS = ("quoted", "plain", "wrapped")


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A mirrored folder with an application; tests leave no fault and no switch behind."""
    files = {
        "guides/hours.md": f"{HOURS}\n\nNothing else.\n",
        "prices.csv": "tea,3\n\ncoffee costs four,4\n",
    }
    others = "The office opens at nine, says somebody else."
    with shelf_in(tmp_path_factory.mktemp("shelf"), files, others) as desk:
        assert desk.run("kb", "app", "create", "helpdesk").code == 0
        yield desk


@pytest.fixture
def desk(shelf: Desk) -> Iterator[Desk]:
    with tidied(shelf, not_offered=[], stream_form="quoted", key_revoked=False, money_gone=False) as desk:
        yield desk


def stream(desk: Desk, **args: Any) -> None:
    desk.vendor.server.faults.add(Fault("stream", op="sse-invoke", args=args))


def answer(desk: Desk, *words: str) -> str:
    ran = desk.run("ask", "when does the office open", "--json", *words)
    assert ran.code == 0, ran.err
    return str(ran.json["answer"])


def test_the_answer_comes_with_the_files_it_is_from(desk: Desk) -> None:
    ran = desk.run("ask", "when", "does", "the", "office", "open")
    assert ran.code == 0, ran.err
    assert HOURS in ran.out
    assert ran.out.endswith("\n\n[1] guides/hours.md\n")
    assert ran.err == "kbsync: 1 document that is not of this mirror besides\n"


def test_json_has_the_answer_and_its_slices(desk: Desk) -> None:
    ran = desk.run("ask", "what does coffee cost", "--json")
    assert (ran.code, ran.err) == (0, "")
    found = ran.json
    assert found["cites"]
    assert found["answer"] == "coffee costs four,4"
    [cited] = found["citations"]
    assert (cited["path"], cited["abs_path"]) == ("prices.csv", str(desk.docs / "prices.csv"))
    assert cited["passages"] == [{"text": "coffee costs four,4", "page": None, "line": 2}]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("args", [{}, {"crlf": True, "comments": True}, {"end": "no-blank"}], ids=str)
def test_every_form_of_stream_gives_the_whole_answer(desk: Desk, form: str, args: dict[str, Any]) -> None:
    """Pieces hold blanks, quotes, line ends and Chinese; the answer in one piece is the measure."""
    whole = answer(desk, "--whole")
    assert HOURS in whole
    assert "\n\n" in whole
    desk.vendor.turn(stream_form=form)
    stream(desk, **args)
    assert answer(desk) == whole


def test_bytes_may_come_one_by_one(desk: Desk) -> None:
    desk.vendor.server.faults.add(Fault("drip", op="sse-invoke", args={"every": 0.0001}))
    assert desk.run("ask", "what does coffee cost", "--json").json["answer"] == "coffee costs four,4"


@pytest.mark.parametrize("end", ["no-finish", "error", "interrupted"])
@pytest.mark.parametrize("form", FORMS)
def test_an_answer_that_breaks_off_is_not_taken_for_one(desk: Desk, end: str, form: str) -> None:
    desk.vendor.turn(stream_form=form)
    stream(desk, end=end)
    ran = desk.run("ask", "when does the office open")
    assert ran.code == 4
    assert ran.out.startswith("The ")  # what came is shown, on a line of its own
    assert ran.out.endswith("\n")
    assert "[1]" not in ran.out
    assert "broke" in ran.err
    assert ("大模型内部错误" in ran.err) is (end != "no-finish")
    stream(desk, end=end)
    quiet = desk.run("ask", "when does the office open", "--json")
    assert (quiet.code, quiet.out) == (4, "")


@pytest.mark.parametrize("kind", ["cut-body", "reset-reading", "lost-answer"])
def test_a_lost_connection_is_told_and_not_asked_again_unbidden(desk: Desk, kind: str) -> None:
    before = desk.vendor.asked("sse-invoke")
    desk.vendor.play(kind, op="sse-invoke")
    ran = desk.run("ask", "when does the office open")
    assert ran.code == 4
    assert "the answer was lost" in ran.err
    assert desk.vendor.asked("sse-invoke") == before + 1


@pytest.mark.parametrize(
    ("kind", "args", "code", "words"),
    [
        ("error-shapes", {"shape": "flat", "code": 1301, "status": 200}, 2, "unsafe"),
        ("error-shapes", {"shape": "error-object", "code": 500, "status": 200}, 4, "internal error"),
        ("code-in-200", {"code": 1113}, 3, "no money"),
        ("rate-limited", {"code": 1302}, 4, "too many requests"),
        ("unauthorized", {"code": 1000}, 3, "api_key"),
    ],
)
def test_an_error_in_place_of_a_stream_is_read_as_everywhere(
    desk: Desk, kind: str, args: dict[str, Any], code: int, words: str
) -> None:
    desk.vendor.server.faults.add(Fault(kind, op="sse-invoke", args=args))
    ran = desk.run("ask", "when does the office open")
    assert (ran.code, ran.out) == (code, "")
    assert words in ran.err


def test_where_there_is_no_stream_the_answer_is_asked_for_whole(desk: Desk) -> None:
    whole = answer(desk)
    desk.vendor.turn(not_offered=["sse-invoke"])
    assert answer(desk) == whole


def test_an_answer_is_worth_having_without_its_slices(desk: Desk) -> None:
    desk.vendor.turn(not_offered=["slice-info"])
    ran = desk.run("ask", "when does the office open")
    assert ran.code == 0
    assert HOURS in ran.out
    assert "does not tell which documents" in ran.err
    assert not desk.run("ask", "when does the office open", "--json").json["cites"]


def test_a_service_without_applications_says_so(desk: Desk) -> None:
    desk.vendor.turn(not_offered=["applications", "invoke", "sse-invoke"])
    for words in (["ask", "when"], ["ask", "when", "--app", "1"], ["kb", "app", "list"]):
        ran = desk.run(*words)
        assert (ran.code, ran.out) == (2, ""), words
        assert "no such call" in ran.err


def test_pieces_are_shown_as_they_come(desk: Desk) -> None:
    """The first is on stdout while the service has yet to send the rest."""
    stream(desk, every=0.05)
    process = desk.begin("ask", "when does the office open", env={"PYTHONUNBUFFERED": ""})
    assert process.stdout is not None
    first = os.read(process.stdout.fileno(), 100)
    seen_at = time.monotonic()
    rest, err = process.communicate(timeout=LONGEST)
    assert process.returncode == 0, err
    assert HOURS.encode() in first + rest
    assert len(first) < 10
    assert time.monotonic() - seen_at > 0.5  # some thirty pieces were still to come, 50 ms apart


def test_an_interrupt_ends_it_cleanly(desk: Desk) -> None:
    stream(desk, every=0.2)
    process = desk.begin("ask", "when does the office open")
    assert process.stdout is not None
    first = os.read(process.stdout.fileno(), 100)
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=LONGEST)
    assert process.returncode == 130
    assert (first + rest).endswith(b"\n")
    assert b"Traceback" not in err
    assert b"[1]" not in rest


def test_text_of_the_model_moves_no_cursor(desk: Desk) -> None:
    planted = desk.vendor.plant("evil.txt", "zebra \x1b[2J stripes")
    try:
        ran = desk.run("ask", "zebra", tty=True)
        assert "stripes" in ran.out
        assert "\x1b[2J" not in ran.out
    finally:
        desk.vendor.take_away(planted)


# -- applications --------------------------------------------------------------------------------------


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Desk]:
    with desk_in(tmp_path) as desk:
        yield desk


def test_an_application_is_made_shown_changed_and_deleted(own: Desk) -> None:
    ran = own.run("kb", "app", "create", "helpdesk", "--description", "Answers", "--model", "GLM-4-Plus")
    assert ran.code == 0, ran.err
    ident = ran.out.strip()
    shown = own.run("kb", "app", "show", ident, "--json").json["application"]
    assert (shown["name"], shown["model"], shown["knowledge_bases"]) == ("helpdesk", "GLM-4-Plus", [HOME_ID])
    changed = own.run("kb", "app", "update", ident, "--name", "desk", "--json").json["application"]
    assert (changed["name"], changed["description"]) == ("desk", "Answers")
    assert [one["id"] for one in own.run("kb", "app", "list", "--json").json["applications"]] == [ident]
    assert own.run("kb", "app", "delete", ident).code == 2
    assert own.run("kb", "app", "delete", ident, "--yes", "desk").code == 0
    assert own.run("kb", "app", "list", "--json").json == {"applications": []}
    assert own.run("kb", "app", "show", ident).code == 2
    assert own.vendor.violations() == []


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["x" * 21], "21 characters"),
        (["a", "--description", "x" * 101], "101 characters"),
        (["a", "--prompt", "{{knowledge}}"], "each once"),
    ],
)
def test_what_the_service_refuses_is_refused_before_it_is_sent(
    own: Desk, words: list[str], sentence: str
) -> None:
    ran = own.run("kb", "app", "create", *words)
    assert ran.code == 2
    assert sentence in ran.err
    assert own.vendor.asked("create-application") == 0


def test_a_lost_answer_leaves_one_application(own: Desk) -> None:
    own.vendor.play("lost-answer", op="create-application")
    ran = own.run("kb", "app", "create", "helpdesk")
    assert ran.code == 0, ran.err
    [one] = own.run("kb", "app", "list", "--json").json["applications"]
    assert one["id"] == ran.out.strip()
    assert own.run("kb", "app", "create", "helpdesk").code == 2


def test_without_one_application_of_the_base_a_person_says_which(own: Desk) -> None:
    own.write("a.md", "alpha")
    assert own.run("--once").code == 0
    none = own.run("ask", "alpha")
    assert none.code == 2
    assert "kbsync kb app create" in none.err
    idents = [own.run("kb", "app", "create", name).out.strip() for name in ("one", "two")]
    several = own.run("ask", "alpha")
    assert several.code == 2
    assert all(ident in several.err for ident in idents)
    assert own.run("ask", "alpha", "--app", idents[0]).out.startswith("alpha\n")


def test_an_embedded_base_answers_nothing(own: Desk) -> None:
    own.configure()
    ran = own.run("ask", "alpha")
    assert ran.code == 2
    assert "embedded" in ran.err
