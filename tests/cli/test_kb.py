"""`kbsync kb`: the knowledge bases of an account, beside a real stand-in."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kbsync_standin.zhipu import HOME_ID
from tests.cli.vendor import Desk, desk_in


class TypingPerson(io.StringIO):
    """A person at a terminal who types this."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_in(tmp_path) as desk:
        yield desk
        assert desk.vendor.violations() == []


def mirror(desk: Desk) -> None:
    """A pass in the test's own process, which is quicker."""
    ran = desk.run("--once")
    assert ran.code == 0, ran.err


def bases(desk: Desk) -> dict[str, str]:
    """Name by id of everything that is there."""
    return {one["id"]: one["name"] for one in desk.run("kb", "list", "--json").json["knowledge_bases"]}


def test_a_base_is_made_and_the_line_for_the_config_printed(desk: Desk) -> None:
    ran = desk.run("kb", "create", "guides", "--model", "embedding-3-pro", "--description", "How to")
    assert ran.code == 0, ran.err
    key, _, value = ran.out.strip().partition(": ")
    assert key == "knowledge_id"
    assert bases(desk)[value.strip('"')] == "guides"
    desk.aim(base=value.strip('"'))
    desk.write("a.md", "alpha")
    mirror(desk)
    [shown] = [desk.run("kb", "show", "--json").json["knowledge_base"]]
    assert (shown["name"], shown["model"], shown["description"]) == ("guides", "Embedding-3-pro", "How to")
    assert (shown["documents"], shown["ours"], shown["mirrors"]) == (1, 1, ["handbook"])


def test_a_base_can_be_made_before_the_config_names_one(desk: Desk) -> None:
    desk.aim(base="none-yet")
    ran = desk.run("kb", "create", "first", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["config"] == f'knowledge_id: "{ran.json["knowledge_base"]["id"]}"'


@pytest.mark.parametrize("left", ["missing", "null", "empty"])
def test_what_makes_the_id_of_a_base_does_not_need_it(desk: Desk, left: str) -> None:
    config = desk.aim()
    text, line = config.read_text(), f'      knowledge_id: "{HOME_ID}"\n'
    assert line in text
    config.write_text(text.replace(line, LEFT_OUT[left]))
    assert bases(desk) == {HOME_ID: "handbook"}
    assert desk.run("kb", "models").code == desk.run("kb", "capacity").code == 0
    assert desk.run("kb", "show", HOME_ID).code == 0
    made = desk.run("kb", "create", "first", "--json")
    assert made.code == 0, made.err
    assert made.json["config"] == f'knowledge_id: "{made.json["knowledge_base"]["id"]}"'
    assert desk.run("kb", "delete", made.json["knowledge_base"]["id"], "--yes", "first").code == 0
    own = desk.run("kb", "show")
    assert (own.code, own.out) == (2, "")
    assert "knowledge_id" in own.err
    for words in (["--once"], ["status"], ["doctor"]):
        ran = desk.run(*words)
        assert ran.code == 2
        assert "mirrors[0].target.knowledge_id" in ran.err + ran.out
        assert "kbsync kb list" in ran.err + ran.out
        assert "kbsync kb create NAME" in ran.err + ran.out


LEFT_OUT = {"missing": "", "null": "      knowledge_id:\n", "empty": '      knowledge_id: ""\n'}


def test_a_second_base_of_one_name_is_refused(desk: Desk) -> None:
    ran = desk.run("kb", "create", "handbook")
    assert (ran.code, ran.out) == (2, "")
    assert HOME_ID in ran.err
    assert len(bases(desk)) == 1


@pytest.mark.parametrize("kind", ["lost-answer", "cut-body"])
def test_a_lost_answer_leaves_one_base_and_its_id_is_found(desk: Desk, kind: str) -> None:
    desk.vendor.play(kind, op="create-base")
    ran = desk.run("kb", "create", "guides", "--json")
    assert ran.code == 0, ran.err
    made = [base_id for base_id, name in bases(desk).items() if name == "guides"]
    assert made == [ran.json["knowledge_base"]["id"]]


def test_models_are_listed_and_known_where_the_service_lists_none(desk: Desk) -> None:
    listed = desk.run("kb", "models", "--json").json["models"]
    assert [one["id"] for one in listed] == ["3", "11", "12"]
    desk.vendor.turn(not_offered=["models"])
    known = desk.run("kb", "models", "--json").json["models"]
    assert [one["name"] for one in known] == [one["name"] for one in listed]
    assert desk.run("kb", "create", "guides").code == 0


def test_names_of_strangers_move_no_cursor(desk: Desk) -> None:
    assert desk.run("kb", "create", "evil\x1b[2J\nname").code == 0
    for words in (["kb", "list"], ["kb", "create", "evil\x1b[2J\nname"]):
        ran = desk.run(*words, tty=True)
        assert "\x1b[2J" not in ran.out + ran.err


def test_capacity_is_told(desk: Desk) -> None:
    desk.write("a.md", "x" * 1000)
    mirror(desk)
    desk.vendor.turn(capacity_bytes=4000)
    told = {"used_bytes": 1000, "total_bytes": 4000, "used_words": 333, "total_words": 1333}
    assert desk.run("kb", "capacity", "--json").json == told
    bytes_, words = "1.0 kB of 4.0 kB used (25%)\n", "333 of 1,333 words used (25%)\n"
    assert desk.run("kb", "capacity").out == bytes_ + words
    desk.vendor.turn(not_offered=["capacity"])
    ran = desk.run("kb", "capacity")
    assert (ran.code, ran.out) == (2, "")
    assert "no such call" in ran.err


def test_name_and_description_change_without_a_question(desk: Desk) -> None:
    desk.write("a.md", "alpha")
    mirror(desk)
    ran = desk.run("kb", "update", HOME_ID, "--name", "manual", "--description", "new", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["knowledge_base"]["name"] == "manual"
    assert [one["stat"] for one in desk.vendor.documents()] == [1]


def test_another_model_asks_first_since_it_costs(desk: Desk) -> None:
    desk.write("a.md", "alpha")
    mirror(desk)
    refused = desk.run("kb", "update", HOME_ID, "--model", "12")
    assert refused.code == 2
    assert "1 document" in refused.err
    assert "cost" in refused.err
    assert desk.run("kb", "show", "--json").json["knowledge_base"]["model"] == "Embedding-3"
    assert desk.run("kb", "update", HOME_ID, "--model", "12", "--yes", "handbook").code == 0
    assert desk.run("kb", "show", "--json").json["knowledge_base"]["model"] == "Embedding-3-pro"


def test_another_model_tells_an_address_of_each_document_that_is_done(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.write("a.md", "alpha")
    mirror(desk)
    monkeypatch.setenv("TOKEN", "hush-hush-hush")
    url = "https://events.example.org/kb"
    words = ["kb", "update", HOME_ID, "--callback", url, "--header", "X-Token=env:TOKEN", "--yes", "handbook"]
    assert desk.run(*words).code == 2
    assert desk.run("kb", "update", HOME_ID, "--model", "12", "--header", "X-Token=env:TOKEN").code == 2
    ran = desk.run(*words, "--model", "12")
    assert ran.code == 0, ran.err
    assert "hush" not in ran.out + ran.err
    [document] = desk.vendor.server.app.account.documents.values()
    assert (document.callback.url, dict(document.callback.headers)) == (url, {"X-Token": "hush-hush-hush"})


def test_deletion_shows_what_is_in_it_and_wants_its_name(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    desk.write("a.md", "alpha")
    mirror(desk)
    desk.vendor.plant("others.txt", "not ours")
    for words in ([], ["--yes", "yes"]):
        ran = desk.run("kb", "delete", HOME_ID, *words)
        assert (ran.code, ran.out) == (2, "")
        assert "2 documents, 13 B, 1 of them ours" in ran.err
        assert "handbook" in ran.err
    monkeypatch.setattr(sys, "stdin", TypingPerson("Handbook\n"))
    assert desk.run("kb", "delete", HOME_ID).code == 2
    assert bases(desk) == {HOME_ID: "handbook"}
    monkeypatch.setattr(sys, "stdin", TypingPerson("handbook\n"))
    assert desk.run("kb", "delete", HOME_ID).code == 0
    assert bases(desk) == {}
    assert desk.run("--once").code == 3


def test_deletion_with_a_lost_answer_is_done_once_and_well(desk: Desk) -> None:
    desk.vendor.play("lost-answer", op="delete-base")
    ran = desk.run("kb", "delete", HOME_ID, "--yes", "handbook", "--json")
    assert (ran.code, ran.json) == (0, {"deleted": HOME_ID, "name": "handbook"})
    assert bases(desk) == {}


@pytest.mark.parametrize("command", ["show", "delete", "update"])
@pytest.mark.parametrize("form", ["404", "code", "null"])
def test_an_unknown_base_waits_for_a_person(desk: Desk, command: str, form: str) -> None:
    desk.vendor.turn(deleted_base=form)
    ran = desk.run("kb", command, "4711", *(["--name", "x"] if command == "update" else []))
    assert (ran.code, ran.out) == (3, "")
    assert "4711" in ran.err
    assert "kbsync kb list" in ran.err


def test_a_refused_key_waits_for_a_person_and_is_not_shown(desk: Desk) -> None:
    desk.vendor.turn(key_revoked=True)
    ran = desk.run("kb", "list")
    assert (ran.code, ran.out) == (3, "")
    assert "api_key" in ran.err
    assert desk.vendor.key not in ran.err


def test_an_embedded_base_needs_none_of_this(desk: Desk) -> None:
    desk.configure()
    ran = desk.run("kb", "list")
    assert ran.code == 2
    assert "built-in" in ran.err


def test_several_mirrors_of_services_want_one_named(desk: Desk) -> None:
    text = desk.aim(base="1").read_text()
    (desk.root / "more").mkdir()
    second = text.partition("mirrors:\n")[2].replace("handbook", "faq").replace('"1"', '"2"')
    desk.config.write_text(text + second.replace(str(desk.docs), str(desk.root / "more")))
    ran = desk.run("kb", "list")
    assert ran.code == 2
    assert "--mirror: handbook, faq" in ran.err
    assert desk.run("kb", "list", "--mirror", "faq").code == 0


def test_a_service_that_retries_nothing_by_itself_names_the_retry_that_there_is(desk: Desk) -> None:
    ran = desk.run("kb", "retry", "--yes", "handbook")
    assert (ran.code, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert "zhipu cannot retry everything" in ran.err
    assert "kbsync retry --mirror handbook" in ran.err
