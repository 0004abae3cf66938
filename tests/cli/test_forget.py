"""Tests `kbsync forget`: it asks first, drops the state, and deletes our documents if requested."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from kbsync import forget
from kbsync.errors import StateError
from kbsync.index.sqlite.store import SqliteStore
from kbsync.index.sqlite.writer import LOCK, Writer
from kbsync.state import lock
from tests.cli.cures import proves
from tests.cli.knowledge_bases import local, service
from tests.cli.sandbox import Sandbox, eventually, words_of
from tests.cli.zhipu import ZhipuSandbox
from tests.share import long


def naming(sandbox: Sandbox, *words: str) -> list[str]:
    """Return files under the state directory that contain one of these words, or have it in their path."""
    return [
        f"{file.relative_to(sandbox.state)}: {word}"
        for file in sandbox.state.rglob("*")
        for word in words
        if file.is_file()
        and (word.encode() in file.read_bytes() or word in str(file.relative_to(sandbox.state)))
    ]


@long
@pytest.mark.parametrize("options", [(), ("--delete-documents",)])
def test_forget_leaves_no_name_of_a_file_in_the_state(sandbox: Sandbox, options: tuple[str, ...]) -> None:
    names = ("zqfirst", "zqfailed", "zqskipped", "zqsub", "zqgone", str(sandbox.docs))
    for name in ("zqfirst.md", "zqfailed.pdf", "zqskipped.bin", "zqsub/zqgone.md"):
        sandbox.write(name, "\0" if "skipped" in name else "text")
    sandbox.configure()
    assert sandbox.run("--once").code == 1
    (sandbox.docs / "zqsub/zqgone.md").unlink()
    assert sandbox.run("--once").code == 1
    shutil.copy(sandbox.state / "state.db", sandbox.state / "state.db.damaged-1")
    assert naming(sandbox, *names)
    assert sandbox.run("forget", "handbook", "--yes", *options).code == 0
    traces = naming(sandbox, *names)
    assert [trace for trace in traces if options or not trace.startswith("kb/")] == []
    assert sandbox.run("--once").code == 1


def test_forget_of_a_mirror_that_was_never_bound_says_that_nothing_was_uploaded(sandbox: Sandbox) -> None:
    sandbox.configure()
    sandbox.docs.rmdir()
    assert sandbox.run("--once").code == 3
    result = sandbox.run("forget", "handbook", "--yes")
    assert (result.code, result.out) == (0, "handbook is forgotten\n")
    assert result.err == f"kbsync: handbook: {sandbox.docs}: nothing was uploaded\n"


@long
def test_forget_of_a_folder_with_its_documents_leaves_nothing_and_no_known_folder(sandbox: Sandbox) -> None:
    sandbox.write("a.md", "alpha")
    assert sandbox.run("--once", "--folder", "docs").code == 0
    result = sandbox.run("forget", "docs", "--delete-documents", "--yes", "--folder", "docs")
    assert (result.code, result.out) == (0, "docs is forgotten; 1 document deleted\n")
    assert [file for file in sandbox.state.rglob("*") if file.is_file()] == []
    assert "no earlier run used --folder" in sandbox.run("status").err
    options = ("--folder", "docs", "--state-dir", "own")
    assert sandbox.run("--once", *options).code == 0
    (sandbox.root / "own" / "notes.txt").write_text("mine")
    assert sandbox.run("forget", "docs", "--delete-documents", "--yes", *options).code == 0
    assert (sandbox.root / "own" / "notes.txt").read_text() == "mine"


@long
def test_forget_needs_the_lock(failed: Sandbox) -> None:
    with lock.held(failed.state):
        result = failed.run("forget", "handbook", "--yes")
    assert result.code == 4
    assert f"already running (pid {os.getpid()}) since " in result.err
    assert "; stop it, run this command again, and then start it again\n" in result.err
    assert failed.run("status", "--json").json["mirrors"][0]["documents"]["ready"] == 1


@long
def test_refusal_of_an_unknown_mirror_does_not_list_it(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A first pass may add the mirror at any moment."""
    sandbox.prepare({"a.md": "alpha"})
    read = forget.read_holdings

    def read_before_a_pass(*arguments: Any) -> Any:
        holdings = read(*arguments)
        sandbox.go("--once").check_success()
        return holdings

    monkeypatch.setattr(forget, "read_holdings", read_before_a_pass)
    result = sandbox.run("forget", "handbook", "--yes", "--config", sandbox.config)
    assert (result.code, result.words) == (
        2,
        "kbsync: the state has no mirror named 'handbook'; its mirrors: none\n",
    )


# -- documents that stay -----------------------------------------------------------------------------------


@long
def test_forget_drops_the_state_and_says_what_stays_and_where(failed: Sandbox) -> None:
    result = failed.run("forget", "handbook", "--yes")
    base = failed.state / "kb" / "handbook"
    assert result.code == 0
    assert f"1 document in {base} will stay" in result.err
    done, stays, then = result.out.splitlines()
    assert (done, stays) == ("handbook is forgotten", f"1 document stays in {base}")
    assert then.endswith("to delete it: kbsync forget handbook --delete-documents")
    [status] = failed.run("status", "--json").json["mirrors"]
    assert status["last_pass"] is None
    assert "1 document is still in" in status["note"]
    second_pass = failed.run("--once", "--json").json
    assert (second_pass["uploaded"], second_pass["mirrors"][0]["documents"]["ready"]) == (0, 1)
    assert "note" not in second_pass["mirrors"][0]


@long
def test_a_search_finds_nothing_of_what_was_forgotten(sandbox: Sandbox) -> None:
    sandbox.mirror({"a.md": "alpha"})
    assert sandbox.search("alpha") == ["a.md"]
    assert sandbox.run("forget", "handbook", "--yes").code == 0
    sandbox.run("search", "alpha").check_refusal(
        2, "handbook is forgotten; 1 document is still in", "to mirror it again: kbsync --once"
    )
    assert sandbox.run("--once").code == 0
    assert sandbox.search("alpha") == ["a.md"]


@long
def test_a_search_answers_from_the_mirrors_that_are_left(sandbox: Sandbox) -> None:
    sandbox.configure()
    sandbox.add_mirror("more", {"b.md": "alpha of the second"})
    sandbox.mirror({"a.md": "alpha of the first"})
    assert sorted(sandbox.search("alpha")) == ["a.md", "b.md"]
    assert sandbox.run("forget", "handbook", "--yes").code == 0
    assert sandbox.search("alpha") == ["b.md"]


@long
@pytest.mark.parametrize("options", [("--folder", "docs"), ()], ids=["folder", "name"])
def test_documents_of_a_forgotten_folder_are_deleted_by_its_name(
    sandbox: Sandbox, options: tuple[str, ...]
) -> None:
    sandbox.write("a.md", "alpha")
    assert sandbox.run("--once", "--folder", "docs").code == 0
    forgotten = sandbox.run("forget", "docs", "--yes", *options)
    assert "1 document stays in" in forgotten.out
    refused = sandbox.run("forget", "docs", "--delete-documents", *options)
    assert (refused.code, "pass --yes to forget docs" in refused.err) == (2, True)
    assert "1 document left in" in refused.err
    command = forgotten.out.strip().rpartition("to delete it: ")[2]
    result = sandbox.run(*words_of(command), "--yes")
    assert (result.code, result.out) == (0, "docs is forgotten; 1 document deleted\n")
    assert [file for file in sandbox.state.rglob("*") if file.is_file()] == []
    assert sandbox.run("forget", "docs", "--delete-documents", "--yes").code == 2


@long
def test_a_mirror_that_left_the_config_is_forgotten_with_its_documents(sandbox: Sandbox) -> None:
    sandbox.write("a.md", "alpha")
    text = sandbox.configure().read_text()
    assert sandbox.run("--once").code == 0
    (sandbox.root / "other").mkdir()
    sandbox.config.write_text(text.replace("handbook", "other").replace("/docs", "/other"))
    result = sandbox.run("forget", "handbook", "--delete-documents", "--yes")
    assert (result.code, result.out) == (0, "handbook is forgotten; 1 document deleted\n")
    # And without any config.
    sandbox.config.write_text(text)
    assert sandbox.run("--once").code == 0
    sandbox.config.unlink()
    assert sandbox.run("forget", "handbook", "--delete-documents", "--yes").code == 0


@long
def test_a_mirror_takes_over_again_what_it_left(sandbox: Sandbox) -> None:
    sandbox.mirror({"a.md": "alpha"})
    assert sandbox.run("forget", "handbook", "--yes").code == 0
    assert sandbox.run("--once").code == 0
    result = sandbox.run("forget", "handbook", "--delete-documents")
    assert "left in" not in result.err
    assert "1 document in" in result.err
    (sandbox.docs / "a.md").unlink()
    sandbox.write("b.md", "beta")
    assert sandbox.run("approve", "--yes").code == 0
    assert sandbox.run("--once").code == 3
    assert sandbox.run("approve", "--yes").code == 0
    assert sandbox.run("--once").code == 0
    result = sandbox.run("forget", "handbook", "--delete-documents", "--yes")
    assert result.out == "handbook is forgotten; 1 document deleted\n"


@long
def test_left_documents_are_counted_once_after_a_move_of_the_state(sandbox: Sandbox) -> None:
    sandbox.write("a.md", "alpha")
    for state in ("state", "moved"):
        options = ("--folder", "docs", "--state-dir", sandbox.root / state)
        sandbox.run("--once", *options).check_success()
        forgotten = sandbox.run("forget", "docs", "--yes", *options)
        assert forgotten.out.count("1 document stays in") == 1
        if state == "state":
            (sandbox.root / "state").rename(sandbox.root / "moved")
    result = sandbox.run("forget", "docs", "--delete-documents", "--yes", *options)
    assert (result.code, result.out) == (0, "docs is forgotten; 1 document deleted\n")


@long
def test_forget_deletes_documents_whose_upload_got_no_response(zhipu: ZhipuSandbox) -> None:
    zhipu.mirror({"a.md": "alpha"})
    zhipu.aim("prefix: new-")
    zhipu.service.play("lost-answer", op="upload", times=9)
    zhipu.service.play("html", op="list", times=999)
    daemon = zhipu.watch()
    eventually(lambda: len(zhipu.service.documents()) == 2)
    daemon.process.kill()
    daemon.process.wait()
    zhipu.service.server.faults.clear()
    theirs = zhipu.service.plant("new-notes.md", "alpha")
    result = zhipu.run("forget", "handbook", "--delete-documents", "--yes")
    assert (result.code, result.out) == (0, "handbook is forgotten; 2 documents deleted\n")
    expected = "1 upload may or may not have reached the target; any documents they created will be deleted"
    assert expected in result.words
    assert [document["id"] for document in zhipu.service.documents()] == [theirs]


@long
def test_what_another_mirror_has_taken_over_is_not_deleted_as_left(zhipu: ZhipuSandbox) -> None:
    zhipu.mirror({"a.md": "alpha", "b.md": "beta"})
    assert zhipu.run("forget", "handbook", "--yes").code == 0
    (zhipu.docs / "b.md").write_text("another beta")
    zhipu.config.write_text(zhipu.config.read_text().replace("handbook", "library"))
    assert zhipu.go("--once").code == 0
    before = zhipu.service.documents()
    result = zhipu.run("forget", "handbook", "--delete-documents", "--yes")
    assert result.out == "handbook is forgotten; 1 document deleted\n"
    remaining = zhipu.service.documents()
    assert (len(before), len(remaining)) == (3, 2)
    assert zhipu.run("verify").code == 0


def configure_two(sandbox: Sandbox, first: dict[str, Any], second: dict[str, Any]) -> None:
    """Write a config with the mirrors `handbook`, and `other` of an empty folder."""
    other = sandbox.add_folder("other")
    mirrors = [
        {"name": "handbook", "folder": str(sandbox.docs), "settle": "100ms", "target": first},
        {"name": "other", "folder": str(other), "prefix": "other/", "target": second},
    ]
    sandbox.config.parent.mkdir(parents=True, exist_ok=True)
    sandbox.config.write_text(json.dumps({"mirrors": mirrors}))


@long
def test_colleagues_documents_stay_after_what_was_left_behind_is_deleted(sandbox: Sandbox) -> None:
    sandbox.write_all({"a.md": "alpha", "b.md": "beta"})
    with service("openwebui") as base, local(sandbox.root / "base") as second:
        for name in ("a.md", "notes.md"):
            url = f"{base.target['base_url']}/_standin/documents"
            httpx.post(url, json={"name": name, "text": "a colleague's"}).raise_for_status()
        theirs = base.documents("")
        configure_two(sandbox, base.target, {"type": "local"})
        assert sandbox.go("--once").code == 0
        configure_two(sandbox, second.target, base.target)
        assert sandbox.go("--once").code == 0
        assert sandbox.go("forget", "handbook", "--left-behind", "--yes").code == 0
        assert base.documents("") == theirs
        configure_two(sandbox, base.target, {"type": "local"})
        assert sandbox.go("--once").code == 0
        assert set(theirs) < set(base.documents(""))
        assert len(base.documents("")) == 4


@long
def test_documents_in_a_base_that_left_the_config_are_not_reported_as_deleted(sandbox: Sandbox) -> None:
    sandbox.write_all({"a.md": "alpha"})
    with service("openwebui") as base, local(sandbox.root / "base") as second:
        configure_two(sandbox, base.target, second.target)
        assert sandbox.go("--once").code == 0
        configure_two(sandbox, second.target, {"type": "local"})
        assert sandbox.go("--once").code == 0
        result = sandbox.go("forget", "handbook", "--left-behind", "--yes")
        assert (result.code, result.out) == (2, "")
        assert "put this knowledge base back into the config of handbook" in result.err
        assert len(base.documents("")) == 1


@long
@pytest.mark.parametrize("state", ["deleted", "expired"])
def test_former_base_that_is_gone_does_not_keep_documents_in_the_others(sandbox: Sandbox, state: str) -> None:
    sandbox.write_all({"a.md": "alpha"})
    with service("openai") as gone, local(sandbox.root / "second") as second:
        for target in (gone.target, second.target, {"type": "local"}):
            configure_two(sandbox, target, gone.target if target != gone.target else second.target)
            assert sandbox.go("--once").code == 0
        url = gone.target["base_url"].removesuffix("/v1")
        httpx.put(f"{url}/_standin/behaviour", json={"base": state}).raise_for_status()
        result = sandbox.go("forget", "handbook", "--left-behind", "--yes")
        assert (result.code, second.documents("")) == (3, [])
        assert result.out == "1 document of handbook deleted; the mirror itself was not changed\n"
        assert "there is no vector store" in result.words
        result = sandbox.go("forget", "handbook", "--left-behind", "--yes")
        assert (result.code, result.out) == (3, "")


@long
def test_base_of_another_mirror_is_emptied_although_the_own_one_is_gone(sandbox: Sandbox) -> None:
    sandbox.write_all({"a.md": "alpha"})
    with service("openai") as first, service("openai") as own:
        configure_two(sandbox, first.target, {"type": "local"})
        assert sandbox.go("--once").code == 0
        configure_two(sandbox, own.target, first.target)
        assert sandbox.go("--once").code == 0
        url = own.target["base_url"].removesuffix("/v1")
        httpx.put(f"{url}/_standin/behaviour", json={"base": "deleted"}).raise_for_status()
        assert sandbox.go("forget", "handbook", "--left-behind", "--yes").code == 0
        assert first.documents("") == []


@long
def test_taken_over_documents_are_no_longer_left_behind_after_an_edit(zhipu: ZhipuSandbox) -> None:
    zhipu.mirror({"a.md": "alpha", "b.md": "beta"})
    assert zhipu.run("forget", "handbook", "--yes").code == 0
    zhipu.config.write_text(zhipu.config.read_text().replace("handbook", "library"))
    daemon = zhipu.watch()
    eventually(lambda: zhipu.status()["documents"]["ready"] == 2)
    for path in ("a.md", "b.md"):
        (zhipu.docs / path).write_text(f"another text of {path}")
        daemon.wait_for_event("document.ready", path=path)
    eventually(lambda: len(zhipu.service.documents()) == 2)
    assert daemon.end() == 0
    result = zhipu.run("forget", "handbook", "--delete-documents", "--yes")
    assert (result.code, result.words) == (
        2,
        "kbsync: the state has no mirror named 'handbook'; its mirrors: library\n",
    )


@long
def test_documents_taken_over_and_left_again_are_left_by_one_mirror(zhipu: ZhipuSandbox) -> None:
    zhipu.mirror({"a.md": "alpha", "b.md": "beta"})
    assert zhipu.run("forget", "handbook", "--yes").code == 0
    (zhipu.docs / "b.md").unlink()
    zhipu.config.write_text(zhipu.config.read_text().replace("handbook", "library"))
    assert zhipu.go("--once").code == 0
    forgotten = zhipu.run("forget", "library", "--yes")
    assert (forgotten.code, "1 document stays in zhipu" in forgotten.out) == (0, True)
    deleted = {
        name: zhipu.run("forget", name, "--delete-documents", "--yes").out for name in ("handbook", "library")
    }
    assert deleted == {name: f"{name} is forgotten; 1 document deleted\n" for name in ("handbook", "library")}
    assert zhipu.service.documents() == []


@long
@proves("forget {}")
def test_of_several_mirrors_with_one_name_a_person_chooses(sandbox: Sandbox) -> None:
    for above in ("first", "second"):
        folder = sandbox.root / above / "notes"
        folder.mkdir(parents=True)
        (folder / "a.md").write_text(above)
        assert sandbox.run("--once", "--folder", folder).code == 0
    result = sandbox.run("forget", "notes", "--delete-documents", "--yes")
    assert result.code == 2
    first, *_ = [line for line in result.err.splitlines() if "--state-dir" in line]
    refused = sandbox.run(*words_of(first.removeprefix("kbsync: ")))
    assert "1 document in" in refused.err
    assert sandbox.run(*words_of(first.removeprefix("kbsync: ")), "--yes").code == 0


def base_files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.rglob("*"))


@long
@pytest.mark.parametrize("words", [("remove", "--delete"), ("forget", "--delete-documents", "--yes")])
def test_an_empty_base_is_removed_but_no_other_file(sandbox: Sandbox, words: tuple[str, ...]) -> None:
    sandbox.mirror({"a.md": "alpha"})
    sandbox.add_mirror("other")
    base = sandbox.state / "kb/handbook"
    assert "index.db" in base_files(base)
    sandbox.run(words[0], "handbook", *words[1:]).check_success()
    assert not base.exists()
    base = sandbox.root / "base"
    sandbox.mirror({}, f"target: {{type: local, path: {base}}}")
    sandbox.add_mirror("more")
    (base / "notes.txt").write_text("mine")
    sandbox.run(words[0], "handbook", *words[1:]).check_success()
    assert base_files(base) == ["notes.txt"]


@long
def test_a_base_with_documents_of_another_state_stays(sandbox: Sandbox) -> None:
    base = sandbox.root / "base"
    sandbox.mirror({"a.md": "alpha"}, f"target: {{type: local, path: {base}}}")
    other = sandbox.add_folder("pets", {"b.md": "beta"})
    config = sandbox.root / "other.yaml"
    config.write_text(f"mirrors: [{{name: pets, folder: {other}, target: {{type: local, path: {base}}}}}]\n")
    flags = ("--config", config, "--state-dir", sandbox.root / "state")
    assert sandbox.run("--once", *flags).code == 3  # it may not delete a.md without approval
    result = sandbox.run("forget", "handbook", "--delete-documents", "--yes")
    assert result.out == "handbook is forgotten; 1 document deleted\n"
    assert sandbox.run("search", "beta", *flags).out.startswith("b.md")


@long
@pytest.mark.parametrize("words", [("remove", "--delete"), ("forget", "--delete-documents", "--yes")])
@pytest.mark.parametrize("is_forgotten", [False, True])
def test_a_copied_state_deletes_its_own_base_and_not_the_original(
    sandbox: Sandbox, words: tuple[str, ...], is_forgotten: bool
) -> None:
    sandbox.mirror({"a.md": "alpha"})
    sandbox.add_mirror("other")
    sandbox.run("--once").check_success()
    if is_forgotten:
        sandbox.run("forget", "handbook", "--yes").check_success()
    copy = sandbox.root / "copy"
    shutil.copytree(sandbox.state, copy)
    result = sandbox.run(words[0], "handbook", *words[1:], "--state-dir", copy).check_success()
    assert "1 document deleted" in result.out
    assert f"{copy}/kb/handbook" in result.err
    assert not (copy / "kb/handbook").exists()
    with closing(SqliteStore(sandbox.state / "kb/handbook", writer=None)) as original:
        assert original.check()[1] == 1


@long
def test_a_copied_state_with_a_damaged_base_can_be_forgotten(sandbox: Sandbox) -> None:
    sandbox.mirror({"a.md": "alpha"})
    copies = [sandbox.root / name for name in ("first", "second")]
    for copy in copies:
        shutil.copytree(sandbox.state, copy)
        (copy / "kb/handbook/index.db").write_bytes(b"no database" * 1000)
    keeping, deleting = (("forget", "handbook", "--yes", "--state-dir", copy) for copy in copies)
    sandbox.run(*keeping).check_success()
    sandbox.run(*deleting, "--delete-documents").check_refusal(2, f"{copies[1]}/kb/handbook")
    with closing(SqliteStore(sandbox.state / "kb/handbook", writer=None)) as original:
        assert original.check()[1] == 1


@long
def test_killed_while_a_base_is_removed_it_starts_from_scratch(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlink, base = Path.unlink, sandbox.state / "kb/handbook"
    for limit in range(8):
        sandbox.mirror({"a.md": "alpha"})
        unlinked = list[str]()

        def unlink_some(path: Path, *, missing_ok: bool = False) -> None:
            if path.parent == base and "damaged" not in path.name:
                if len(unlinked) == limit:  # noqa: B023
                    raise OSError(errno.EIO, "killed", str(path))
                unlinked.append(path.name)  # noqa: B023
            unlink(path, missing_ok=missing_ok)

        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", unlink_some)
            sandbox.run("forget", "handbook", "--delete-documents", "--yes").check_success()
        assert len(unlinked) == min(limit, 7), unlinked
        assert not any(b"alpha" in file.read_bytes() for file in base.glob("*"))
    assert not base.exists()


def test_base_removed_while_another_process_locks_it_is_locked_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise that process would hold the lock on a deleted file, and a third one could write as well."""
    flock, is_removed = fcntl.flock, False

    def lock_late(descriptor: int, operation: int) -> None:
        nonlocal is_removed
        if not is_removed:
            is_removed = True
            (tmp_path / "base" / LOCK).unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", lock_late)
    with closing(Writer(tmp_path / "base")), pytest.raises(StateError, match="in use by another kbsync"):
        Writer(tmp_path / "base")
