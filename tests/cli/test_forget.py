"""Tests `kbsync forget`: it asks first, drops the state, and deletes our documents if requested."""

from __future__ import annotations

import shutil

import pytest

from kbsync.state import lock
from tests.cli.cures import proves
from tests.cli.place import Place, words_of
from tests.cli.zhipu import ZhipuPlace
from tests.share import long


def naming(place: Place, *words: str) -> list[str]:
    """Return files under the state directory that contain one of these words, or have it in their path."""
    return [
        f"{file.relative_to(place.state)}: {word}"
        for file in place.state.rglob("*")
        for word in words
        if file.is_file()
        and (word.encode() in file.read_bytes() or word in str(file.relative_to(place.state)))
    ]


@long
@pytest.mark.parametrize("options", [(), ("--delete-documents",)])
def test_forget_leaves_no_name_of_a_file_in_the_state(place: Place, options: tuple[str, ...]) -> None:
    names = ("zqfirst", "zqfailed", "zqskipped", "zqsub", "zqgone", str(place.docs))
    for name in ("zqfirst.md", "zqfailed.pdf", "zqskipped.bin", "zqsub/zqgone.md"):
        place.write(name, "\0" if "skipped" in name else "text")
    place.configure()
    assert place.run("--once").code == 1
    (place.docs / "zqsub/zqgone.md").unlink()
    assert place.run("--once").code == 1
    shutil.copy(place.state / "state.db", place.state / "state.db.damaged-1")
    assert naming(place, *names)
    assert place.run("forget", "handbook", "--yes", *options).code == 0
    left = naming(place, *names)
    assert [each for each in left if options or not each.startswith("kb/")] == []
    assert place.run("--once").code == 1


def test_forget_of_a_folder_with_its_documents_leaves_nothing_and_no_known_folder(place: Place) -> None:
    place.write("a.md", "alpha")
    assert place.run("--once", "--folder", "docs").code == 0
    ran = place.run("forget", "docs", "--delete-documents", "--yes", "--folder", "docs")
    assert (ran.code, ran.out) == (0, "docs is forgotten; 1 document deleted\n")
    assert [each for each in place.state.rglob("*") if each.is_file()] == []
    assert "no earlier run used --folder" in place.run("status").err
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


# -- documents that stay -----------------------------------------------------------------------------------


@long
def test_forget_drops_the_state_and_says_what_stays_and_where(failed: Place) -> None:
    ran = failed.run("forget", "handbook", "--yes")
    base = failed.state / "kb" / "handbook"
    assert ran.code == 0
    assert f"1 document in {base} will stay" in ran.err
    done, stays, then = ran.out.splitlines()
    assert (done, stays) == ("handbook is forgotten", f"1 document stays in {base}")
    assert then.endswith("to delete them: kbsync forget handbook --delete-documents")
    [told] = failed.run("status", "--json").json["mirrors"]
    assert told["last_pass"] is None
    assert "1 document is still in" in told["note"]
    again = failed.run("--once", "--json").json
    assert (again["uploaded"], again["mirrors"][0]["documents"]["ready"]) == (0, 1)
    assert "note" not in again["mirrors"][0]


def test_a_search_finds_nothing_of_what_was_forgotten(place: Place) -> None:
    place.write("a.md", "alpha")
    place.configure()
    assert place.run("--once").code == 0
    assert place.search("alpha") == ["a.md"]
    assert place.run("forget", "handbook", "--yes").code == 0
    ran = place.run("search", "alpha")
    assert (ran.code, ran.out) == (2, "")
    assert "handbook is forgotten; 1 document is still in" in ran.err
    assert "to mirror it again: kbsync --once" in ran.err
    assert place.run("--once").code == 0
    assert place.search("alpha") == ["a.md"]


@long
def test_a_search_answers_from_the_mirrors_that_are_left(place: Place) -> None:
    place.write("a.md", "alpha of the first")
    (place.root / "more").mkdir()
    (place.root / "more" / "b.md").write_text("alpha of the second")
    place.configure()
    place.config.write_text(f"{place.config.read_text()}  - {{name: more, folder: {place.root}/more}}\n")
    assert place.run("--once").code == 0
    assert sorted(place.search("alpha")) == ["a.md", "b.md"]
    assert place.run("forget", "handbook", "--yes").code == 0
    assert place.search("alpha") == ["b.md"]


@pytest.mark.parametrize("options", [("--folder", "docs"), ()], ids=["folder", "name"])
def test_documents_of_a_forgotten_folder_are_deleted_by_its_name(
    place: Place, options: tuple[str, ...]
) -> None:
    place.write("a.md", "alpha")
    assert place.run("--once", "--folder", "docs").code == 0
    told = place.run("forget", "docs", "--yes", *options)
    assert "1 document stays in" in told.out
    asked = place.run("forget", "docs", "--delete-documents", *options)
    assert (asked.code, "pass --yes to forget docs" in asked.err) == (2, True)
    assert "1 document left in" in asked.err
    command = told.out.strip().rpartition("to delete them: ")[2]
    ran = place.run(*words_of(command), "--yes")
    assert (ran.code, ran.out) == (0, "docs is forgotten; 1 document deleted\n")
    assert [each for each in place.state.rglob("*") if each.is_file()] == []
    assert place.run("forget", "docs", "--delete-documents", "--yes").code == 2


def test_a_mirror_that_left_the_config_is_forgotten_with_its_documents(place: Place) -> None:
    place.write("a.md", "alpha")
    text = place.configure().read_text()
    assert place.run("--once").code == 0
    (place.root / "other").mkdir()
    place.config.write_text(text.replace("handbook", "other").replace("/docs", "/other"))
    ran = place.run("forget", "handbook", "--delete-documents", "--yes")
    assert (ran.code, ran.out) == (0, "handbook is forgotten; 1 document deleted\n")
    # And without any config.
    place.config.write_text(text)
    assert place.run("--once").code == 0
    place.config.unlink()
    assert place.run("forget", "handbook", "--delete-documents", "--yes").code == 0


def test_a_mirror_takes_over_again_what_it_left(place: Place) -> None:
    place.write("a.md", "alpha")
    place.configure()
    assert place.run("--once").code == 0
    assert place.run("forget", "handbook", "--yes").code == 0
    assert place.run("--once").code == 0
    ran = place.run("forget", "handbook", "--delete-documents")
    assert "left in" not in ran.err
    assert "1 document in" in ran.err
    (place.docs / "a.md").unlink()
    place.write("b.md", "beta")
    assert place.run("approve", "--yes").code == 0
    assert place.run("--once").code == 3
    assert place.run("approve", "--yes").code == 0
    assert place.run("--once").code == 0
    ran = place.run("forget", "handbook", "--delete-documents", "--yes")
    assert ran.out == "handbook is forgotten; 1 document deleted\n"


@long
def test_documents_at_a_service_are_deleted_by_the_name_of_the_mirror_that_left_them(
    zhipu: ZhipuPlace,
) -> None:
    zhipu.write("a.md", "alpha")
    assert zhipu.go("--once").code == 0
    [_] = zhipu.service.documents()
    ran = zhipu.run("forget", "handbook", "--yes")
    assert "1 document stays in zhipu" in ran.out
    assert len(zhipu.service.documents()) == 1
    ran = zhipu.run("forget", "handbook", "--delete-documents", "--yes")
    assert ran.out == "handbook is forgotten; 1 document deleted\n"
    assert zhipu.service.documents() == []


@long
def test_what_another_mirror_has_taken_over_is_not_deleted_as_left(zhipu: ZhipuPlace) -> None:
    zhipu.write("a.md", "alpha")
    zhipu.write("b.md", "beta")
    assert zhipu.go("--once").code == 0
    assert zhipu.run("forget", "handbook", "--yes").code == 0
    (zhipu.docs / "b.md").write_text("another beta")
    zhipu.config.write_text(zhipu.config.read_text().replace("handbook", "library"))
    assert zhipu.go("--once").code == 0
    before = zhipu.service.documents()
    ran = zhipu.run("forget", "handbook", "--delete-documents", "--yes")
    assert ran.out == "handbook is forgotten; 1 document deleted\n"
    left = zhipu.service.documents()
    assert (len(before), len(left)) == (3, 2)
    assert zhipu.run("verify").code == 0


@proves("forget {}")
def test_of_several_mirrors_with_one_name_a_person_chooses(place: Place) -> None:
    for above in ("first", "second"):
        folder = place.root / above / "notes"
        folder.mkdir(parents=True)
        (folder / "a.md").write_text(above)
        assert place.run("--once", "--folder", folder).code == 0
    ran = place.run("forget", "notes", "--delete-documents", "--yes")
    assert ran.code == 2
    first, *_ = [line for line in ran.err.splitlines() if "--state-dir" in line]
    asked = place.run(*words_of(first.removeprefix("kbsync: ")))
    assert "1 document in" in asked.err
    assert place.run(*words_of(first.removeprefix("kbsync: ")), "--yes").code == 0
