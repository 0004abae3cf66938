"""Pastes every printed fix in the situation that prints it, and checks that it works.

A test names the fixes that it causes (`tests.cli.cures.proves`); a new fix fails until a test names it.
"""

from __future__ import annotations

import errno
import importlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw
import pytest

from kbsync.cli.context import choose, post
from kbsync.cli.exit_codes import _FIXES, sentence_of
from kbsync.cli.options import Choices
from kbsync.errors import Halted, StateError, UsageError
from kbsync.index.errors import scratch_error
from kbsync.server import app
from kbsync.server.listener import bind_sockets
from kbsync.source import roots
from kbsync.state import db, lock
from kbsync_standin.faults import Fault
from kbsync_standin.gptbots import HOME_ID as HOME_AT_GPTBOTS
from kbsync_standin.gptbots import application as gptbots
from kbsync_standin.server import Server
from kbsync_standin.vectors import application
from kbsync_standin.zhipu import HOME_ID
from tests import programs
from tests.cli import cures
from tests.cli.cures import proves
from tests.cli.pasting import after, paste
from tests.cli.sandbox import RunResult, Sandbox, eventually, words_of
from tests.cli.terminal import Begin
from tests.cli.zhipu import KEY, ZhipuSandbox
from tests.ports import free_port
from tests.share import enumerated, long


def elsewhere(sandbox: Sandbox, files: Mapping[str, str] = {}) -> list[str]:
    """Write files, and put the config and the state at unusual paths: a fix must still refer to them."""
    sandbox.write_all(files)
    if not sandbox.config.exists():
        sandbox.configure()
    config = sandbox.root / "an odd place" / "kb.yaml"
    config.parent.mkdir()
    sandbox.config.rename(config)
    return ["--config", str(config), "--state-dir", str(sandbox.root / "odd state")]


def numbered(count: int) -> dict[str, str]:
    return {f"{number}.md": f"document {number}" for number in range(count)}


def fill(sandbox: Sandbox, files: Mapping[str, str] = {"a.md": "alpha"}) -> list[str]:
    """Mirror documents by a config at an unusual path; return the options for it."""
    flags = elsewhere(sandbox, files)
    assert sandbox.run("--once", *flags).code == 0
    return flags


def remove(sandbox: Sandbox, count: int) -> None:
    for number in range(count):
        (sandbox.docs / f"{number}.md").unlink()


def mirror(sandbox: Sandbox, flags: list[str]) -> dict[str, Any]:
    [status] = sandbox.run("status", "--json", *flags).json["mirrors"]
    return dict(status)


def reword(sandbox: Sandbox, old: str, new: str) -> None:
    """Change the config, wherever it is."""
    odd = sandbox.root / "an odd place" / "kb.yaml"
    config = odd if odd.exists() else sandbox.config
    config.write_text(config.read_text().replace(old, new))


# -- commands to run instead, or next ------------------------------------------------------------------------

Before = Callable[[ZhipuSandbox], object]


def nothing(_sandbox: Sandbox) -> None:
    pass


def fails(op: str) -> Before:
    """Let the service leave it unknown whether it did the work."""
    return lambda zhipu: zhipu.service.play("status", op=op, effect=False, args={"status": 503})


def without_base(zhipu: ZhipuSandbox) -> None:
    reword(zhipu, f'knowledge_id: "{HOME_ID}"', "")


def with_unknown_base(zhipu: ZhipuSandbox) -> None:
    reword(zhipu, HOME_ID, "1999999999999999999")


def with_a_failure(zhipu: ZhipuSandbox) -> None:
    zhipu.service.play("fails", op="upload", times=0, args={"runs": 0, "text": "无法解析"})


def with_no_base_at_all(zhipu: ZhipuSandbox) -> None:
    assert zhipu.run("kb", "delete", HOME_ID, "--yes", "handbook").code == 0


@dataclass(frozen=True)
class Suggestion:
    """The output of `words` has `fix` after `behind`; pasted, with `argument` for its placeholders, it
    `shows` this.
    """

    words: str
    behind: str
    fix: str
    shows: str = ""
    argument: str = ""
    before: Before = nothing


HERE = (
    Suggestion("--once status", "can't be combined with a command; run `", "--once", "1 document searchable"),
    Suggestion("--dry-run", "otherwise, run: ", "plan", "nothing to do"),
    Suggestion("ask 'where is alpha'", "search its passages: ", "", "a.md"),
)
NEW, LISTS, MADE = "create one with: ", "kb list", "knowledge_id: "
THERE = (
    Suggestion("kb show", "list them with ", LISTS, HOME_ID, before=with_unknown_base),
    Suggestion("kb create guides", "check with: ", LISTS, HOME_ID, before=fails("create-base")),
    Suggestion("kb list", NEW, "kb create NAME", MADE, "NAME=guides", with_no_base_at_all),
    Suggestion("--once", "account's knowledge bases: ", "kb list", HOME_ID, before=without_base),
    Suggestion("--once", "create one: ", "kb create NAME", MADE, "NAME=guides", without_base),
    Suggestion("kb retry", "of handbook: ", "retry --mirror {}", "a.md", before=with_a_failure),
    Suggestion("ask alpha", NEW, "kb app create NAME --mirror {}", argument="NAME=one"),
    Suggestion("ask alpha", "from search results: ", "ask {} --mirror {} --model {}", "alpha"),
    Suggestion("kb app list", NEW, "kb app create NAME", argument="NAME=one"),
    Suggestion("kb app create one", "ask it with: ", "ask QUESTION --app {}", argument="QUESTION=alpha"),
    Suggestion("kb app create one", "check with: ", "kb app list", before=fails("create-application")),
)


def is_right(sandbox: Sandbox, suggestion: Suggestion) -> None:
    flags = elsewhere(sandbox)
    result = sandbox.run(*shlex.split(suggestion.words), *flags)
    command = re.split(r"`|; see: ", after(result.err, suggestion.behind))[0]
    name, _, replacement = suggestion.argument.partition("=")
    pasted = paste(sandbox, command, **({name: replacement} if name else {}))
    assert (pasted.code, suggestion.shows in pasted.out + pasted.err) == (0, True), (command, pasted)


@long
@proves(*(suggestion.fix for suggestion in HERE if suggestion.fix))
@pytest.mark.parametrize("suggestion", HERE, ids=lambda suggestion: suggestion.words)
def test_suggested_commands_repeat_the_options_in_use(sandbox: Sandbox, suggestion: Suggestion) -> None:
    sandbox.prepare({"a.md": "alpha"})
    assert sandbox.run("--once", "--state-dir", sandbox.root / "odd state").code == 0
    is_right(sandbox, suggestion)


@long
@enumerated()
@proves(*(suggestion.fix for suggestion in THERE))
@pytest.mark.parametrize(
    "suggestion", THERE, ids=lambda suggestion: f"{suggestion.words}, {suggestion.behind}"
)
def test_missing_service_objects_are_listed_found_or_created(
    zhipu: ZhipuSandbox, suggestion: Suggestion
) -> None:
    zhipu.write("a.md", "alpha")
    suggestion.before(zhipu)
    zhipu.run("--once", "--state-dir", zhipu.root / "odd state")
    is_right(zhipu, suggestion)


@long
@proves("search QUERY")
def test_suggested_search_uses_the_location_of_the_preceding_pass(sandbox: Sandbox) -> None:
    flags = elsewhere(sandbox, {"a.md": "alpha"})
    result = sandbox.run("--once", *flags, tty=True)
    command = after(re.sub(r"\x1b\[\d*m", "", result.out), "search it: ")
    assert "a.md" in paste(sandbox, command, QUERY="alpha").out


@long
@proves("search -i")
def test_interactive_search_is_suggested_without_a_query(sandbox: Sandbox, terminal: Begin) -> None:
    flags = fill(sandbox)
    empty = sandbox.run("search", " ", *flags)
    command = after(empty.err, "or type one with: ")
    assert "-i needs a terminal" in paste(sandbox, command).err
    typing = terminal(sandbox, *words_of(command))
    typing.until("enter opens")
    typing.type("alpha")
    typing.until("a.md")
    typing.process.send_signal(signal.SIGINT)
    assert typing.end() == 130


@long
@proves("ask -i")
def test_interactive_ask_is_suggested_without_a_question(zhipu: ZhipuSandbox) -> None:
    flags = fill(zhipu)
    assert zhipu.run("kb", "app", "create", "helpdesk", *flags).code == 0
    command = after(zhipu.run("ask", " ", *flags).err, "or type one with: ")
    output = paste(zhipu, f"echo 'where is alpha' | {command}")
    assert (output.code, "a.md" in output.out) == (0, True), output.err


@long
@proves("pass a folder with --folder DIR, or write a config with: kbsync init DIR")
def test_init_is_suggested_when_no_config_exists(sandbox: Sandbox) -> None:
    sandbox.write("a.md", "alpha")
    config = sandbox.root / "my config.yaml"
    result = sandbox.run("init", "--folder", "docs", "--config", str(config))
    assert (result.code, config.exists()) == (2, False)
    command = after(result.err, "pass the folder as an argument: ")
    assert paste(sandbox, f"cd {sandbox.root} && {command}").code == 0
    assert sandbox.run("--once", "--config", str(config)).code == 0
    command = sandbox.run("status").err.strip().rpartition("with: ")[2]
    assert paste(sandbox, command, DIR=str(sandbox.docs)).code == 0
    assert sandbox.run("--once").code == 0


@proves("status")
def test_search_during_the_first_pass_shows_how_to_watch_it(sandbox: Sandbox) -> None:
    flags = elsewhere(sandbox, {"a.md": "alpha"})
    (sandbox.root / "odd state").mkdir(mode=0o700)
    with lock.held(sandbox.root / "odd state"):
        early = sandbox.run("search", "alpha", *flags)
        assert "the first pass has not started" in early.err and "--once" not in early.err
        output = paste(sandbox, after(early.err, "check progress: "))
    assert (early.code, output.code, "handbook" in output.out) == (2, 0, True)


@long
def test_status_too_small_for_everything_names_the_command_that_lists_all(
    sandbox: Sandbox, terminal: Begin
) -> None:
    flags = elsewhere(sandbox, {f"{number}.pdf": f"no pdf {number}" for number in range(4)})
    assert sandbox.run("--once", *flags).code == 1
    watching = terminal(sandbox, "status", "--watch", *flags, rows=6, columns=500)
    watching.until("Ctrl-C to quit; to list all: ")
    watching.process.send_signal(signal.SIGINT)
    assert watching.end() == 130
    output = paste(sandbox, re.split(r"[\x1b\r\n]", watching.output)[0])
    assert (output.code, "4 documents failed" in output.out) == (0, True)


@long
@proves("explain PATH", "retry", "retry {}")
def test_failed_document_comes_with_instructions(sandbox: Sandbox) -> None:
    flags = elsewhere(sandbox, {"-a b.pdf": "this is no pdf"})
    result = sandbox.run("--once", *flags, tty=True)
    assert "retry" not in result.err, "a retry can't mend a damaged file"
    in_json = json.loads(sandbox.run("--once", *flags).err.splitlines()[-1])
    assert in_json["explain"] and "cure" not in in_json
    assert "retry" not in sandbox.run("status", *flags).out + sandbox.run("explain", "-a b.pdf", *flags).out
    [state] = sandbox.root.rglob("state.db")
    with closing(apsw.Connection(os.fspath(state))) as database:
        database.execute("UPDATE upload SET code = 'timeout'")
    result = sandbox.run("--once", *flags, tty=True)
    _, _, advice = result.err.strip().splitlines()[-1].partition("to see why a document failed: ")
    explain, _, retry = advice.partition("; to retry all of them: ")
    in_json = json.loads(sandbox.run("--once", *flags).err.splitlines()[-1])
    assert (in_json["explain"], in_json["cure"]) == (explain, retry)
    output = paste(sandbox, explain, PATH=f"'{sandbox.docs}/-a b.pdf'")
    assert output.code == 0
    assert "cannot be read" in output.out
    own_fix = output.out.partition("run `")[2].partition("`")[0]
    assert " retry " in own_fix
    for fix in (own_fix, retry):
        retried = paste(sandbox, fix)
        assert retried.code == 0
        assert "1 document" in retried.out or "-a b.pdf" in retried.out
        repeated = retried.out.strip().rpartition(": ")[2]
        assert paste(sandbox, repeated).code == 1  # the file is unchanged, and was tried again
    sandbox.write("-a b.pdf", "")
    assert paste(sandbox, repeated).code == 0


@long
@proves("run the command again")
def test_dropped_message_comes_with_the_command_to_repeat_it(sandbox: Sandbox) -> None:
    sandbox.prepare({"a.pdf": "this is no pdf"})
    assert sandbox.run("--once").code == 1
    assert sandbox.run("retry").code == 0
    with closing(apsw.Connection(str(sandbox.state / "state.db"))) as database:
        database.execute("UPDATE inbox SET args = '{'")
    dropped = events(sandbox.run("--once"))
    assert not any("attempt" in event for event in dropped)  # nothing was sent
    [line] = [event for event in dropped if event["event"] == "message.dropped"]
    assert (line["verb"], line["cure"]) == ("retry", "run the command again")
    assert sandbox.run("retry").code == 0
    later = events(sandbox.run("--once"))
    assert [event["path"] for event in later if "attempt" in event] == ["a.pdf"]
    assert not any(event["event"] == "message.dropped" for event in later)


def events(result: RunResult) -> list[dict[str, Any]]:
    """Return the lines of the log."""
    return [json.loads(line) for line in result.err.splitlines()]


@long
@proves("--once")
def test_interrupted_pass_comes_with_the_command_to_continue_it(sandbox: Sandbox) -> None:
    sandbox.write("a.md", "alpha")
    config = sandbox.configure("settle_longest: 60s")
    config.write_text(config.read_text().replace("settle: 100ms", "settle: 50s"))
    process = sandbox.start("--once", "--state-dir", sandbox.root / "odd state")
    eventually((sandbox.root / "odd state" / "state.db").exists)
    process.terminate()
    _, err = process.communicate(timeout=60)
    assert process.returncode == 143
    [log_line] = [json.loads(line) for line in err.splitlines() if b"pass.interrupted" in line]
    sandbox.configure()
    gone_on = paste(sandbox, log_line["cure"])
    assert (gone_on.code, "1 uploaded" in gone_on.out) == (0, True)


# -- halts -----------------------------------------------------------------------------------------------


def turns(**switch: bool) -> Before:
    return lambda zhipu: zhipu.service.turn(**switch)


HALTS: dict[str, tuple[Before, Before]] = {
    "folder-missing": (
        lambda zhipu: zhipu.docs.rename(zhipu.root / "away"),
        lambda zhipu: (zhipu.root / "away").rename(zhipu.docs),
    ),
    "credentials": (turns(key_revoked=True), turns(key_revoked=False)),
    "quota": (turns(money_gone=True), turns(money_gone=False)),
    "knowledge-base-missing": (
        with_unknown_base,
        lambda zhipu: reword(zhipu, "1999999999999999999", HOME_ID),
    ),
}
"""The cause of each halt, and what a person does about it before pasting the fix."""


@long
@enumerated()
@proves("retry --mirror {}", "--once --mirror {}")
@pytest.mark.parametrize("reason", HALTS)
def test_halt_hint_resumes_the_mirror_once_the_cause_is_fixed(zhipu: ZhipuSandbox, reason: str) -> None:
    cause, end = HALTS[reason]
    flags = fill(zhipu)
    cause(zhipu)
    if reason != "folder-missing":
        zhipu.write("b.md", "beta")
    halted = zhipu.run("--once", *flags)
    assert halted.code == 3
    [log_line] = [json.loads(line) for line in halted.err.splitlines() if '"mirror.halted"' in line]
    printed = {
        "log": log_line["cure"],
        "status": mirror(zhipu, flags)["halt"]["cure"],
        "terminal": zhipu.run("--once", *flags, tty=True).err.splitlines()[-1].rpartition("then run: ")[2],
    }
    if reason == "folder-missing":
        for command in ("plan", "verify"):
            printed[command] = zhipu.run(command, "--json", *flags).json["mirrors"][0]["halt"]["cure"]
        explained = zhipu.run("explain", str(zhipu.docs / "a.md"), *flags).out
        printed["explain"] = explained.partition("run `")[2].partition("`")[0]
    assert set(printed.values()) == {log_line["cure"]}, printed
    with lock.held(zhipu.root / "odd state"):  # while a kbsync runs, no second one may start
        assert mirror(zhipu, flags)["halt"]["cure"].startswith("kbsync retry --mirror handbook ")
    assert paste(zhipu, log_line["cure"]).code == 3  # as long as the cause remains, it is a halt
    end(zhipu)
    cured = paste(zhipu, log_line["cure"])
    assert cured.code == 0, cured.err
    remaining = mirror(zhipu, flags)
    assert (remaining["halt"], remaining["documents"]["pending"]) == (None, 0)


@long
@enumerated()
@proves("approve {}", "status --documents")
@pytest.mark.parametrize("tty", [True, False])
def test_held_deletions_can_be_listed_and_approved_while_the_mirror_is_halted(
    zhipu: ZhipuSandbox, tty: bool
) -> None:
    flags = fill(zhipu, numbered(24))
    remove(zhipu, 23)
    assert zhipu.run("--once", *flags).code == 3
    zhipu.service.turn(key_revoked=True)
    zhipu.write("new.md", "new")
    result = zhipu.run("--once", *flags, tty=tty)
    assert result.code == 3
    if tty:
        full_list = after(result.err, "and 20 more; to list all: ")
        approve = after(result.err, "to approve what is held: ")
    else:
        report = {line["event"]: line for line in map(json.loads, result.err.splitlines())}
        full_list, approve = report["list.shortened"]["cure"], report["deletions.held"]["cure"]
    assert paste(zhipu, full_list).out.count("\nheld  ") == 23
    assert "delete 23 documents:" in paste(zhipu, approve).out
    zhipu.service.turn(key_revoked=False)
    assert zhipu.run("--once", "--json", *flags).json["deleted"] == 23


@long
def test_deletions_held_by_the_daemon_are_approved_with_the_logged_command(sandbox: Sandbox) -> None:
    sandbox.prepare({f"{number}.md": f"document {number}" for number in range(8)})
    daemon = sandbox.watch(until="daemon.watching")
    eventually(lambda: sandbox.status()["documents"]["ready"] == 8)
    remove(sandbox, 7)
    held = daemon.wait_for_event("deletions.held")
    assert "delete 7 documents:" in paste(sandbox, held["cure"]).out
    eventually(lambda: sandbox.status()["documents"]["ready"] == 1)
    assert daemon.end() == 0


# -- explained, searched, and reported by others -------------------------------------------------------------


def explained(zhipu: Sandbox, path: str, flags: list[str]) -> tuple[str, str]:
    """Return the explanation of a path, and the command in it."""
    explanation = zhipu.run("explain", str(zhipu.docs / path), *flags).out
    match = re.search(r"run `([^`]*)`", explanation)
    return explanation, match[1] if match else ""


@long
@proves("verify --repair --mirror {}")
def test_explain_suggests_the_right_command(zhipu: ZhipuSandbox) -> None:
    flags = fill(zhipu, numbered(8))
    zhipu.write("new.md", "new")
    once = eventually(lambda: explained(zhipu, "new.md", flags)[1])  # before that, the file is too fresh
    assert paste(zhipu, once).code == 0
    assert "The file is searchable" in explained(zhipu, "new.md", flags)[0]

    zhipu.service.take_away(zhipu.service.document("0.md")["id"])
    lost, repair = explained(zhipu, "0.md", flags)
    assert "no longer has its document" in lost
    repaired = paste(zhipu, repair)
    output = repaired.out + repaired.err
    assert (repaired.code, "the next pass will handle the request" in output) == (1, True)
    assert zhipu.run("--once", *flags).code == 0
    assert "The file is searchable" in explained(zhipu, "0.md", flags)[0]

    remove(zhipu, 8)
    assert zhipu.run("--once", *flags).code == 3
    assert "delete 8 documents:" in paste(zhipu, explained(zhipu, "3.md", flags)[1]).out
    assert zhipu.run("--once", "--json", *flags).json["deleted"] == 8


@long
def test_explain_of_a_folder_shows_how_to_list_all_its_failures(sandbox: Sandbox) -> None:
    flags = elsewhere(sandbox, {f"sub/{number}.pdf": f"no pdf {number}" for number in range(7)})
    assert sandbox.run("--once", *flags).code == 1
    explanation, documents = explained(sandbox, "sub", flags)
    assert "more failed" in explanation
    assert len(re.findall("(?m)^failed ", paste(sandbox, documents).out)) == 7


@long
@proves("verify --mirror {}")
def test_findings_of_a_daemons_audit_are_shown_by_the_command_it_suggests(zhipu: ZhipuSandbox) -> None:
    zhipu.write("0.md", "document 0")
    daemon = zhipu.watch(hurried=True)
    eventually(lambda: zhipu.status()["documents"]["ready"] == 1)
    zhipu.service.plant(zhipu.service.document("0.md")["sent_name"], "document 0")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(zhipu.home))
        post(choose(Choices(config=zhipu.config)), [("audit", "handbook", {})])
    daemon.wait_for_event("audit.found")
    note = eventually(lambda: zhipu.status().get("note"))
    verified = paste(zhipu, note.rpartition(": ")[2])
    assert (verified.code, "0.md" in verified.out) == (1, True)
    assert daemon.end() == 0


@long
@proves("plan")
def test_page_shows_the_daemons_commands_with_the_options_in_use(zhipu: ZhipuSandbox) -> None:
    zhipu.write("a.md", "alpha")
    port = free_port()
    zhipu.config.write_text(f"{zhipu.config.read_text()}http: {{listen: 127.0.0.1:{port}}}\n")
    flags = elsewhere(zhipu)
    daemon = zhipu.watch(*flags, until="listener.started")
    eventually(lambda: mirror(zhipu, flags)["documents"]["ready"] == 1)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/events", timeout=60) as stream:
        line = next(line for line in stream if line.startswith(b"data: ") and b'"commands"' in line)
    commands = json.loads(line.removeprefix(b"data: "))["commands"]
    assert set(commands) == {"status", "plan", "history"}
    for name, command in commands.items():
        output = paste(zhipu, command)
        expected = "a.md" if name == "history" else "handbook"
        assert (output.code, expected in output.out) == (0, True), output
    assert daemon.end() == 0


@long
@proves("kb list")
def test_suggested_command_retries_after_fixing_another_services_base_and_key(sandbox: Sandbox) -> None:
    server = Server(gptbots(KEY))
    sandbox.write("a.md", "alpha")
    with server.in_thread():
        sandbox.configure(
            f"target: {{type: gptbots, base_url: '{server.url}', api_key: {KEY}, "
            f"knowledge_base_id: {HOME_AT_GPTBOTS}, vectorization: {{poll_first: 100ms}}}}"
        )
        flags = elsewhere(sandbox)
        for wrong, right in (
            ({"key_revoked": True}, {"key_revoked": False}),
            ({"base": "deleted"}, {"base": "present"}),
        ):
            server.app.set_behaviour(wrong)
            sandbox.write("a.md", f"alpha {wrong}")
            assert sandbox.run("--once", *flags).code == 3
            fix = mirror(sandbox, flags)["halt"]["cure"]
            assert paste(sandbox, fix).code == 3
            server.app.set_behaviour(right)
            assert paste(sandbox, fix).code == 0


# -- problems that no command can fix: the text names the key, the file or the path ------------------------


@enumerated()
@proves(
    "correct embedding.dimensions or embedding.model in the config",
    "correct embedding.model, embedding.dimensions or *",
    "correct {}.base_url (the URL before {}) or {}.model",
    "set a valid {}.api_key (or api_key_file) in the config",
    "in the config, set an embedding.api_key that has access to the model",
    "top up the account behind {}.api_key",
)
@pytest.mark.parametrize(
    ("args", "reason", "message"),
    [
        ({"status": 401}, "credentials", "set a valid embedding.api_key (or api_key_file) in"),
        ({"status": 402}, "quota", "top up the account behind embedding.api_key"),
        ({"code": "insufficient_quota"}, "quota", "top up the account behind embedding.api_key"),
        ({"status": 404}, "embedding-missing", "correct embedding.base_url (the URL before /embed"),
        ({"status": 403}, "credentials", "set an embedding.api_key that has access to the model"),
        ({}, "embedding-missing", "correct embedding.model, embedding.dimensions or"),
        (None, "embedding-dimensions", "correct embedding.dimensions or embedding.model"),
    ],
    ids=str,
)
def test_embedding_service_error_names_the_config_key(
    sandbox: Sandbox, args: dict[str, Any] | None, reason: str, message: str
) -> None:
    server = Server(application(KEY))
    sandbox.write("a.md", "alpha")
    with server.in_thread():
        service = {"type": "openai", "base_url": f"{server.url}/openai/v1", "api_key": KEY, "model": "words"}
        target = {"type": "local", "embedding": {**service, "dimensions": 32}}
        sandbox.configure(f"target: {json.dumps(target)}")
        kind = "own-length" if args is None else "refused"
        server.faults.add(Fault(kind, op="*", times=0, args=args or {}))
        assert sandbox.run("--once").code == 3
        halt = sandbox.status()["halt"]
        assert (halt["reason"], message in halt["cure"]) == (reason, True), halt
        server.faults.clear()
        assert sandbox.run("--once").code == 0


@proves("cli/exit_codes.py: *", "source/roots.py: *")
@pytest.mark.parametrize("number", {*_FIXES, *roots._FIXES}, ids=lambda number: errno.errorcode[number])
def test_system_error_names_the_path(tmp_path: Path, number: int) -> None:
    error = OSError(number, os.strerror(number), str(tmp_path / "it"))
    errors = [sentence_of(error)] if number in _FIXES else []
    if number in roots._FIXES:
        errors.append(str(scratch_error(error)))
    for sentence in errors:
        assert sentence.startswith(f"{tmp_path}/it: {os.strerror(number).lower()}; ")
    cures = {_FIXES.get(number, "").removeprefix("; "), roots._FIXES.get(number, "")}
    assert {sentence.partition("; ")[2] for sentence in errors} <= cures


@proves("free some inodes (df -i)")
def test_disk_without_inodes_comes_with_the_command_that_shows_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(db, "lacks_inodes", lambda _sandbox: True)
    error = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "it"))
    assert sentence_of(error) == f"{tmp_path}/it: no space left on device; free some inodes (df -i)"


def test_missing_file_without_a_path_does_not_blame_the_working_directory() -> None:
    error = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
    assert sentence_of(error) == "no such file or directory"


def test_fix_of_a_halt_is_marked_as_in_status() -> None:
    assert sentence_of(Halted("unsuitable-server", "no pgvector", fix="psql")) == "no pgvector; fix: psql"


@proves(
    "check its owner and mode",
    "the file system has no free inodes (df -i); free some, and a running kbsync will continue automatically",
    "too many open files; {}",
)
@pytest.mark.parametrize(
    ("exhausted", "message"),
    [
        ("nothing", "; check its owner and mode"),
        ("inodes", "; the file system has no free inodes (df -i); free some"),
        ("EMFILE", "; too many open files; raise the limit on open files (ulimit -n, LimitNOFILE=)"),
        ("ENFILE", "; too many open files; raise the system's limit on open files (fs.file-max)"),
    ],
)
def test_state_that_cannot_be_opened_names_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exhausted: str, message: str
) -> None:
    monkeypatch.setattr(db, "lacks_inodes", lambda _sandbox: exhausted == "inodes")

    def dup(_number: int) -> int:
        raise OSError(getattr(errno, exhausted), "too many open files")

    with pytest.raises(StateError) as caught, pytest.MonkeyPatch.context() as patch:
        if exhausted.endswith("FILE"):
            patch.setattr(db.os, "dup", dup)
        with db.state_errors(tmp_path / "state.db"):
            raise apsw.CantOpenError("unable to open database file")
    assert str(caught.value).startswith(f"{tmp_path}/state.db cannot be opened (")
    assert message in str(caught.value)


@long
@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
@pytest.mark.parametrize("is_new", [False, True])
def test_directory_in_place_of_a_file_of_the_state_is_named_with_the_command_that_renames_it(
    sandbox: Sandbox, suffix: str, is_new: bool
) -> None:
    sandbox.prepare({"a.md": "an aardvark"})
    assert sandbox.run("--once").code == 0
    misplaced = sandbox.state / f"state.db{suffix}"
    for file in sandbox.state.glob("state.db*") if is_new else [misplaced]:
        file.unlink()
    misplaced.mkdir()
    result = sandbox.run("--once")
    assert result.code == 4
    command = re.search(rf'{misplaced} is not a file; rename it with: (mv [^"\n]+)', result.err)
    assert command is not None, result.err
    subprocess.run(shlex.split(command[1]), check=True)
    sandbox.run("--once").check_success()
    assert sandbox.search("aardvark") == ["a.md"]


@long
def test_lack_of_descriptors_is_not_taken_for_an_upgrade(sandbox: Sandbox) -> None:
    sandbox.mirror({"a.md": "alpha"})
    outputs, environ = list[str](), sandbox.environ({})
    for limit in range(5, 9):
        limited = ["bash", "-c", f'ulimit -n {limit}; exec "$@"', "bash", sys.executable, "-m", "kbsync"]
        result = programs.run_program(*limited, "--once", env=environ, cwd=sandbox.root, timeout=60)
        outputs.append(result.stdout + result.stderr)
    assert any("too many open files; raise the limit" in output for output in outputs)
    assert not any("upgraded" in output for output in outputs)


@long
@pytest.mark.parametrize("kilobytes", [8, 100])
def test_limit_on_file_sizes_is_not_called_a_failed_disk(sandbox: Sandbox, kilobytes: int) -> None:
    sandbox.prepare({"a.md": "an aardvark"})
    limited = ["bash", "-c", f'ulimit -f {kilobytes}; exec "$@"', "bash", sys.executable, "-m", "kbsync"]
    result = programs.run_program(*limited, "--once", env=sandbox.environ({}), cwd=sandbox.root, timeout=60)
    assert result.returncode == 4
    assert "the limit on file sizes is too low; raise it (ulimit -f, LimitFSIZE=)" in result.stderr
    assert "the disk failed" not in result.stderr
    assert sandbox.once()["uploaded"] == 1


@proves(
    "cannot be used ({}); choose another address", "is not allowed for this user; choose port 1024 or higher"
)
@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.EACCES, "is not allowed for this user; choose port 1024 or higher"),
        (errno.ENOBUFS, "cannot be used (no buffer space available); choose another address"),
    ],
)
def test_address_in_use_names_the_config_key(
    monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    def refuse(_socket: socket.socket, _address: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(socket.socket, "bind", refuse)
    with pytest.raises(UsageError) as caught:
        bind_sockets("127.0.0.1", 80)
    assert str(caught.value) == f"http.listen: 127.0.0.1:80 {message}"


def test_page_without_scripts_says_which_options_to_add() -> None:
    """The page is visible to strangers, so it can't contain them."""
    noscript = app.content("page.html").decode().partition("<noscript>")[2].partition("</noscript>")[0]
    assert "<code>kbsync status</code>, with the options that kbsync was started with" in noscript


# -- every hint ------------------------------------------------------------------------------------------

IN_OTHER_ROOMS = {
    "config/reader.py: check the path and its read permissions",  # tests.config.test_secrets
    "core/lifecycle.py: sent {} times without a response *",  # tests.engine.test_lost_answers
    "cli/commands/kb/copy.py: kb copy",  # tests.postgres.test_moving
    "cli/commands/mcp/command.py: install 'mcp'",  # tests.mcp.test_program
    "cli/commands/doctor/service.py: dask worker {}",  # tests.cluster.test_doctor
    "install kbsync {} on every worker in the cluster, then restart the workers",  # tests.cluster
    "index/cluster/client.py: install 'distributed'",  # tests.cluster.test_cluster
    "index/postgres/store.py: upgrade this kbsync",  # tests.postgres.test_failures
    "server/auth.py: send the token*",  # tests.mcp.test_http
    "source/read.py: free some disk space or move state_dir",  # tests.source.test_read
    "state/lock.py: *",  # tests.security.test_owners
    "targets/postgres/target.py: install 'psycopg'",  # tests.postgres.test_bad_input
}


@long
def test_no_hint_removes_a_state_or_a_knowledge_base_by_hand() -> None:
    """`forget` shows what it would delete and asks; `rm` does neither."""
    removing = re.compile(r"(^|[ :`])rm |\brmdir\b|\b(delete|remove) the (state|knowledge base)\b")
    assert [fix for fix in cures.find_fixes() if removing.search(fix.partition(": ")[2])] == []


@long
def test_every_hint_is_covered_by_a_test() -> None:
    for file in Path(__file__).parent.glob("test_*.py"):
        if "cures import" in file.read_text():
            importlib.import_module(f"tests.cli.{file.stem}")
    patterns = {*cures.PROVEN, *IN_OTHER_ROOMS}
    printed = {
        fix: [pattern for pattern in patterns if cures.fits(fix, pattern)] for fix in cures.find_fixes()
    }
    assert [fix for fix, fitting in printed.items() if not fitting] == []
    assert patterns - {pattern for fitting in printed.values() for pattern in fitting} == set()


@long
def test_unreachable_service_at_another_address_is_not_reported_as_refusing_the_key(
    zhipu: ZhipuSandbox,
) -> None:
    zhipu.write("a.md", "alpha")
    zhipu.service.turn(key_revoked=True)
    assert zhipu.run("--once").code == 3
    zhipu.aim(url="http://127.0.0.1:1")
    result = zhipu.go("--once", hurried=True)
    assert result.code == 4
    [mirror] = zhipu.run("status", "--json").json["mirrors"]
    assert mirror["halt"]["reason"] == "target-down"
    assert "credentials" not in result.words + zhipu.run("status").out
    zhipu.service.turn(key_revoked=False)
