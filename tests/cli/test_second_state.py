"""Tests states that know only a part of a base: after a rename and move, two in turn, or a loss."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.cli.knowledge_bases import KnowledgeBase, files_of, local, postgres, service, zhipu
from tests.cli.place import Place
from tests.share import long


@pytest.fixture(params=["local", "postgres", "zhipu"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KnowledgeBase]:
    with contextlib.ExitStack() as stack:
        match request.param:
            case "local":
                yield stack.enter_context(local(tmp_path / "base"))
            case "postgres":
                yield stack.enter_context(postgres(request.getfixturevalue("postgres")))
            case _:
                yield stack.enter_context(zhipu())


@pytest.fixture(params=["local", "postgres"])
def proving(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KnowledgeBase]:
    """A base that proves whose documents it has."""
    with contextlib.ExitStack() as stack:
        if request.param == "local":
            yield stack.enter_context(local(tmp_path / "base"))
        else:
            yield stack.enter_context(postgres(request.getfixturevalue("postgres")))


@pytest.fixture
def docs(place: Place) -> Path:
    for number in range(8):
        place.write(f"f{number}.md", f"text number {number} of the handbook")
    return place.docs


def configure(place: Place, *mirrors: dict[str, Any], state: str = "state") -> None:
    place.config.parent.mkdir(parents=True, exist_ok=True)
    whole = {
        "state_dir": str(place.home / state),
        "mirrors": [{"settle": "100ms", **mirror_entry} for mirror_entry in mirrors],
    }
    place.config.write_text(json.dumps(whole))


def mirror(name: str, folder: Path, base: KnowledgeBase, **settings: Any) -> dict[str, Any]:
    return {"name": name, "folder": str(folder), "target": base.target, **settings}


def passed(place: Place) -> dict[str, Any]:
    ran = place.run("--once", "--json")
    assert ran.code == 0, (ran.out, ran.err)
    return dict(ran.json)


def check_mirrored(place: Place, base: KnowledgeBase, folder: Path, prefix: str = "") -> None:
    assert base.documents(prefix) == files_of(folder, prefix)
    assert place.run("verify").code == 0


def test_mirror_renamed_and_moved_at_once_keeps_its_documents(
    place: Place, docs: Path, base: KnowledgeBase
) -> None:
    configure(place, mirror("handbook", docs, base))
    passed(place)
    moved = docs.rename(place.root / "manual")
    configure(place, mirror("manual", moved, base))
    assert passed(place)["uploaded"] == 0
    check_mirrored(place, base, moved)
    (moved / "f2.md").unlink()
    passed(place)
    check_mirrored(place, base, moved)


def test_mirror_renamed_with_a_new_prefix_keeps_its_documents(
    place: Place, docs: Path, base: KnowledgeBase
) -> None:
    configure(place, mirror("handbook", docs, base, prefix="a/"))
    passed(place)
    moved = docs.rename(place.root / "moved")
    configure(place, mirror("handbook", moved, base, prefix="a/"))
    passed(place)
    configure(place, mirror("manual", moved, base, prefix="b/"))
    passed(place)
    if base.target["type"] == "local":  # a base for one mirror has no prefix
        check_mirrored(place, base, moved)
    else:
        check_mirrored(place, base, moved, "b/")
        assert base.documents("a/") == []


@pytest.mark.parametrize("turned", [False, True])
def test_mirror_renamed_while_its_folder_gets_a_second_mirror_keeps_its_documents(
    place: Place, docs: Path, base: KnowledgeBase, turned: bool
) -> None:
    configure(place, mirror("a", docs, base))
    passed(place)
    with local(place.root / "second") as second:
        both = [mirror("b", docs, second), mirror("c", docs, base)]
        configure(place, *(reversed(both) if turned else both))
        assert passed(place)["uploaded"] == 8
        check_mirrored(place, base, docs)
        check_mirrored(place, second, docs)


@pytest.mark.parametrize("is_older", [False, True])
def test_mirrors_of_one_folder_are_told_apart_by_their_base(
    place: Place, docs: Path, base: KnowledgeBase, is_older: bool
) -> None:
    with local(place.root / "second") as second:
        configure(place, mirror("b", docs, base, prefix="a/"), mirror("a", docs, second))
        passed(place)
        if is_older:  # the state of an earlier kbsync
            with apsw.Connection(str(place.home / "state" / "state.db")) as connection:
                connection.execute("UPDATE mirror SET location = ''")
        configure(place, mirror("c", docs, base, prefix="b/"))
        passed(place)
        check_mirrored(place, base, docs, "" if base.target["type"] == "local" else "b/")
        assert len(base.documents("")) == len(files_of(docs))


def test_mirror_whose_name_is_reused_keeps_its_documents(
    place: Place, docs: Path, base: KnowledgeBase
) -> None:
    configure(place, mirror("a", docs, base))
    passed(place)
    other = place.root / "other"
    other.mkdir()
    (other / "one.md").write_text("the only one")
    with local(place.root / "second") as second:
        configure(place, mirror("a", other, second), mirror("c", docs, base))
        place.run("--once")
        assert base.documents("") == files_of(docs)


def test_alternating_states_of_a_mirror_leave_no_duplicates(
    place: Place, docs: Path, proving: KnowledgeBase
) -> None:
    for turn, state in enumerate(["one", "two", "two", "one", "one", "two"]):
        configure(place, mirror("handbook", docs, proving), state=state)
        (docs / "f1.md").write_text(f"as of turn {turn}")
        (docs / f"new{turn}.md").write_text(f"new at turn {turn}")
        if turn:
            (docs / f"new{turn - 1}.md").unlink()
        passed(place)
        check_mirrored(place, proving, docs)


def test_copied_state_notices_work_of_its_copy(place: Place, docs: Path, proving: KnowledgeBase) -> None:
    configure(place, mirror("handbook", docs, proving), state="one")
    passed(place)
    shutil.copytree(place.home / "one", place.home / "two")
    for turn, state in enumerate(["one", "two", "one"]):
        configure(place, mirror("handbook", docs, proving), state=state)
        (docs / "f1.md").write_text(f"as of turn {turn}")
        passed(place)
        check_mirrored(place, proving, docs)


def restore(place: Place, backup: Path) -> None:
    """Restore the state as docs/backup.md says."""
    shutil.copyfile(backup, place.state / "state.db")
    for suffix in ("-wal", "-shm"):
        (place.state / f"state.db{suffix}").unlink()


def test_commands_leave_a_restored_state_recognisable(place: Place, docs: Path, base: KnowledgeBase) -> None:
    configure(place, mirror("handbook", docs, base), state=str(place.state))
    passed(place)
    assert place.run("state", "backup", place.root / "backup.db").code == 0
    (docs / "new.md").write_text("newer than the backup")
    assert passed(place)["uploaded"] == 1
    restore(place, place.root / "backup.db")
    for command in (["status"], ["plan"], ["verify"], ["search", "number"], ["explain", docs / "new.md"]):
        place.run(*command)
    assert sorted(file.name for file in place.state.glob("state.db*")) == ["state.db"]
    assert passed(place)["uploaded"] == 0
    check_mirrored(place, base, docs)


def check_plan(place: Place) -> None:
    """Check that the next pass sends and deletes nothing, as the plan says."""
    [planned] = place.run("plan", "--json").json["mirrors"]
    assert not any(planned[kind] for kind in ("upload", "replace", "rename", "delete", "held"))
    ran = passed(place)
    assert not any(ran[kind] for kind in ("uploaded", "replaced", "renamed", "deleted", "held"))


def test_plan_of_a_restored_state_knows_newer_documents(
    place: Place, docs: Path, base: KnowledgeBase
) -> None:
    configure(place, mirror("handbook", docs, base), state=str(place.state))
    passed(place)
    assert place.run("state", "backup", place.root / "backup.db").code == 0
    (docs / "f1.md").write_text("newer than the backup")
    (docs / "new.md").write_text("newer than the backup, too")
    passed(place)
    restore(place, place.root / "backup.db")
    check_plan(place)


def test_plan_knows_the_work_of_another_state(place: Place, docs: Path, proving: KnowledgeBase) -> None:
    configure(place, mirror("handbook", docs, proving), state="one")
    passed(place)
    shutil.copytree(place.home / "one", place.home / "two")
    (docs / "f1.md").write_text("changed")
    (docs / "f2.md").unlink()
    (docs / "new.md").write_text("added")
    passed(place)
    configure(place, mirror("handbook", docs, proving), state="two")
    check_plan(place)


def test_lost_state_leaves_no_old_text_and_forget_deletes_all(
    place: Place, docs: Path, proving: KnowledgeBase
) -> None:
    configure(place, mirror("handbook", docs, proving))
    passed(place)
    for file in (place.home / "state").glob("state.db*"):
        file.unlink()
    (docs / "f1.md").write_text("changed meanwhile")
    (docs / "f2.md").unlink()
    passed(place)
    check_mirrored(place, proving, docs)
    assert place.run("forget", "handbook", "--delete-documents", "--yes").code == 0
    assert proving.documents("") == []


@long
@pytest.mark.parametrize("name", ["gptbots", "openai", "openwebui"])
def test_lost_state_takes_over_duplicates_of_two_states(name: str, place: Place, docs: Path) -> None:
    """Two documents of one file with the same bytes, both with a mark of ours."""
    with service(name) as base:
        for state in ["one", "two", "one", "three"]:
            configure(place, mirror("handbook", docs, base), state=state)
            if state == "two":
                (docs / "new.md").write_text("only the second state knows of it")
            passed(place)
        digests = [digest for _, digest in files_of(docs)]
        assert sorted(digest for _, digest in base.documents("")) == sorted(digests)


@long
@pytest.mark.parametrize("name", ["zhipu", "dify", "ragflow", "gptbots", "openai", "openwebui"])
def test_verify_reports_documents_sent_by_a_second_state(name: str, place: Place, docs: Path) -> None:
    """No service says who wrote last, so the first state sends the second one's documents again."""
    with service(name) as base:
        for state in ("one", "two"):
            configure(place, mirror("handbook", docs, base), state=state)
            passed(place)
        (docs / "new.md").write_text("sent by the second state")
        (docs / "gone.md").write_text("sent by the second state, and deleted under the first")
        passed(place)
        configure(place, mirror("handbook", docs, base), state="one")
        passed(place)
        (docs / "gone.md").unlink()
        passed(place)
        ran = place.run("verify", "--json")
        [result] = ran.json["mirrors"]
        assert (ran.code, result["foreign"]) == (1, 0)
        assert (result["duplicate"], result["orphaned"]) == (["new.md"], ["gone.md"])
        place.run("verify", "--repair")
        passed(place)
        # A file's twin is proven by its bytes. The other may be a colleague's: it is only reported.
        assert len(base.documents("")) == len(files_of(docs)) + 1
        ran = place.run("verify")
        assert ran.code == 1 and "gone.md" in ran.out


def test_verify_reports_documents_of_a_mirror_removed_from_the_config(place: Place, docs: Path) -> None:
    other = place.root / "other"
    other.mkdir()
    (other / "one.md").write_text("the only one")
    with zhipu() as base:
        both = [mirror("a", docs, base, prefix="a/"), mirror("b", other, base, prefix="b/")]
        configure(place, *both)
        passed(place)
        configure(place, both[0])
        passed(place)
        ran = place.run("verify", "--json")
        [result] = ran.json["mirrors"]
        assert (ran.code, result["ok"], result["detached"]) == (0, True, {"b": 1})
        assert "1 document of the mirror b" in place.run("verify").out
