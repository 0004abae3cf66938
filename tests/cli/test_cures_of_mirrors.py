"""What is printed about a mirror, its documents and its knowledge base is pasted and is the right thing."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbsync.cli.context import choose, post
from kbsync.cli.options import Choices
from kbsync_standin.faults import Fault
from kbsync_standin.gptbots import HOME_ID as HOME_AT_GPTBOTS
from kbsync_standin.gptbots import application as gptbots
from kbsync_standin.server import Server
from tests.cli.pasting import after, paste
from tests.cli.place import Place, eventually
from tests.cli.test_cures import elsewhere
from tests.cli.troubles import RECUT
from tests.cli.vendor import ZhipuPlace
from tests.ports import free_port


def mirror(zhipu: Place, flags: list[str]) -> dict[str, Any]:
    [one] = zhipu.run("status", "--json", *flags).json["mirrors"]
    return dict(one)


def filled(zhipu: Place, count: int = 8) -> list[str]:
    """So many documents mirrored by a config in no usual place; the options that lead there."""
    for number in range(count):
        zhipu.write(f"{number}.md", f"document {number}")
    flags = elsewhere(zhipu)
    assert zhipu.run("--once", *flags).code == 0
    return flags


def delete(zhipu: Place, count: int) -> None:
    for number in range(count):
        (zhipu.docs / f"{number}.md").unlink()


# -- held ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tty", [True, False])
def test_what_is_held_is_listed_and_let_go_also_where_the_mirror_halts_for_something_else(
    zhipu: ZhipuPlace, tty: bool
) -> None:
    flags = filled(zhipu, 24)
    delete(zhipu, 23)
    assert zhipu.run("--once", *flags).code == 3
    zhipu.vendor.turn(key_revoked=True)
    zhipu.write("new.md", "new")
    ran = zhipu.run("--once", *flags, tty=tty)
    assert ran.code == 3
    if tty:
        whole, approve = after(ran.err, "and 3 more: "), after(ran.err, "to approve what is held: ")
    else:
        told = {line["event"]: line for line in map(json.loads, ran.err.splitlines())}
        whole, approve = told["list.shortened"]["cure"], told["deletions.held"]["cure"]
    assert paste(zhipu, whole).out.count("waits for approval") == 23
    assert "23 held deletions approved" in paste(zhipu, approve).out
    zhipu.vendor.turn(key_revoked=False)
    assert zhipu.run("--once", "--json", *flags).json["deleted"] == 23


def test_beside_a_daemon_what_it_held_is_let_go_as_its_log_says(zhipu: ZhipuPlace) -> None:
    filled_by = [zhipu.write(f"{number}.md", f"document {number}") for number in range(8)]
    daemon = zhipu.watch()
    eventually(lambda: len(zhipu.vendor.ours()) == len(filled_by))
    eventually(lambda: zhipu.status()["documents"]["ready"] == 8)
    zhipu.aim(f"documents: {json.dumps(RECUT['documents'])}")
    paste(zhipu, f"kill -HUP {daemon.process.pid}")
    renewals = daemon.says("recipe.held")
    assert "8 documents to be indexed again" in paste(zhipu, renewals["cure"]).out
    eventually(lambda: zhipu.status()["halt"] is None and zhipu.status()["documents"]["ready"] == 8)
    delete(zhipu, 7)
    held = daemon.says("deletions.held")
    assert "7 held deletions approved" in paste(zhipu, held["cure"]).out
    eventually(lambda: zhipu.status()["documents"]["ready"] == 1)
    assert daemon.end() == 0


# -- explained -------------------------------------------------------------------------------------------


def explained(zhipu: Place, path: str, flags: list[str]) -> tuple[str, str]:
    """What is said of a path, and the command in it."""
    told = zhipu.run("explain", str(zhipu.docs / path), *flags).out
    found = re.search(r"run `([^`]*)`", told)
    return told, found[1] if found else ""


def test_what_explain_says_to_run_is_the_right_thing(zhipu: ZhipuPlace) -> None:
    flags = filled(zhipu)
    zhipu.write("new.md", "new")
    once = eventually(lambda: explained(zhipu, "new.md", flags)[1])  # before, it is too fresh
    assert paste(zhipu, once).code == 0
    assert "It is searchable" in explained(zhipu, "new.md", flags)[0]

    zhipu.vendor.take_away(zhipu.vendor.document("0.md")["id"])
    lost, repair = explained(zhipu, "0.md", flags)
    assert "no longer has its document" in lost
    repaired = paste(zhipu, repair)
    assert (repaired.code, "the next pass does it" in repaired.out + repaired.err) == (1, True)
    assert zhipu.run("--once", *flags).code == 0
    assert "It is searchable" in explained(zhipu, "0.md", flags)[0]

    delete(zhipu, 8)
    assert zhipu.run("--once", *flags).code == 3
    assert "8 held deletions approved" in paste(zhipu, explained(zhipu, "3.md", flags)[1]).out
    assert zhipu.run("--once", "--json", *flags).json["deleted"] == 8


def test_explain_says_how_settings_that_changed_are_let_have_their_way(zhipu: ZhipuPlace) -> None:
    flags = filled(zhipu)
    config = Path(flags[1])
    config.write_text(config.read_text() + f"    documents: {json.dumps(RECUT['documents'])}\n")
    assert zhipu.run("--once", *flags).code == 3
    held, approve = explained(zhipu, "0.md", flags)
    assert "indexing it with the new settings waits for your approval" in held
    assert "8 documents to be indexed again" in paste(zhipu, approve).out
    assert zhipu.run("--once", *flags).code == 0
    assert explained(zhipu, "0.md", flags)[1] == ""


def test_explain_of_a_folder_says_how_all_that_failed_in_it_is_listed(place: Place) -> None:
    for number in range(7):
        place.write(f"sub/{number}.pdf", f"no pdf {number}")
    place.configure()
    flags = elsewhere(place)
    assert place.run("--once", *flags).code == 1
    told, documents = explained(place, "sub", flags)
    assert "more failed" in told
    assert len(re.findall("(?m)^failed ", paste(place, documents).out)) == 7


# -- the knowledge base ----------------------------------------------------------------------------------


def test_a_plan_over_a_base_that_was_emptied_says_how_it_is_filled_again(zhipu: ZhipuPlace) -> None:
    flags = filled(zhipu)
    zhipu.vendor.turn(base="emptied")
    halt = zhipu.run("plan", "--json", *flags).json["mirrors"][0]["halt"]
    assert halt["reason"] == "knowledge-base-emptied"
    assert paste(zhipu, halt["cure"]).code == 1
    assert zhipu.run("--once", "--json", *flags).json["uploaded"] == 8


def test_what_an_audit_of_the_daemon_found_is_shown_and_mended_with_what_it_says(zhipu: ZhipuPlace) -> None:
    for number in range(8):
        zhipu.write(f"{number}.md", f"document {number}")
    daemon = zhipu.watch(hurried=True)
    eventually(lambda: zhipu.status()["documents"]["ready"] == 8)

    def audit() -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HOME", str(zhipu.home))
            post(choose(Choices(config=zhipu.config)), [("audit", "handbook", {})])

    zhipu.vendor.plant(zhipu.vendor.document("0.md")["sent_name"], "document 0")
    audit()
    daemon.says("audit.found")
    note = eventually(lambda: zhipu.status().get("note"))
    verified = paste(zhipu, note.rpartition(": ")[2])
    assert (verified.code, "0.md" in verified.out) == (1, True)

    for one in zhipu.vendor.ours():
        zhipu.vendor.take_away(one["id"])
    audit()
    halted = daemon.says("mirror.halted", reason="knowledge-base-emptied")
    assert paste(zhipu, halted["cure"]).code == 1
    eventually(lambda: zhipu.status()["halt"] is None and len(zhipu.vendor.documents()) == 8)
    assert daemon.end() == 0


# -- told by others --------------------------------------------------------------------------------------


def test_who_is_told_of_a_failure_is_told_how_it_is_tried_again(zhipu: ZhipuPlace) -> None:
    told = zhipu.root / "told"
    command = ["sh", "-c", f"cat >>{told}; echo >>{told}"]
    zhipu.config.write_text(f"{zhipu.config.read_text()}notify: {{command: {json.dumps(command)}}}\n")
    flags = elsewhere(zhipu)
    zhipu.vendor.play("fails", op="upload", times=0, args={"runs": 0, "text": "无法解析"})
    zhipu.write("a.md", "alpha")
    daemon = zhipu.watch(*flags, hurried=True)
    notice = json.loads(eventually(lambda: told.exists() and told.read_text().strip()))
    assert (notice["event"], notice["count"]) == ("quarantined", 1)
    zhipu.vendor.server.faults.clear()
    assert "a.md" in paste(zhipu, notice["cure"]).out
    daemon.says("document.ready", path="a.md")
    assert daemon.end() == 0


def test_the_page_has_its_commands_from_the_daemon_with_the_options_in_use(zhipu: ZhipuPlace) -> None:
    zhipu.write("a.md", "alpha")
    port = free_port()
    zhipu.config.write_text(f"{zhipu.config.read_text()}http: {{listen: 127.0.0.1:{port}}}\n")
    flags = elsewhere(zhipu)
    daemon = zhipu.watch(*flags)
    daemon.says("listener.started")
    eventually(lambda: mirror(zhipu, flags)["documents"]["ready"] == 1)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/events", timeout=60) as stream:
        line = next(line for line in stream if line.startswith(b"data: ") and b'"commands"' in line)
    commands = json.loads(line.removeprefix(b"data: "))["commands"]
    assert set(commands) == {"status", "status --documents", "plan"}
    for command in commands.values():
        shown = paste(zhipu, command)
        assert (shown.code, "handbook" in shown.out) == (0, True), shown
    assert daemon.end() == 0


# -- another service -------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(gptbots("app-secret-for-tests"))
    with server.in_thread():
        yield server


@pytest.fixture
def flags(place: Place, server: Server) -> list[str]:
    place.write("a.md", "alpha")
    place.configure(
        f"target: {{type: gptbots, base_url: '{server.url}', api_key: app-secret-for-tests, "
        f"knowledge_base_id: {HOME_AT_GPTBOTS}, vectorization: {{poll_first: 100ms}}}}"
    )
    return elsewhere(place)


def test_a_base_and_a_key_of_another_service_are_tried_again(
    place: Place, server: Server, flags: list[str]
) -> None:
    for wrong, right in (
        ({"key_revoked": True}, {"key_revoked": False}),
        ({"base": "deleted"}, {"base": "present"}),
    ):
        server.app.set_behaviour(wrong)
        place.write("a.md", f"alpha {wrong}")
        assert place.run("--once", *flags).code == 3
        cure = mirror(place, flags)["halt"]["cure"]
        assert paste(place, cure).code == 3
        server.app.set_behaviour(right)
        assert paste(place, cure).code == 0


def test_bases_of_another_service_are_listed(place: Place, server: Server, flags: list[str]) -> None:
    unknown = place.run("kb", "show", "4711", *flags)
    assert HOME_AT_GPTBOTS in paste(place, after(unknown.err, "list them with ")).out
    server.faults.add(Fault("code", op="create-base"))
    unsure = place.run("kb", "create", "guides", *flags)
    look = after(unsure.err, "look with ").partition(" before")[0]
    assert HOME_AT_GPTBOTS in paste(place, look).out
