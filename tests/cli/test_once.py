"""Tests `--once`: its work, its report, and its exit codes."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from kbsync.cli.commands import once
from kbsync.cli.context import choose
from kbsync.cli.exit_codes import Code
from kbsync.cli.options import Choices
from kbsync.cli.report import MirrorReport
from kbsync.engine.status import DocumentCounts, MirrorStatus
from kbsync.once import OnceEnd
from tests.cli.sandbox import Sandbox, busy_file, eventually, words_of
from tests.cli.zhipu import ZhipuSandbox, zhipu_sandbox
from tests.share import enumerated, long


@long
def test_json_is_status_plus_work_done(sandbox: Sandbox) -> None:
    sandbox.prepare({"a.md": "alpha", "b.md": "beta", "empty.md": ""})
    result = sandbox.run("--once", "--json").check_success()
    counts = {"uploaded", "replaced", "renamed", "deleted", "held", "failed", "seconds"}
    assert set(result.json) == {"version", "running", "mirrors"} | counts
    assert (result.json["uploaded"], result.json["replaced"], result.json["deleted"]) == (2, 0, 0)
    assert result.json["mirrors"][0]["documents"]["ready"] == 2
    assert result.json["mirrors"][0]["documents"]["skipped"] == 1

    sandbox.write("a.md", "alpha, changed")
    (sandbox.docs / "b.md").rename(sandbox.docs / "c.md")
    second_pass = sandbox.run("--once", "--json").json
    assert (
        second_pass["uploaded"],
        second_pass["replaced"],
        second_pass["renamed"],
        second_pass["deleted"],
    ) == (0, 1, 1, 0)

    third = sandbox.run("--once", "--json").json
    assert (third["uploaded"], third["replaced"], third["renamed"], third["deleted"]) == (0, 0, 0, 0)


@long
def test_stdout_has_a_summary_unless_quiet(sandbox: Sandbox) -> None:
    sandbox.prepare({"a.md": "alpha"}, "settle_longest: 1500ms")
    result = sandbox.run("--once")
    assert result.out.startswith("handbook: 1 document searchable, 1 uploaded; ")
    assert (len(result.out.splitlines()), result.err) == (1, "")
    assert "nothing changed" in sandbox.run("--once").out
    quiet = sandbox.run("--once", "-q")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")
    output = sandbox.run("--once", tty=True)
    assert "1 document searchable" in output.out
    assert "kbsync search QUERY" in output.out


@pytest.mark.parametrize("is_terminal", [False, True])
def test_json_of_an_incomplete_pass_comes_with_the_reason(sandbox: Sandbox, is_terminal: bool) -> None:
    sandbox.prepare({"a.md": "alpha"}, "settle_longest: 300ms")
    with busy_file(sandbox):
        result = sandbox.run("--once", "--json", tty=is_terminal)
    assert (result.code, result.json["mirrors"][0]["documents"]["pending"]) == (4, 1)
    assert "busy.md" in result.words and "still being written" in result.words


@long
def test_failures_with_one_reason_share_one_line(sandbox: Sandbox) -> None:
    for number in range(25):
        sandbox.write(f"{number:02}.pdf", f"this is no pdf {number}")
    for number in range(3):
        sandbox.write(f"{number}.docx", f"this is no document {number}")
    sandbox.configure()
    result = sandbox.run("--once", tty=True)
    assert result.code == 1
    matching_lines = [line for line in result.err.splitlines() if line.startswith("kbsync: ")]
    assert len(matching_lines) == 3
    assert matching_lines[0].startswith("kbsync: handbook: 25 documents failed: ")
    assert matching_lines[0].endswith("; to list all: kbsync status --documents")
    assert ": 00.pdf, 01.pdf, 02.pdf and 22 more; " in matching_lines[0]
    assert matching_lines[1].startswith("kbsync: handbook: 3 documents failed: ")
    assert matching_lines[1].endswith(": 0.docx, 1.docx, 2.docx")
    assert matching_lines[2].endswith("; kbsync will try again when a file changes")
    full_list = sandbox.run(*words_of(matching_lines[0].partition("to list all: ")[2]))
    assert full_list.out.count("failed ") == 28
    assert "! handbook: 25 documents failed: " in sandbox.run("status").out
    assert sandbox.run("status", "--json").json["mirrors"][0]["documents"]["failed"] == 28


def failing(total: int, reasons: list[str]) -> MirrorReport:
    failed = tuple((f"{number}.md", reason) for number, reason in enumerate(reasons))
    return MirrorReport(MirrorStatus("handbook", "/", "local", DocumentCounts(failed=total), 0.0), failed)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_ends_the_pass_with_its_own_exit_code(sandbox: Sandbox, number: int, code: int) -> None:
    sandbox.write("a.md", "alpha")
    config = sandbox.configure("settle_longest: 60s")
    config.write_text(config.read_text().replace("settle: 100ms", "settle: 50s"))
    process = sandbox.start("--once")
    eventually(lambda: sandbox.run("status", "--json").json["mirrors"][0]["documents"]["pending"])
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert b"interrupted" in err
    assert b"Traceback" not in err
    assert out == b""


@long
def test_one_of_several_mirrors_can_be_selected(sandbox: Sandbox) -> None:
    sandbox.prepare({"a.md": "alpha"})
    sandbox.add_mirror("other", {"b.md": "beta"})
    result = sandbox.run("--once", "--json", "--mirror", "other")
    assert [mirror["name"] for mirror in result.json["mirrors"]] == ["other"]
    both = sandbox.run("--once", "--json").json
    assert [mirror["name"] for mirror in both["mirrors"]] == ["handbook", "other"]
    assert both["uploaded"] == 1
    assert sandbox.run("--once").out.startswith("2 mirrors: 2 documents searchable, nothing changed; ")


@long
def test_failure_is_reported_once_on_a_terminal(sandbox: Sandbox) -> None:
    sandbox.prepare({"broken.pdf": "this is no pdf"})
    result = sandbox.run("--once", tty=True)
    assert result.code == 1
    assert "document.failed" not in result.err
    assert result.err.count("handbook: broken.pdf: cannot be read") == 1
    for options in (["--log-format", "console"], ["--log-level", "warning"], ["--json"]):
        sandbox.run("retry")
        assert "document.failed" in sandbox.run("--once", *options, tty=True).err
    sandbox.docs.rename(sandbox.root / "away")
    halted = sandbox.run("--once", tty=True)
    assert halted.code == 3
    assert "mirror.halted" not in halted.err
    assert halted.err.count("folder not readable") == 1
    assert "mirror.halted" in sandbox.run("--once").err


def test_interrupted_pass_on_a_terminal_reports_failures_so_far(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    installation = choose(Choices(folder=sandbox.docs))
    end = OnceEnd(installation, {}, {}, 1.0, signal=signal.SIGINT)
    once.report(end, [failing(1, ["no text"])], Code.INTERRUPTED)
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first == "kbsync: handbook: 0.md: no text"
    assert last.startswith("kbsync: interrupted; ")


LATIN = "caf\udce9"


@long
@pytest.mark.parametrize(
    ("folder", "rules", "code"),
    [
        (LATIN, b"*.txt\n", 0),
        ("cafe", b"caf\xe9*\nb*.txt\n", 0),
        (LATIN, b"[z-\n", 1),
        (LATIN, b"*.txt\n[z-\xe9\n", 1),
    ],
    ids=["its folder", "a line", "a bad line", "both"],
)
def test_ignore_file_with_non_utf8_path_or_lines_is_followed(
    sandbox: Sandbox, folder: str, rules: bytes, code: int
) -> None:
    sandbox.write(f"{folder}/.kbsyncignore", rules)
    for name in ("b.txt", "caf\udce9.txt", "c.md"):
        sandbox.write(f"{folder}/{name}", f"text of {name!a}")
    sandbox.prepare({"a.md": "alpha"})
    for words in (
        ["--once"],
        ["plan"],
        ["status", "--documents"],
        ["explain", sandbox.docs / folder / "b.txt"],
    ):
        completed = sandbox.run(*words)
        assert completed.code == (code if words == ["--once"] else 0), (words, completed.out, completed.err)
    result = {item["path"]: item["state"] for item in sandbox.status()["items"]}
    assert result == {"a.md": "ready", **({f"{folder}/": "failed"} if code else {f"{folder}/c.md": "ready"})}


@long
@enumerated()
@pytest.mark.parametrize("quiet", [(), ("-q",)])
def test_stderr_is_json_without_a_terminal_and_reports_each_failure_once(
    sandbox: Sandbox, quiet: tuple[str, ...]
) -> None:
    sandbox.prepare(
        {"good.md": "text", "broken.pdf": "this is no pdf", "odd.bin": bytes(range(256))}, "include: ['*']"
    )
    for done in ("1 uploaded", "nothing changed"):  # earlier failures are reported as well
        completed = sandbox.run("--once", *quiet)
        assert (completed.code, f"1 document searchable, {done}, 2 failed" in completed.out) == (1, not quiet)
        log_lines = [json.loads(line) for line in completed.err.splitlines()]
        failed = {line["path"]: line for line in log_lines if line["event"] == "document.failed"}
        assert sorted(failed) == ["broken.pdf", "odd.bin"]
        assert failed["broken.pdf"]["reason"].startswith("cannot be read: ")
        assert (completed.err.count("broken.pdf"), completed.err.count("odd.bin")) == (1, 1)
        [advice] = [line for line in log_lines if line["event"] == "documents.failed"]
        assert (advice["count"], advice["explain"]) == (2, "kbsync explain PATH")
    result = sandbox.run("--once", "--json").json
    assert (result["failed"], result["mirrors"][0]["documents"]["failed"]) == (2, 2)


@long
@pytest.mark.parametrize(("tty", "message"), [(False, '"event": "pass.progressed"'), (True, "/10 [00:0")])
def test_pass_shows_its_progress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tty: bool, message: str
) -> None:
    for name in ("PATIENCE", "OFTEN", "SELDOM"):
        monkeypatch.setattr(once, name, 0.05)
    with zhipu_sandbox(tmp_path, latency=0.03) as zhipu:
        for number in range(10):
            zhipu.write(f"{number}.md", f"document {number}\n")
        result = zhipu.run("--once", tty=tty)
    assert result.code == 0
    assert message in result.err


def test_halted_pass_does_not_claim_that_nothing_changed(sandbox: Sandbox) -> None:
    sandbox.mirror({"a.md": "alpha"})
    sandbox.docs.rename(sandbox.root / "away")
    result = sandbox.run("--once")
    assert result.code == 3
    assert result.out.startswith("handbook: 1 document searchable, halted (folder not readable); ")


@long
def test_pass_says_why_a_document_is_still_there(zhipu: ZhipuSandbox) -> None:
    zhipu.write_all({f"{number}.md": f"text {number}" for number in range(6)})
    zhipu.run("--once").check_success()
    refusal = {"code": 4711, "message": "not today"}
    zhipu.service.play("code-in-200", op="delete", times=0, effect=False, args=refusal)
    (zhipu.docs / "0.md").unlink()
    result = zhipu.run("--once")
    assert result.code == 4
    [line] = map(json.loads, result.err.splitlines())
    assert line["reason"] == "0.md: the service refused the request (code 4711: not today)"


@long
def test_pass_without_its_embedding_service_names_that_service(sandbox: Sandbox) -> None:
    sandbox.write("a.md", "alpha")
    sandbox.configure("target: {type: local, embedding: {type: tei, base_url: 'http://127.0.0.1:1'}}\n")
    result = sandbox.go("--once", hurried=True)
    assert result.code == Code.PASSING
    assert "halted (embedding service not reachable)" in result.out
    [mirror] = sandbox.run("status", "--json").json["mirrors"]
    assert mirror["halt"]["reason"] == "target-down"
    assert "embedding service not reachable: embed: 127.0.0.1:1" in sandbox.run("status").out
