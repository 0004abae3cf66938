"""`kbsync forget`: asks first, drops the state, and deletes our documents where that is said."""

from __future__ import annotations

import shutil

import pytest

from kbsync.state import lock
from tests.cli.place import Place
from tests.share import long


@long
def test_forget_drops_the_state_and_leaves_the_documents(failed: Place) -> None:
    ran = failed.run("forget", "handbook", "--yes")
    assert (ran.code, ran.out) == (0, "handbook is forgotten\n")
    assert "1 document stays where it is" in ran.err
    assert failed.run("status", "--json").json["mirrors"][0]["last_pass"] is None
    assert failed.run("search", "text", "--json").json["hits"] != []
    again = failed.run("--once", "--json").json
    assert (again["uploaded"], again["mirrors"][0]["documents"]["ready"]) == (0, 1)


def naming(place: Place, *words: str) -> list[str]:
    """Files under the state directory that hold one of these words, or have it in their path."""
    return [
        f"{file.relative_to(place.state)}: {word}"
        for file in place.state.rglob("*")
        for word in words
        if file.is_file()
        and (word.encode() in file.read_bytes() or word in str(file.relative_to(place.state)))
    ]


@long
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
    options = ("--folder", "docs", "--state-dir", "own")
    assert place.run("--once", *options).code == 0
    (place.root / "own" / "notes.txt").write_text("mine")
    assert place.run("forget", "docs", "--delete-documents", "--yes", *options).code == 0
    assert (place.root / "own" / "notes.txt").read_text() == "mine"


@long
def test_forget_needs_the_lock(failed: Place) -> None:
    with lock.held(failed.state):
        assert failed.run("forget", "handbook", "--yes").code == 4
    assert failed.run("status", "--json").json["mirrors"][0]["documents"]["ready"] == 1
