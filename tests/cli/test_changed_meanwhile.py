"""Tests configs that change between the time when kbsync reads them and the time when it gets the lock."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from kbsync import daemon
from kbsync.cli.commands.mcp import serving
from kbsync.cli.commands.mcp.open_mirrors import OpenInstallation
from kbsync.cli.context import post, prepare, read_state, reload
from kbsync.engine.mirror import Mirror
from kbsync.errors import StateError, UsageError
from kbsync.installation import Installation
from kbsync.once import once
from kbsync.state import lock
from kbsync.state.store import StateStore
from tests.cli import late_lock
from tests.cli.sandbox import LONGEST, PIPES, Daemon, RunResult, Sandbox, eventually
from tests.mcp.assistant import SETTLED, choose_installation
from tests.share import long
from tests.warm import Warm

SECRET = "the second folder's text"


@pytest.fixture
def two_mirrors(sandbox: Sandbox) -> Sandbox:
    """Configure `handbook` and a mirror of `more`, which has a text of its own."""
    sandbox.prepare({"a.md": "alpha"})
    sandbox.add_mirror("more", {"b.md": SECRET})
    return sandbox


def start_late(sandbox: Sandbox, words: list[str], before_lock: list[str], **pipes: int) -> Warm:
    """Start kbsync, which runs the command `before_lock` after reading its config."""
    env = sandbox.environ({late_lock.BEFORE_LOCK: json.dumps(before_lock)})
    process = Warm(words, module=late_lock.__name__, cwd=sandbox.root, env=env, **{**PIPES, **pipes})
    sandbox.keep(process)
    return process


def run_late(sandbox: Sandbox, words: list[str]) -> RunResult:
    process = start_late(sandbox, words, ["remove", "more", "--delete"])
    out, err = process.communicate(timeout=LONGEST)
    return RunResult(process.returncode, out, err.decode())


def watch_late(sandbox: Sandbox, before_lock: list[str]) -> Daemon:
    log = sandbox.root / "late.log"
    with log.open("wb") as file:
        pipes = {"stdout": subprocess.DEVNULL, "stderr": file.fileno()}
        process = start_late(sandbox, ["--log-format", "json"], before_lock, **pipes)
    return Daemon(process, log)


def files_with_secret(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and SECRET.encode() in file.read_bytes()]


@long
def test_pass_uploads_nothing_of_a_mirror_removed_before_its_lock(two_mirrors: Sandbox) -> None:
    assert two_mirrors.run("--once").code == 0
    assert files_with_secret(two_mirrors.state)
    result = run_late(two_mirrors, ["--once", "--json"])
    assert (result.code, [mirror["name"] for mirror in result.json["mirrors"]]) == (0, ["handbook"]), (
        result.err
    )
    assert files_with_secret(two_mirrors.state) == []


@long
def test_pass_of_a_mirror_removed_before_its_lock_is_refused(two_mirrors: Sandbox) -> None:
    assert two_mirrors.run("--once").code == 0
    result = run_late(two_mirrors, ["--once", "--mirror", "more"])
    assert (result.code, "there is no mirror 'more'" in result.words) == (2, True), result.words
    assert files_with_secret(two_mirrors.state) == []


@long
def test_daemon_uploads_nothing_of_a_mirror_removed_before_its_lock(two_mirrors: Sandbox) -> None:
    assert two_mirrors.run("--once").code == 0
    late = watch_late(two_mirrors, ["remove", "more", "--delete"])
    assert late.wait_for_event("daemon.watching")["folders"] == 1
    assert files_with_secret(two_mirrors.state) == []
    assert late.end() == 0


@long
@pytest.mark.parametrize("is_first", [True, False])
def test_daemon_mirrors_a_folder_added_before_its_lock(sandbox: Sandbox, is_first: bool) -> None:
    sandbox.prepare({"a.md": "alpha"})
    if not is_first:
        assert sandbox.run("--once").code == 0
    (sandbox.root / "more").mkdir()
    late = watch_late(sandbox, ["add", str(sandbox.root / "more")])
    assert late.wait_for_event("daemon.watching")["folders"] == 2
    assert late.end() == 0


def test_config_is_read_again_only_if_its_file_changed(two_mirrors: Sandbox) -> None:
    config, text = two_mirrors.config, two_mirrors.config.read_text()
    chosen = choose_installation(two_mirrors, config=config)
    os.utime(config)
    assert chosen.reread() is chosen
    config.write_text(f"# a comment\n{text}")
    assert chosen.reread() is not chosen and chosen.reread() == chosen
    config.write_text(f"state_dir: elsewhere\n{text}")
    with pytest.raises(UsageError, match=r"state_dir in .* has just been changed"):
        chosen.reread()
    config.write_text("mirrors: [")
    with pytest.raises(UsageError, match=r"config\.yaml"):
        chosen.reread()


@long
async def test_assistant_takes_over_with_the_config_of_now(
    two_mirrors: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "CHECK_LOCK_EVERY", 0.01)
    assert (await asyncio.to_thread(two_mirrors.go, "--once")).code == 0
    opened = OpenInstallation(choose_installation(two_mirrors, config=two_mirrors.config))
    mirroring, is_removed = serving.Mirroring(opened), False
    monkeypatch.setattr(serving.lock, "is_held", lambda _state_dir: not is_removed)
    with lock.held(two_mirrors.state):
        keeping = asyncio.create_task(mirroring.keep())
        await asyncio.sleep(0.1)  # it finds the lock held
    removed = await asyncio.to_thread(two_mirrors.go, "remove", "more", "--delete")
    is_removed = True
    try:
        async with asyncio.timeout(SETTLED):
            while lock.holder(two_mirrors.state) != str(os.getpid()) or not lock.holding(two_mirrors.state):
                await asyncio.sleep(0.01)
            two_mirrors.write("c.md", "gamma")
            while not (await asyncio.to_thread(two_mirrors.go, "search", "gamma", "--json")).json["hits"]:
                await asyncio.sleep(0.1)
    finally:
        await mirroring.end(keeping)
    assert removed.code == 0, removed.err
    assert [mirror.name for mirror in opened.installation.config.mirrors] == ["handbook"]
    assert files_with_secret(two_mirrors.state) == []


# -- a running kbsync --------------------------------------------------------------------------------------


@long
def test_folder_added_while_the_state_is_lost_is_mirrored(sandbox: Sandbox) -> None:
    sandbox.prepare({"a.md": "alpha"})
    sandbox.add_folder("more", {"b.md": "beta"})
    watching = sandbox.watch(until="daemon.watching")
    for file in sandbox.state.glob("state.db*"):
        file.unlink()
    result = sandbox.run("add", sandbox.root / "more")
    assert (result.code, result.out.splitlines()[1:]) == (
        0,
        ["the running kbsync will reload the config now"],
    )
    assert watching.wait_for_event("daemon.watching", times=2)["folders"] == 2
    watching.wait_for_event("document.ready", mirror="more", path="b.md")
    assert watching.end() == 0


@long
@pytest.mark.parametrize("change", ["removed", "replaced"])
def test_pass_whose_state_is_lost_does_not_claim_success(two_mirrors: Sandbox, change: str) -> None:
    assert two_mirrors.go("--once").code == 0
    backup = two_mirrors.root / "backup.db"
    assert two_mirrors.go("state", "backup", backup).code == 0
    installation = choose_installation(two_mirrors, config=two_mirrors.config)

    async def lose_state(_store: StateStore, _mirrors: Mapping[str, Mirror]) -> None:
        for file in two_mirrors.state.glob("state.db*"):
            file.unlink()
        if change == "replaced":
            backup.rename(two_mirrors.state / "state.db")

    two_mirrors.write("new.md", "novelty")
    with pytest.raises(StateError, match=r"during the pass; .*kbsync --once"):
        asyncio.run(once(installation, lose_state))
    result = two_mirrors.go("--once", "--json")
    assert (result.code, result.json["uploaded"]) == (0, 0)  # adopted
    assert two_mirrors.search("novelty") == ["new.md"]


@long
def test_daemon_whose_state_is_lost_keeps_the_old_config_if_the_new_one_is_refused(sandbox: Sandbox) -> None:
    sandbox.write("a.md", "alpha")
    config = sandbox.configure()
    watching = sandbox.watch(until="daemon.watching")
    config.write_text("mirrors: [")
    for file in sandbox.state.glob("state.db*"):
        file.unlink()
    watching.wait_for_event("config.refused")
    assert watching.wait_for_event("daemon.watching", times=2)["documents"] == 1
    sandbox.write("b.md", "beta")
    watching.wait_for_event("document.ready", path="b.md")
    assert watching.end() == 0


@long
@pytest.mark.parametrize("state", ["watched", "paused", "without their folders"])
async def test_command_that_changes_the_config_wakes_the_daemon(
    two_mirrors: Sandbox, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    monkeypatch.setattr(daemon, "CHECK_STATE_EVERY", 3600.0)
    if state == "paused":
        assert two_mirrors.go("--once").code == two_mirrors.go("pause").code == 0
    elif state == "without their folders":
        for folder in (two_mirrors.docs, two_mirrors.root / "more"):
            folder.rename(folder.with_name(f"moved {folder.name}"))
    installation = choose_installation(two_mirrors, config=two_mirrors.config)
    watcher = daemon.Daemon(installation, reload)
    prepare(installation)
    running = asyncio.create_task(watcher.run())
    try:
        async with asyncio.timeout(SETTLED):
            while len(watcher._mirrors) < 2 or not watcher._mirrors["handbook"].loop.compared.is_set():
                await asyncio.sleep(0.01)
            removed = await asyncio.to_thread(two_mirrors.go, "remove", "more", "--keep")
            while len(watcher._mirrors) > 1:
                await asyncio.sleep(0.01)
    finally:
        watcher.stop()
        await running
    assert removed.out.splitlines()[-1] == "the running kbsync will reload the config now"
    if state == "paused":  # after the first pass
        assert "to delete it, stop kbsync, then run: kbsync forget more --delete-documents" in removed.out


@long
@pytest.mark.parametrize("end", ["canceled", "failed"])
async def test_daemon_that_ends_early_ends_its_mirrors_before_it_closes_the_state(
    two_mirrors: Sandbox, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    is_closed, close = list[bool](), StateStore.close

    def close_recorded(store: StateStore) -> None:
        is_closed.extend(watched.task.done() for watched in started)
        close(store)

    def fail(_installation: Installation) -> Installation:
        raise StateError("the disk failed")

    installation = choose_installation(two_mirrors, config=two_mirrors.config)
    watcher = daemon.Daemon(installation, fail)
    prepare(installation)
    running = asyncio.create_task(watcher.run())
    async with asyncio.timeout(SETTLED):
        while len(watcher._mirrors) < 2 or not watcher._mirrors["handbook"].loop.compared.is_set():
            await asyncio.sleep(0.01)
    started = list(watcher._mirrors.values())
    monkeypatch.setattr(StateStore, "close", close_recorded)
    if end == "canceled":
        running.cancel()
    else:
        watcher.read_config()
    with pytest.raises((asyncio.CancelledError, StateError)):
        await running
    assert is_closed == [True, True]
    assert asyncio.all_tasks() == {asyncio.current_task()}


@long
def test_request_for_an_added_mirror_waits_for_the_reload(sandbox: Sandbox) -> None:
    sandbox.prepare({"a.md": "alpha"})
    (sandbox.root / "more").mkdir()
    watching = sandbox.watch(until="daemon.watching")
    for words in (["add", str(sandbox.root / "more")], ["rescan", "more"], ["rescan", "handbook"]):
        assert sandbox.run(*words).code == 0
    watching.wait_for_event("config.read", added=1)
    installation = choose_installation(sandbox, config=sandbox.config)
    eventually(lambda: not read_state(installation, lambda tx: tx.inbox.waiting("more")))
    assert watching.lines("message.dropped") == []
    assert watching.end() == 0


@long
def test_requests_for_unknown_mirrors_are_kept_only_until_the_reload(sandbox: Sandbox) -> None:
    sandbox.mirror({"a.md": "alpha"})
    installation = choose_installation(sandbox, config=sandbox.config)
    post(installation, [("reload", None, {}), ("rescan", "nobody", {})])
    assert len(read_state(installation, lambda tx: tx.inbox.find_unknown(["handbook"]))) == 0
    assert sandbox.run("--once").code == 0  # which reads the config
    assert read_state(installation, lambda tx: (tx.inbox.reloads(), tx.inbox.find_unknown([]))) == ([], [])
