"""Commands that ask the engine for something, and those that write a file of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat

import apsw
import pytest

from kbsync.core.model import UploadState
from kbsync.state import lock
from tests.cli.place import Place, words_of


@pytest.fixture
def failed(place: Place) -> Place:
    """A mirror with one good document and two that failed."""
    place.write("good.md", "text")
    place.write("broken.pdf", "this is no pdf")
    place.write("scans/torn.pdf", "nor is this")
    place.configure()
    assert place.run("--once").code == 1
    return place


# -- retry ----------------------------------------------------------------------------------------------


def test_retry_releases_everything_that_failed(failed: Place) -> None:
    ran = failed.run("retry")
    assert ran.code == 0
    assert "2 documents will be tried again" in ran.out
    assert "broken.pdf" in ran.out
    assert ran.out.splitlines()[-1] == "the next pass does it: kbsync --once"
    failed.write("broken.pdf", "still no pdf")
    assert failed.run("--once").code == 1


def test_retry_of_what_did_not_fail_says_so(failed: Place) -> None:
    ran = failed.run("retry", "good.md")
    assert (ran.code, ran.out) == (0, "nothing has failed\n")


def test_retry_reaches_what_failed_before_and_is_on_its_way_again(place: Place) -> None:
    place.write("good.md", "text")
    place.configure()
    assert place.run("--once").code == 0
    assert place.run("retry").out == "nothing has failed\n"
    with contextlib.closing(apsw.Connection(os.fspath(place.state / "state.db"))) as database:
        database.execute("UPDATE upload SET state = ?, repairs = 2", (int(UploadState.INDEXING),))
    assert "handbook: 1 document on the way will be tried again\n" in place.run("retry").out


def test_a_running_kbsync_is_told_to_do_it_now(failed: Place) -> None:
    with lock.held(failed.state):
        ran = failed.run("retry")
    assert ran.out.splitlines()[-1] == "the running kbsync does it now"


@pytest.mark.parametrize("command", ["retry", "approve", "state backup copy.db"])
def test_asking_before_anything_was_mirrored_names_the_command_to_run(place: Place, command: str) -> None:
    ran = place.run(*command.split(), "--folder", "docs")
    assert (ran.code, ran.out) == (2, "")
    assert f"run: kbsync --once --folder {place.docs}" in ran.err
    assert not (place.home / ".local").exists()


# -- approve --------------------------------------------------------------------------------------------


def test_a_folder_that_is_another_one_is_approved_as_it_is(place: Place) -> None:
    """Where another folder has come in the place of the mirrored one, the cure of the halt accepts it."""
    for number in range(4):
        place.write(f"{number}.md", f"text {number}")
    place.configure()
    place.run("--once")
    shutil.copytree(place.docs, place.root / "copy")
    place.docs.rename(place.root / "old")
    (place.root / "copy").rename(place.docs)
    (place.docs / "1.md").unlink()
    held = place.run("--once", "--json")
    assert (held.code, held.json["held"]) == (3, 1)
    cure = held.json["mirrors"][0]["halt"]["cure"]
    assert "- 1.md" in place.run(*words_of(cure)).out
    gone = place.run("--once", "--json")
    assert (gone.code, gone.json["deleted"], gone.json["uploaded"]) == (0, 1, 0)


# -- init -----------------------------------------------------------------------------------------------


def test_init_writes_where_it_is_told(place: Place) -> None:
    ran = place.run("init", "docs", "--config", "my config.yaml")
    assert (place.root / "my config.yaml").is_file()
    command = next(line.split("#")[0] for line in ran.out.splitlines() if line.startswith("  kbsync"))
    assert words_of(command) == ["--once", "--config", "my config.yaml"]
    assert not place.config.exists()


# -- state backup ---------------------------------------------------------------------------------------


def test_backup_is_a_sound_private_copy(failed: Place) -> None:
    copy = failed.root / "copy.db"
    with lock.held(failed.state):  # also while another process works
        assert failed.run("state", "backup", copy).code == 0
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert [p.name for p in failed.root.glob("copy.db*")] == ["copy.db"]
    database = apsw.Connection(str(copy))
    assert database.pragma("integrity_check") == "ok"
    assert database.execute("SELECT name FROM mirror").fetchall() == [("handbook",)]
    database.close()


def test_a_backup_can_be_put_in_the_place_of_the_state(failed: Place) -> None:
    copy = failed.root / "copy.db"
    failed.run("state", "backup", copy)
    for file in failed.state.glob("state.db*"):
        file.unlink()
    copy.rename(failed.state / "state.db")
    ran = failed.run("--once", "--json")
    assert (ran.code, ran.json["uploaded"], ran.json["mirrors"][0]["documents"]["ready"]) == (1, 0, 1)


# -- completion -----------------------------------------------------------------------------------------


# -- paths ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "where", "meant"),
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
def test_every_command_means_the_same_file_by_a_path(
    failed: Place, typed: str, where: str, meant: str
) -> None:
    for path in ("twice.pdf", "scans/twice.pdf", "scans/lost.pdf"):
        failed.write(path, "no pdf")
    (failed.root / "link").symlink_to("docs")
    assert failed.run("--once").code == 1
    (failed.docs / "scans/lost.pdf").unlink()  # the state knows it, and no pass has missed it yet
    explained = failed.run("explain", typed, "--json", cwd=failed.root / where).json
    assert (explained["mirror"], explained["path"]) == ("handbook", meant)
    retried = failed.run("retry", typed, cwd=failed.root / where)
    assert retried.code == 0, retried.err
    assert retried.out.splitlines()[1] == f"  {meant}"


@pytest.mark.parametrize(
    ("typed", "where"), [("link", "."), ("docs", "."), (".", "docs"), ("..", "docs/scans")]
)
def test_every_command_means_the_whole_mirror_by_its_folder(failed: Place, typed: str, where: str) -> None:
    (failed.root / "link").symlink_to("docs")
    assert failed.run("explain", typed, "--json", cwd=failed.root / where).json["path"] == ""
    assert "2 documents" in failed.run("retry", typed, cwd=failed.root / where).out


# -- forget ---------------------------------------------------------------------------------------------


def test_forget_asks_and_is_refused_without_a_terminal_or_yes(failed: Place) -> None:
    ran = failed.run("forget", "handbook")
    assert ran.code == 2
    assert "1 document" in ran.err
    assert "--yes" in ran.err
    assert failed.run("status", "--json").json["mirrors"][0]["documents"]["ready"] == 1


def test_forget_drops_the_state_and_leaves_the_documents(failed: Place) -> None:
    ran = failed.run("forget", "handbook", "--yes")
    assert (ran.code, ran.out) == (0, "handbook is forgotten\n")
    assert "1 document stays where it is" in ran.err
    assert failed.run("status", "--json").json["mirrors"][0]["last_pass"] is None
    assert failed.run("search", "text", "--json").json["hits"] != []
    again = failed.run("--once", "--json").json
    assert (again["uploaded"], again["mirrors"][0]["documents"]["ready"]) == (0, 1)


def test_forget_deletes_our_documents_on_request(failed: Place) -> None:
    ran = failed.run("forget", "handbook", "--delete-documents", "--yes")
    assert ran.code == 0
    assert "1 document deleted" in ran.out
    assert failed.run("search", "text", "--json").json["hits"] == []


def naming(place: Place, *words: str) -> list[str]:
    """Files under the state directory that hold one of these words, or have it in their path."""
    return [
        f"{file.relative_to(place.state)}: {word}"
        for file in place.state.rglob("*")
        for word in words
        if file.is_file()
        and (word.encode() in file.read_bytes() or word in str(file.relative_to(place.state)))
    ]


@pytest.mark.parametrize("more", [(), ("--delete-documents",)])
def test_forget_leaves_no_name_of_a_file_in_the_state(place: Place, more: tuple[str, ...]) -> None:
    names = ("zqfirst", "zqfailed", "zqskipped", "zqsub", "zqgone", str(place.docs))
    for name in ("zqfirst.md", "zqfailed.pdf", "zqskipped.bin", "zqsub/zqgone.md"):
        place.write(name, "\0" if "skipped" in name else "text")
    place.configure()
    assert place.run("--once").code == 1
    (place.docs / "zqsub/zqgone.md").unlink()
    assert place.run("--once").code == 1
    shutil.copy(place.state / "state.db", place.state / "state.db.damaged-1")
    assert naming(place, *names)
    assert place.run("forget", "handbook", "--yes", *more).code == 0
    left = naming(place, *names)
    assert [each for each in left if more or not each.startswith("kb/")] == []
    assert place.run("--once").code == 1


def test_forget_of_a_folder_with_its_documents_leaves_nothing_and_no_known_folder(place: Place) -> None:
    place.write("a.md", "alpha")
    assert place.run("--once", "--folder", "docs").code == 0
    ran = place.run("forget", "docs", "--delete-documents", "--yes", "--folder", "docs")
    assert (ran.code, ran.out) == (0, "docs is forgotten; 1 document deleted\n")
    assert [each for each in place.state.rglob("*") if each.is_file()] == []
    assert "no folder is known" in place.run("status").err
    assert place.run("--once", "--folder", "docs").code == 0


def test_forget_needs_the_lock(failed: Place) -> None:
    with lock.held(failed.state):
        assert failed.run("forget", "handbook", "--yes").code == 4
    assert failed.run("status", "--json").json["mirrors"][0]["documents"]["ready"] == 1


def test_forget_of_a_folder_leaves_what_else_lies_in_a_state_directory_that_was_named(place: Place) -> None:
    place.write("a.md", "alpha")
    options = ("--folder", "docs", "--state-dir", "own")
    assert place.run("--once", *options).code == 0
    other = place.root / "own" / "notes.txt"
    other.write_text("mine")
    assert place.run("forget", "docs", "--delete-documents", "--yes", *options).code == 0
    assert other.read_text() == "mine"
