"""Tests states that know only a part of a base: after a rename and move, two in turn, or a loss."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from tests.cli.knowledge_bases import KnowledgeBase, files_of, local, of_database, postgres, service, zhipu
from tests.cli.sandbox import Sandbox
from tests.postgres.server import Server
from tests.share import long

pytestmark = long


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


PROVING = pytest.mark.parametrize("base", ["local", "postgres"], indirect=True)
"""Bases that prove whose documents they have."""


@pytest.fixture
def docs(sandbox: Sandbox) -> Path:
    for number in range(8):
        sandbox.write(f"f{number}.md", f"text number {number} of the handbook")
    return sandbox.docs


def configure(sandbox: Sandbox, *mirrors: dict[str, Any], state: str = "state") -> None:
    sandbox.config.parent.mkdir(parents=True, exist_ok=True)
    config = {
        "state_dir": str(sandbox.home / state),
        "mirrors": [{"settle": "100ms", **mirror_entry} for mirror_entry in mirrors],
    }
    sandbox.config.write_text(json.dumps(config))


def mirror(name: str, folder: Path, base: KnowledgeBase, **settings: Any) -> dict[str, Any]:
    return {"name": name, "folder": str(folder), "target": base.target, **settings}


def lose_state(sandbox: Sandbox) -> None:
    """Delete the state, but not the knowledge bases."""
    for file in (sandbox.home / "state").glob("state.db*"):
        file.unlink()


def passed(sandbox: Sandbox, *mirrors: dict[str, Any], state: str = "state") -> dict[str, Any]:
    """Run a pass, with these mirrors in the config if any are given, and return its JSON."""
    if mirrors:
        configure(sandbox, *mirrors, state=state)
    return dict(sandbox.run("--once", "--json").check_success().json)


def check_mirrored(sandbox: Sandbox, base: KnowledgeBase, folder: Path, prefix: str = "") -> None:
    assert base.documents(prefix) == files_of(folder, prefix)
    assert sandbox.run("verify").code == 0


def check_renamed(sandbox: Sandbox, base: KnowledgeBase, folder: Path) -> None:
    """Check that the mirror's documents have the prefix b/ and none has its former one, a/."""
    if base.target["type"] == "local":  # a base for one mirror has no prefix
        check_mirrored(sandbox, base, folder)
    else:
        check_mirrored(sandbox, base, folder, "b/")
        assert base.documents("a/") == []


def test_mirror_renamed_and_moved_at_once_keeps_its_documents(
    sandbox: Sandbox, docs: Path, base: KnowledgeBase
) -> None:
    passed(sandbox, mirror("handbook", docs, base))
    moved = docs.rename(sandbox.root / "manual")
    assert passed(sandbox, mirror("manual", moved, base))["uploaded"] == 0
    check_mirrored(sandbox, base, moved)
    (moved / "f2.md").unlink()
    passed(sandbox)
    check_mirrored(sandbox, base, moved)


def test_mirror_renamed_with_a_new_prefix_keeps_its_documents(
    sandbox: Sandbox, docs: Path, base: KnowledgeBase
) -> None:
    passed(sandbox, mirror("handbook", docs, base, prefix="a/"))
    moved = docs.rename(sandbox.root / "moved")
    passed(sandbox, mirror("handbook", moved, base, prefix="a/"))
    passed(sandbox, mirror("manual", moved, base, prefix="b/"))
    check_renamed(sandbox, base, moved)


def test_mirror_that_returns_to_its_base_with_a_new_prefix_leaves_nothing_behind_there(
    sandbox: Sandbox, docs: Path, base: KnowledgeBase
) -> None:
    passed(sandbox, mirror("handbook", docs, base, prefix="a/"))
    with local(sandbox.root / "second") as second:
        passed(sandbox, mirror("handbook", docs, second))
        passed(sandbox, mirror("handbook", docs, base, prefix="b/"))
        check_renamed(sandbox, base, docs)
        [status] = sandbox.run("status", "--json").json["mirrors"]
        assert status["note"].startswith(f"{len(files_of(docs))} documents are still in the previous")


@pytest.mark.parametrize("turned", [False, True])
def test_mirror_renamed_while_its_folder_gets_a_second_mirror_keeps_its_documents(
    sandbox: Sandbox, docs: Path, base: KnowledgeBase, turned: bool
) -> None:
    passed(sandbox, mirror("a", docs, base))
    with local(sandbox.root / "second") as second:
        both = [mirror("b", docs, second), mirror("c", docs, base)]
        assert passed(sandbox, *(reversed(both) if turned else both))["uploaded"] == 8
        check_mirrored(sandbox, base, docs)
        check_mirrored(sandbox, second, docs)


def test_mirrors_of_one_folder_are_told_apart_by_their_base(
    sandbox: Sandbox, docs: Path, base: KnowledgeBase
) -> None:
    with local(sandbox.root / "second") as second:
        passed(sandbox, mirror("b", docs, base, prefix="a/"), mirror("a", docs, second))
        passed(sandbox, mirror("c", docs, base, prefix="b/"))
        check_mirrored(sandbox, base, docs, "" if base.target["type"] == "local" else "b/")
        assert len(base.documents("")) == len(files_of(docs))


def test_mirror_whose_name_is_reused_keeps_its_documents(
    sandbox: Sandbox, docs: Path, base: KnowledgeBase
) -> None:
    passed(sandbox, mirror("a", docs, base))
    other = sandbox.add_folder("other", {"one.md": "the only one"})
    with local(sandbox.root / "second") as second:
        configure(sandbox, mirror("a", other, second), mirror("c", docs, base))
        sandbox.run("--once")
        assert base.documents("") == files_of(docs)


@PROVING
def test_alternating_states_of_a_mirror_leave_no_duplicates(
    sandbox: Sandbox, docs: Path, base: KnowledgeBase
) -> None:
    for turn, state in enumerate(["one", "two", "two", "one", "one", "two"]):
        configure(sandbox, mirror("handbook", docs, base), state=state)
        (docs / "f1.md").write_text(f"as of turn {turn}")
        (docs / f"new{turn}.md").write_text(f"new at turn {turn}")
        if turn:
            (docs / f"new{turn - 1}.md").unlink()
        passed(sandbox)
        check_mirrored(sandbox, base, docs)


@PROVING
def test_copied_state_notices_work_of_its_copy(sandbox: Sandbox, docs: Path, base: KnowledgeBase) -> None:
    passed(sandbox, mirror("handbook", docs, base), state="one")
    shutil.copytree(sandbox.home / "one", sandbox.home / "two")
    for turn, state in enumerate(["one", "two", "one"]):
        configure(sandbox, mirror("handbook", docs, base), state=state)
        (docs / "f1.md").write_text(f"as of turn {turn}")
        passed(sandbox)
        check_mirrored(sandbox, base, docs)


def back_up(sandbox: Sandbox, docs: Path, base: KnowledgeBase) -> None:
    """Mirror the folder, then back up the state."""
    passed(sandbox, mirror("handbook", docs, base), state=str(sandbox.state))
    assert sandbox.run("state", "backup", sandbox.root / "backup.db").code == 0


def restore(sandbox: Sandbox) -> None:
    """Restore the state as docs/backup.md says."""
    shutil.copyfile(sandbox.root / "backup.db", sandbox.state / "state.db")
    for suffix in ("-wal", "-shm"):
        (sandbox.state / f"state.db{suffix}").unlink()


def test_commands_leave_a_restored_state_recognizable(
    sandbox: Sandbox, docs: Path, base: KnowledgeBase
) -> None:
    back_up(sandbox, docs, base)
    (docs / "new.md").write_text("newer than the backup")
    assert passed(sandbox)["uploaded"] == 1
    restore(sandbox)
    for command in (["status"], ["plan"], ["verify"], ["search", "number"], ["explain", docs / "new.md"]):
        sandbox.run(*command)
    assert sorted(file.name for file in sandbox.state.glob("state.db*")) == ["state.db"]
    assert passed(sandbox)["uploaded"] == 0
    check_mirrored(sandbox, base, docs)


def check_plan(sandbox: Sandbox) -> None:
    """Check that the next pass sends and deletes nothing, as the plan says."""
    [planned] = sandbox.run("plan", "--json").json["mirrors"]
    assert not any(planned[kind] for kind in ("upload", "replace", "rename", "delete", "held"))
    result = passed(sandbox)
    assert not any(result[kind] for kind in ("uploaded", "replaced", "renamed", "deleted", "held"))


def test_plan_of_a_restored_state_knows_newer_documents(
    sandbox: Sandbox, docs: Path, base: KnowledgeBase
) -> None:
    back_up(sandbox, docs, base)
    (docs / "f1.md").write_text("newer than the backup")
    (docs / "new.md").write_text("newer than the backup, too")
    passed(sandbox)
    restore(sandbox)
    check_plan(sandbox)


def restore_directory(sandbox: Sandbox, copy: Path) -> None:
    shutil.rmtree(sandbox.state)
    shutil.copytree(copy, sandbox.state)


def restore_files(sandbox: Sandbox, copy: Path) -> None:
    """Restore the state with its WAL, and keep the other files."""
    for file in copy.glob("state.db*"):
        shutil.copy2(file, sandbox.state)


@pytest.mark.parametrize("restore", [restore_directory, restore_files])
def test_state_restored_with_its_wal_leaves_no_duplicates(
    sandbox: Sandbox, docs: Path, base: KnowledgeBase, restore: Callable[[Sandbox, Path], None]
) -> None:
    passed(sandbox, mirror("handbook", docs, base), state=str(sandbox.state))
    shutil.copytree(sandbox.state, copy := sandbox.root / "copy")
    (docs / "f1.md").write_text("newer than the copy")
    (docs / "f2.md").rename(docs / "g2.md")
    (docs / "new.md").write_text("newer than the copy, too")
    passed(sandbox)
    restore(sandbox, copy)
    check_plan(sandbox)
    check_mirrored(sandbox, base, docs)


@pytest.mark.parametrize("base", ["local"], indirect=True)
@pytest.mark.parametrize("returns", [True, False])
def test_document_with_the_id_of_a_deleted_one_keeps_its_path_and_text(
    sandbox: Sandbox, docs: Path, base: KnowledgeBase, returns: bool
) -> None:
    """Restored from a backup, a base assigns the ids of the documents that the backup lacks again.

    `returns`: whether the file of the deleted document exists again.
    """
    passed(sandbox, mirror("handbook", docs, base), state=str(sandbox.state))
    index = Path(base.target["path"])
    shutil.copytree(index, copy := sandbox.root / "copy")
    deleted = docs / "deleted.md"
    deleted.write_text("gone when the state was backed up")
    passed(sandbox)
    deleted.unlink()
    back_up(sandbox, docs, base)
    shutil.rmtree(index)
    shutil.copytree(copy, index)
    (docs / "new.md").write_text("newer than both backups")
    passed(sandbox)
    restore(sandbox)
    if returns:
        deleted.write_text("gone when the state was backed up")
    assert passed(sandbox)["uploaded"] == int(returns)
    check_mirrored(sandbox, base, docs)


@pytest.mark.parametrize("base", ["local"], indirect=True)
def test_base_restored_after_a_loss_is_searched_under_the_present_names(
    sandbox: Sandbox, docs: Path, base: KnowledgeBase
) -> None:
    passed(sandbox, mirror("handbook", docs, base))
    index = Path(base.target["path"])
    shutil.copytree(index, copy := sandbox.root / "copy")
    (docs / "f2.md").rename(docs / "g2.md")
    passed(sandbox)
    shutil.rmtree(index)
    passed(sandbox)
    shutil.rmtree(index)
    shutil.copytree(copy, index)
    passed(sandbox)
    check_mirrored(sandbox, base, docs)


def test_restarted_state_does_not_count_as_restored(
    sandbox: Sandbox, docs: Path, base: KnowledgeBase
) -> None:
    passed(sandbox, mirror("handbook", docs, base), state=str(sandbox.state))
    highest_id = read_highest_id(sandbox)
    for command in (["--once"], ["plan"], ["status"], ["pause"], ["resume"], ["--once"]):
        sandbox.run(*command).check_success()
        assert read_highest_id(sandbox) == highest_id


def read_highest_id(sandbox: Sandbox) -> int:
    """Return the highest id that an upload may have so far. A restored state continues with another one."""
    path = str(sandbox.state / "state.db")
    with contextlib.closing(apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)) as connection:
        return int(connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'upload'").get)


def test_database_put_back_as_of_the_former_run_is_repaired(
    sandbox: Sandbox, docs: Path, postgres: Server
) -> None:
    database = postgres.database()
    passed(sandbox, mirror("handbook", docs, of_database(postgres, database)))
    postgres.run("postgres", f"CREATE DATABASE former TEMPLATE {database}")
    (docs / "f1.md").write_text("changed")
    (docs / "f2.md").rename(docs / "g2.md")
    passed(sandbox)
    postgres.run("postgres", f"DROP DATABASE {database} WITH (FORCE)")
    postgres.run("postgres", f"ALTER DATABASE former RENAME TO {database}")
    assert passed(sandbox)["replaced"] == 1
    check_mirrored(sandbox, of_database(postgres, database), docs)


@PROVING
def test_plan_knows_the_work_of_another_state(sandbox: Sandbox, docs: Path, base: KnowledgeBase) -> None:
    passed(sandbox, mirror("handbook", docs, base), state="one")
    shutil.copytree(sandbox.home / "one", sandbox.home / "two")
    (docs / "f1.md").write_text("changed")
    (docs / "f2.md").unlink()
    (docs / "new.md").write_text("added")
    passed(sandbox)
    configure(sandbox, mirror("handbook", docs, base), state="two")
    check_plan(sandbox)


@PROVING
def test_lost_state_leaves_no_old_text_and_forget_deletes_all(
    sandbox: Sandbox, docs: Path, base: KnowledgeBase
) -> None:
    passed(sandbox, mirror("handbook", docs, base))
    lose_state(sandbox)
    (docs / "f1.md").write_text("changed meanwhile")
    (docs / "f2.md").unlink()
    passed(sandbox)
    check_mirrored(sandbox, base, docs)
    assert sandbox.run("forget", "handbook", "--delete-documents", "--yes").code == 0
    assert base.documents("") == []


@pytest.mark.parametrize("name", ["zhipu", "dify", "ragflow", "gptbots", "openai", "openwebui"])
def test_documents_adopted_after_a_lost_state_count_as_adopted_and_as_planned(
    name: str, sandbox: Sandbox, docs: Path
) -> None:
    with service(name) as base:
        passed(sandbox, mirror("handbook", docs, base))
        lose_state(sandbox)
        (docs / "new.md").write_text("new since the state was lost")
        assert passed(sandbox)["uploaded"] == 1
        history = sandbox.run("history", "--json").json["events"]
        assert [event["path"] for event in history if event["event"] == "uploaded"] == ["new.md"]
        assert len(base.documents("")) == len(files_of(docs))
        lose_state(sandbox)
        (docs / "f0.md").write_text("changed")
        (docs / "f1.md").unlink()
        (docs / "newer.md").write_text("new since the state was lost again")
        [planned] = sandbox.run("plan", "--json").json["mirrors"]
        result = passed(sandbox)
        counts = [len(planned[kind]) for kind in ("upload", "replace", "delete")]
        assert planned["unchanged"] == 7
        assert counts == [result["uploaded"], result["replaced"], result["deleted"]], result


@pytest.mark.parametrize("name", ["gptbots", "openai", "openwebui"])
def test_size_of_an_adopted_document_is_its_files_or_left_out(
    name: str, sandbox: Sandbox, docs: Path
) -> None:
    with service(name) as base:
        passed(sandbox, mirror("handbook", docs, base))
        lose_state(sandbox)
        (docs / "f1.md").unlink()
        planned = sandbox.run("plan").out
        assert "-1" not in planned and (name == "gptbots" or "- f1.md" in planned)
        passed(sandbox)
        size = (docs / "f2.md").stat().st_size
        (docs / "f2.md").unlink()
        assert f"- f2.md  ({size} B)" in sandbox.run("plan").out
        passed(sandbox)
        events = sandbox.run("history", "--json").json["events"]
        sizes = {event["path"]: event.get("size") for event in events if event["event"] == "deleted"}
        assert sizes["f2.md"] == size and -1 not in sizes.values()


@pytest.mark.parametrize("name", ["gptbots", "openai", "openwebui"])
def test_lost_state_takes_over_duplicates_of_two_states(name: str, sandbox: Sandbox, docs: Path) -> None:
    """Two documents of one file with the same bytes, both with a mark of ours."""
    with service(name) as base:
        for state in ["one", "two", "one", "three"]:
            configure(sandbox, mirror("handbook", docs, base), state=state)
            if state == "two":
                (docs / "new.md").write_text("only the second state knows of it")
            passed(sandbox)
        digests = [digest for _, digest in files_of(docs)]
        assert sorted(digest for _, digest in base.documents("")) == sorted(digests)


@pytest.mark.parametrize("name", ["zhipu", "dify", "ragflow", "gptbots", "openai", "openwebui"])
def test_verify_reports_documents_sent_by_a_second_state(name: str, sandbox: Sandbox, docs: Path) -> None:
    """No service says who wrote last, so the first state sends the second one's documents again."""
    with service(name) as base:
        for state in ("one", "two"):
            passed(sandbox, mirror("handbook", docs, base), state=state)
        (docs / "new.md").write_text("sent by the second state")
        (docs / "gone.md").write_text("sent by the second state, and deleted under the first")
        passed(sandbox)
        passed(sandbox, mirror("handbook", docs, base), state="one")
        (docs / "gone.md").unlink()
        passed(sandbox)
        completed = sandbox.run("verify", "--json")
        [result] = completed.json["mirrors"]
        assert (completed.code, result["foreign"]) == (1, 0)
        assert (result["duplicate"], result["orphaned"]) == (["new.md"], ["gone.md"])
        sandbox.run("verify", "--repair")
        passed(sandbox)
        # A file's twin is proven by its bytes. The other may be a colleague's: it is only reported.
        assert len(base.documents("")) == len(files_of(docs)) + 1
        completed = sandbox.run("verify")
        assert completed.code == 1 and "gone.md" in completed.out


@pytest.mark.parametrize("name", ["gptbots", "openai", "openwebui"])
def test_restored_state_takes_over_documents_renamed_since_by_its_former_mirror(
    name: str, sandbox: Sandbox, docs: Path
) -> None:
    """One step after the other, the mirror remained recognizable; the restored state sees all of them."""
    with service(name) as base:
        back_up(sandbox, docs, base)
        passed(sandbox, mirror("manual", docs, base, prefix="b/"), state=str(sandbox.state))
        moved = docs.rename(sandbox.root / "moved")
        (moved / "f1.md").unlink()
        restore(sandbox)
        configure(sandbox, mirror("manual", moved, base, prefix="b/"), state=str(sandbox.state))
        completed = sandbox.run("--once", "--json")
        # This state didn't know the folder.
        assert (completed.code, completed.json["uploaded"], completed.json["held"]) == (3, 0, 1)
        sandbox.run("approve", "manual", "--yes")
        assert passed(sandbox)["deleted"] == 1
        check_plan(sandbox)
        digests = sorted(digest for _, digest in files_of(moved))
        assert sorted(digest for _, digest in base.documents("")) == digests
        assert "detached" not in sandbox.run("verify", "--json").check_success().json["mirrors"][0]


@pytest.mark.parametrize("name", ["gptbots", "openai", "openwebui"])
def test_new_mirror_leaves_documents_of_a_mirror_removed_from_the_config(
    name: str, sandbox: Sandbox, docs: Path
) -> None:
    other = sandbox.add_folder("other", {"one.md": "the only one"})
    with service(name) as base:
        passed(sandbox, mirror("handbook", docs, base, prefix="a/"))
        assert passed(sandbox, mirror("manual", other, base))["deleted"] == 0
        assert len(base.documents("")) == 1 + len(files_of(docs))
        [result] = sandbox.run("verify", "--json").json["mirrors"]
        assert result["detached"] == {"handbook": len(files_of(docs))}


def test_verify_reports_documents_of_a_mirror_removed_from_the_config(sandbox: Sandbox, docs: Path) -> None:
    other = sandbox.add_folder("other", {"one.md": "the only one"})
    with zhipu() as base:
        both = [mirror("a", docs, base, prefix="a/"), mirror("b", other, base, prefix="b/")]
        passed(sandbox, *both)
        passed(sandbox, both[0])
        completed = sandbox.run("verify", "--json")
        [result] = completed.json["mirrors"]
        assert (completed.code, result["ok"], result["detached"]) == (0, True, {"b": 1})
        config = sandbox.root / "my config.yaml"
        sandbox.config.replace(config)
        output = sandbox.run("verify", "--config", config).out
        assert "1 document of the mirror b" in output
        assert f"to delete: kbsync forget b --delete-documents --config '{config}'\n" in output


@pytest.mark.parametrize("name", ["zhipu", "openwebui"])
def test_verify_reports_documents_under_the_mirrors_former_prefix(
    name: str, sandbox: Sandbox, docs: Path
) -> None:
    other = sandbox.add_folder("other", {"one.md": "the only one"})
    with service(name) as base:
        passed(sandbox, mirror("a", other, base, prefix="a/"))
        passed(sandbox, mirror("b", docs, base, prefix="b/"))
        configure(sandbox, mirror("a", other, base, prefix="b/"))
        assert sandbox.run("--once").code == 3  # holds the deletion of the other mirror's documents
        completed = sandbox.run("verify", "--json")
        [result] = completed.json["mirrors"]
        assert (completed.code, result["detached"]) == (0, {"a": 1})
        command = "kbsync forget a --left-behind"
        assert f"1 document under its former prefix; to delete: {command}\n" in sandbox.run("verify").out
        assert "! a: 1 document is still under its former prefix\n" in sandbox.run("status").out
        sandbox.run(*command.split()[1:], "--yes")
        assert "detached" not in sandbox.run("verify", "--json").json["mirrors"][0]
        assert len(base.documents("")) == 1 + len(files_of(docs))
