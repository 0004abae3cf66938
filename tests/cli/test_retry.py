"""Tests that `kbsync retry` retries failed documents and `kbsync approve` releases held ones."""

from __future__ import annotations

import contextlib
import os
import shutil

import apsw
import pytest

from kbsync.core.model import UploadState
from tests.cli.sandbox import Sandbox, words_of
from tests.cli.terminal import Begin
from tests.share import enumerated, long

# -- retry ----------------------------------------------------------------------------------------------


@long
def test_retry_releases_all_failures(failed: Sandbox) -> None:
    result = failed.run("retry").check_success()
    assert "2 documents will be retried" in result.out
    assert "broken.pdf" in result.out
    expected = "the next pass will handle the request; to run a pass now: kbsync --once"
    assert result.out.splitlines()[-1] == expected
    failed.add_mirror("other")
    failed.run("pause", "other").check_success()
    assert failed.run("retry").out.splitlines()[-1] == expected, "only the other mirror is paused"
    failed.run("resume", "other").check_success()
    good = failed.run("retry", "good.md")
    assert (good.code, good.out) == (0, "nothing has failed\n")
    failed.write("broken.pdf", "still no pdf")
    assert failed.run("--once").code == 1


@long
def test_retry_includes_failures_already_being_retried(sandbox: Sandbox) -> None:
    sandbox.mirror({"good.md": "text"})
    assert sandbox.run("retry").out == "nothing has failed\n"
    with contextlib.closing(apsw.Connection(os.fspath(sandbox.state / "state.db"))) as database:
        database.execute("UPDATE upload SET state = ?, repairs = 2", (int(UploadState.INDEXING),))
    assert "handbook: 1 document in progress will be retried\n" in sandbox.run("retry").out


@pytest.mark.parametrize("command", ["retry", "approve", "state backup copy.db"])
def test_commands_before_the_first_pass_name_the_command_to_run(sandbox: Sandbox, command: str) -> None:
    sandbox.run(*command.split(), "--folder", "docs").check_refusal(
        2, f"run: kbsync --once --folder {sandbox.docs}"
    )
    assert not (sandbox.home / ".local").exists()


# -- approve --------------------------------------------------------------------------------------------


@long
def test_replaced_folder_is_approved_as_it_is(sandbox: Sandbox) -> None:
    """If another folder has replaced the mirrored one, the fix of the halt accepts it."""
    sandbox.mirror({f"{number}.md": f"text {number}" for number in range(4)})
    shutil.copytree(sandbox.docs, sandbox.root / "copy")
    sandbox.docs.rename(sandbox.root / "old")
    (sandbox.root / "copy").rename(sandbox.docs)
    (sandbox.docs / "1.md").unlink()
    held = sandbox.run("--once", "--json")
    assert (held.code, held.json["held"]) == (3, 1)
    fix = held.json["mirrors"][0]["halt"]["cure"]
    assert "- 1.md" in sandbox.run(*words_of(fix), "--yes").out
    second_pass = sandbox.run("--once", "--json")
    assert (second_pass.code, second_pass.json["deleted"], second_pass.json["uploaded"]) == (0, 1, 0)


# -- paths ---------------------------------------------------------------------------------------------


@long
@pytest.mark.parametrize(
    ("typed", "folder", "expected"),
    [
        ("broken.pdf", ".", "broken.pdf"),
        ("docs/broken.pdf", ".", "broken.pdf"),
        ("broken.pdf", "docs", "broken.pdf"),
        ("scans/torn.pdf", "docs", "scans/torn.pdf"),
        ("scans/torn.pdf", "docs/scans", "scans/torn.pdf"),
        ("torn.pdf", "docs/scans", "scans/torn.pdf"),
        ("../broken.pdf", "docs/scans", "broken.pdf"),
        ("broken.pdf", "docs/scans", "broken.pdf"),
        ("twice.pdf", "docs/scans", "scans/twice.pdf"),
        ("lost.pdf", "docs/scans", "scans/lost.pdf"),
        ("scans/lost.pdf", "docs/scans", "scans/lost.pdf"),
        ("link/broken.pdf", ".", "broken.pdf"),
    ],
)
def test_every_command_resolves_a_path_to_the_same_file(
    failed: Sandbox, typed: str, folder: str, expected: str
) -> None:
    for path in ("twice.pdf", "scans/twice.pdf", "scans/lost.pdf"):
        failed.write(path, "no pdf")
    (failed.root / "link").symlink_to("docs")
    assert failed.run("--once").code == 1
    (failed.docs / "scans/lost.pdf").unlink()  # the state knows it, and no pass has missed it yet
    explained = failed.run("explain", typed, "--json", cwd=failed.root / folder).json
    assert (explained["mirror"], explained["path"]) == ("handbook", expected)
    retried = failed.run("retry", typed, cwd=failed.root / folder).check_success()
    assert retried.out.splitlines()[1] == f"  {expected}"


@enumerated()
@pytest.mark.parametrize(
    ("typed", "folder"), [("link", "."), ("docs", "."), (".", "docs"), ("..", "docs/scans")]
)
def test_every_command_resolves_a_folder_to_the_whole_mirror(
    failed: Sandbox, typed: str, folder: str
) -> None:
    (failed.root / "link").symlink_to("docs")
    assert failed.run("explain", typed, "--json", cwd=failed.root / folder).json["path"] == ""
    assert "2 documents" in failed.run("retry", typed, cwd=failed.root / folder).out


@long
def test_mass_deletion_is_held_and_the_suggested_command_approves_exactly_it(sandbox: Sandbox) -> None:
    sandbox.mirror({f"{number}.md": f"document number {number}" for number in range(8)})
    result = sandbox.run("approve")
    assert (result.code, result.out) == (0, "nothing is held\n")
    assert sandbox.run("approve", "nobody").code == 2
    for number in range(7):
        (sandbox.docs / f"{number}.md").unlink()
    held = sandbox.run("--once")
    assert (held.code, ": 8 documents searchable, 7 held;" in held.out) == (3, True)
    at_terminal = sandbox.run("--once", tty=True).err
    named = "handbook: 7 documents are waiting for approval: 0.md, 1.md, 2.md and 4 more; to list all: kbsync"
    assert named in at_terminal
    for options in ((), ("-q",), ("--log-format", "console")):
        # In a log, too, the command is easy to see.
        log = sandbox.run("--once", *options).err
        held = "waiting for approval to delete the document"
        assert (log.count("kbsync approve"), log.count(held)) == (1, 3)
        assert log.count("list.shortened") == 1

    status_report = sandbox.run("status", "--json").json["mirrors"][0]
    assert status_report["halt"]["reason"] == "deletions-held"
    assert status_report["documents"]["held"] == 7
    planned = sandbox.run("plan", "--json").json["mirrors"][0]
    assert planned["held"] == [f"{number}.md" for number in range(7)]

    refused = sandbox.run(*words_of(status_report["halt"]["cure"]))
    assert (refused.code, refused.err) == (2, "kbsync: not a terminal; pass --yes to approve this\n")
    assert sandbox.status()["documents"]["held"] == 7
    approved = sandbox.run(*words_of(status_report["halt"]["cure"]), "--yes").check_success()
    assert all(f"- {number}.md" in approved.out for number in range(7))
    second_pass = sandbox.run("--once", "--json")
    assert (second_pass.code, second_pass.json["deleted"], second_pass.json["held"]) == (0, 7, 0)
    hits = sandbox.run("search", "document number", "--json").json["hits"]
    assert [hit["path"] for hit in hits] == ["7.md"]


def hold_deletions(sandbox: Sandbox) -> None:
    """Mirror three documents and delete their files, so that the deletions need approval."""
    sandbox.mirror({f"{number}.md": f"document number {number}" for number in range(3)})
    for file in sandbox.docs.iterdir():
        file.unlink()
    assert sandbox.run("--once").code == 3


@long
@pytest.mark.parametrize("kind", ["deletions", "renewals"])
def test_approved_documents_are_not_shown_again(sandbox: Sandbox, kind: str) -> None:
    """`approve` asks about what `status` and the web page show as held, until a pass carries it out."""
    hold_deletions(sandbox)
    with contextlib.closing(apsw.Connection(os.fspath(sandbox.state / "state.db"))) as database:
        if kind == "renewals":
            database.execute("DELETE FROM removal; UPDATE hold SET kind = 'renewals'")
        assert sandbox.run("approve").code == 2, "it asks"
        database.execute("UPDATE hold SET approved_at = 1")
        assert sandbox.run("approve").out == "nothing is held\n"
        database.execute("UPDATE hold SET approved_at = NULL")
        assert sandbox.run("approve").code == 2, "an expired approval asks again"


def test_nothing_is_approved_for_a_missing_folder(sandbox: Sandbox) -> None:
    """A folder that appears later must not be accepted unseen."""
    sandbox.mirror({"a.md": "alpha"})
    sandbox.docs.rename(sandbox.root / "away")
    assert sandbox.run("--once").code == 3
    assert "nothing is held" in sandbox.run("approve").out


@long
def test_approve_lists_deletions_and_asks(terminal: Begin, sandbox: Sandbox) -> None:
    hold_deletions(sandbox)
    for typed, code in (("n", 3), ("y", 0)):
        asking = terminal(sandbox, "approve")
        prompt = asking.until("Approve? [y/N]: ")
        assert "handbook: delete 3 documents:" in prompt and " 2.md" in prompt
        asking.type(f"{typed}\r")
        assert asking.end() == 0
        assert sandbox.run("--once").code == code


@long
def test_quiet_approve_prints_nothing(sandbox: Sandbox) -> None:
    hold_deletions(sandbox)
    result = sandbox.run("approve", "-q", "--yes")
    assert (result.code, result.out, result.err) == (0, "", "")
    assert sandbox.run("--once", "--json").json["deleted"] == 3
