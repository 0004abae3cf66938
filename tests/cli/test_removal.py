"""Tests that a daemon removes mirrors with their documents, for its page and for `kbsync remove --delete`."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from kbsync.state.inbox import REMOVE, Message
from kbsync.state.read_only import ReadOnlyState
from kbsync.state.store import StateStore
from kbsync_standin.faults import Fault
from kbsync_standin.line import Line
from tests.cli import dying_removal
from tests.cli.cures import proves
from tests.cli.dying import DIES_AT
from tests.cli.pasting import after, paste
from tests.cli.sandbox import PIPES, Daemon, Sandbox, eventually
from tests.cli.test_listener import get, listen
from tests.cli.zhipu import ZhipuSandbox, digests_in
from tests.ports import free_port
from tests.share import enumerated, long
from tests.warm import Warm

pytestmark = long

STEPS = 11
"""The number of steps of `dying_removal` in the removal of a mirror on a service."""


def ordered(port: int, name: str, **message: Any) -> tuple[int, Any]:
    """Send a request as the page does and return status and JSON."""
    url = f"http://127.0.0.1:{port}/api"
    with httpx.Client(trust_env=False, timeout=60) as client:
        csrf_token = client.get(f"{url}/status").headers["x-kbsync-word"]
        response = client.post(f"{url}/{name}", json=message, headers={"x-kbsync-word": csrf_token})
    return response.status_code, response.json()


def removed(port: int, mirror: str) -> None:
    assert ordered(port, "remove", mirror=mirror, documents="delete")[0] == 202


def removal_on_page(port: int, mirror: str) -> Any:
    """Return what the page shows about a mirror's removal."""
    with httpx.stream("GET", f"http://127.0.0.1:{port}/api/events", trust_env=False, timeout=60) as response:
        text = ""
        for piece in response.iter_text():
            text += piece
            if "\n\n" in text and "event: frame" in text:
                break
    frame = json.loads(text.partition("data: ")[2].partition("\n\n")[0])
    return next(
        (mirror_view["removal"] for mirror_view in frame["mirrors"] if mirror_view["name"] == mirror), None
    )


def names(sandbox: Sandbox) -> list[str]:
    return [mirror["name"] for mirror in sandbox.run("list", "--json").json["mirrors"]]


@pytest.fixture
def port(zhipu: ZhipuSandbox) -> int:
    """The port of the daemon's page. Next to the mirror of the service, there is one with a built-in base."""
    zhipu.write_all({"a.md": "alpha", "b.md": "beta"})
    zhipu.service.plant("theirs.md", "of somebody else")
    notes = zhipu.add_folder("notes", {"c.md": "gamma"})
    assert zhipu.run("add", notes).code == 0
    port = free_port()
    listen(zhipu, f"{{listen: 127.0.0.1:{port}}}")
    return port


def ready(sandbox: Sandbox) -> dict[str, int]:
    mirrors = sandbox.run("status", "--json").json["mirrors"]
    return {mirror["name"]: mirror["documents"]["ready"] for mirror in mirrors}


def watching(zhipu: ZhipuSandbox) -> Daemon:
    daemon = zhipu.watch(hurried=True)
    eventually(lambda: ready(zhipu) == {"handbook": 2, "notes": 1})
    return daemon


@pytest.fixture
def may_answer(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The service gives its late answers once this is set."""
    may_answer = threading.Event()

    async def wait(line: Line, _seconds: float) -> bool:
        while not (may_answer.is_set() or line.disconnected.is_set()):
            await asyncio.sleep(0.01)
        return not line.disconnected.is_set()

    monkeypatch.setattr(Line, "silence", wait)
    yield may_answer
    may_answer.set()


def count_foreign(zhipu: ZhipuSandbox) -> int:
    return len(zhipu.service.documents()) - len(zhipu.service.ours())


@pytest.mark.parametrize("by", ["page", "command"])
@pytest.mark.parametrize(("mirror", "n"), [("handbook", 2), ("notes", 1)])
def test_exactly_its_documents_are_deleted_and_the_config_keeps_the_rest(
    zhipu: ZhipuSandbox, port: int, mirror: str, n: int, by: str
) -> None:
    daemon = watching(zhipu)
    payload = get(port, f"/api/removal?mirror={mirror}")[1]
    assert (payload["documents"], payload["unsure"]) == (n, 0)
    assert [(base["documents"], base["deleted"]) for base in payload["bases"]] == [(n, True)]
    rest = zhipu.config.read_text()
    if by == "page":
        removed(port, mirror)
    else:
        result = zhipu.run("remove", mirror, "--delete", "--json")
        counts = {"kept": 0, "deleted": n}
        assert result.json == {"removed": mirror, "documents": counts, "config": str(zhipu.config)}
        assert (result.code, "will be deleted" in result.err) == (0, True)
    assert daemon.wait_for_event("mirror.removed", mirror=mirror)["deleted"] == n
    daemon.wait_for_event("config.read", mirrors=1)
    assert names(zhipu) == [{"handbook": "notes", "notes": "handbook"}[mirror]]
    assert set(zhipu.config.read_text().splitlines()) < set(rest.splitlines())
    assert (len(zhipu.service.ours()), count_foreign(zhipu)) == ({"handbook": 0, "notes": 2}[mirror], 1)
    assert mirror not in [event["mirror"] for event in zhipu.run("history", "--json").json["events"]]
    assert daemon.end() == 0
    # Nothing is left that the command could delete.
    assert zhipu.run("forget", mirror, "--delete-documents", "--yes").code == 2
    assert zhipu.run("--once").code == 0


def test_where_a_document_cannot_be_deleted_the_mirror_continues(zhipu: ZhipuSandbox, port: int) -> None:
    daemon = watching(zhipu)
    zhipu.service.turn(key_revoked=True)
    removed(port, "handbook")
    reason = daemon.wait_for_event("removal.failed", mirror="handbook")["reason"]
    eventually(lambda: removal_on_page(port, "handbook")["problem"] == reason)
    assert names_in_file(zhipu) == ["handbook", "notes"]
    result = zhipu.run("remove", "handbook", "--delete")
    assert (result.code, result.err.splitlines()[-1]) == (
        4,
        f"kbsync: handbook can't be removed now: {reason}",
    )
    assert names_in_file(zhipu) == ["handbook", "notes"]
    zhipu.service.turn(key_revoked=False)
    zhipu.write("d.md", "delta")
    eventually(lambda: zhipu.service.digests() == digests_in(zhipu.docs))
    removed(port, "handbook")
    assert daemon.wait_for_event("mirror.removed")["deleted"] == 3
    assert removal_on_page(port, "handbook") is None
    assert (zhipu.service.ours(), count_foreign(zhipu)) == ([], 1)
    assert daemon.end() == 0


def test_nothing_is_uploaded_while_the_documents_are_deleted(
    zhipu: ZhipuSandbox, port: int, may_answer: threading.Event
) -> None:
    daemon = watching(zhipu)
    zhipu.service.play("late-answer", op="delete")
    removed(port, "handbook")
    eventually(lambda: (removal_on_page(port, "handbook") or {}).get("documents") == 2)
    sent = zhipu.service.request_count("upload")
    zhipu.write("d.md", "delta")
    time.sleep(1.0)  # it could be uploaded
    may_answer.set()
    daemon.wait_for_event("mirror.removed")
    assert (zhipu.service.request_count("upload"), zhipu.service.ours()) == (sent, [])
    assert daemon.end() == 0


def test_an_upload_in_flight_may_finish_so_that_its_document_is_deleted_too(
    zhipu: ZhipuSandbox, port: int, may_answer: threading.Event
) -> None:
    daemon = watching(zhipu)
    zhipu.service.play("late-answer", op="upload")
    zhipu.write("d.md", "delta")
    eventually(lambda: len(zhipu.service.ours()) == 3)
    removed(port, "handbook")
    eventually(lambda: removal_on_page(port, "handbook"))
    may_answer.set()
    assert daemon.wait_for_event("mirror.removed")["deleted"] == 3
    assert zhipu.service.ours() == []
    assert daemon.end() == 0


def names_in_file(sandbox: Sandbox) -> list[str]:
    text = sandbox.config.read_text()
    return [name for name in ("handbook", "notes") if f"name: {name}" in text or f'name: "{name}"' in text]


def test_a_config_that_cannot_be_edited_is_refused_before_anything_is_deleted(
    zhipu: ZhipuSandbox, port: int
) -> None:
    daemon = watching(zhipu)
    assert ordered(port, "remove", mirror="notes", documents="keep")[0] == 202
    daemon.wait_for_event("config.read", mirrors=1)
    code, payload = ordered(port, "remove", mirror="handbook", documents="delete")
    assert (code, "handbook is the only mirror" in payload["error"]) == (409, True)
    assert len(zhipu.service.ours()) == 2
    assert daemon.end() == 0


def test_a_mirror_whose_config_cannot_be_edited_in_the_end_uploads_its_documents_again(
    zhipu: ZhipuSandbox, port: int, may_answer: threading.Event
) -> None:
    daemon = watching(zhipu)
    zhipu.service.play("late-answer", op="delete")
    removed(port, "handbook")
    eventually(lambda: (removal_on_page(port, "handbook") or {}).get("documents") == 2)
    folder = os.open(zhipu.config.parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)  # as another editor of the config does
        may_answer.set()
        reason = daemon.wait_for_event("removal.failed", mirror="handbook")["reason"]
    finally:
        os.close(folder)
    assert "another kbsync" in reason
    eventually(lambda: zhipu.service.digests() == digests_in(zhipu.docs))
    assert removal_on_page(port, "handbook")["problem"] == reason
    assert (names_in_file(zhipu), count_foreign(zhipu)) == (["handbook", "notes"], 1)
    assert daemon.end() == 0


@proves("server/removals.py: remove {}")
def test_a_daemon_of_some_mirrors_only_names_the_command(zhipu: ZhipuSandbox, port: int) -> None:
    daemon = zhipu.watch("--mirror", "handbook", until="daemon.watching")
    for fate in ("keep", "delete"):
        code, payload = ordered(port, "remove", mirror="handbook", documents=fate)
        assert (code, "was started with --mirror" in payload["error"]) == (409, True)
    assert names_in_file(zhipu) == ["handbook", "notes"]
    assert daemon.end() == 0
    assert paste(zhipu, f"{after(payload['error'], 'then run: ')} --delete").code == 0
    assert names_in_file(zhipu) == ["notes"]


def test_a_changed_config_ends_the_removal_and_a_stop_does_not_wait_for_it(
    zhipu: ZhipuSandbox, port: int
) -> None:
    daemon = watching(zhipu)
    zhipu.service.server.faults.add(Fault("hang", op="delete"))
    removed(port, "handbook")
    eventually(lambda: (removal_on_page(port, "handbook") or {}).get("documents") == 2)
    assert ordered(port, "remove", mirror="handbook", documents="delete")[0] == 409
    zhipu.config.write_text(zhipu.config.read_text().replace("settle: 100ms", "settle: 200ms"))
    daemon.send_signal(signal.SIGHUP)
    assert "config changed" in daemon.wait_for_event("removal.failed")["reason"]
    zhipu.service.server.faults.clear()
    eventually(lambda: zhipu.service.digests() == digests_in(zhipu.docs))
    zhipu.service.server.faults.add(Fault("hang", op="delete"))
    removed(port, "handbook")
    eventually(lambda: (removal_on_page(port, "handbook") or {}).get("documents") == 2)
    assert daemon.end() == 0
    assert names_in_file(zhipu) == ["handbook", "notes"]


def removals(sandbox: Sandbox) -> list[Message]:
    return ReadOnlyState(sandbox.state / "state.db").read(lambda tx: tx.inbox.removals())


@pytest.mark.parametrize("end", ["kill", "stop", "interrupt"])
def test_command_is_finished_where_it_can_be(
    zhipu: ZhipuSandbox, port: int, may_answer: threading.Event, end: str
) -> None:
    """If kbsync is killed, the command continues alone; if the command is interrupted, kbsync does."""
    daemon = watching(zhipu)
    zhipu.service.play("late-answer", op="delete")
    command = zhipu.start("remove", "handbook", "--delete")
    eventually(lambda: (removal_on_page(port, "handbook") or {}).get("documents") == 2)
    if end == "stop":
        assert daemon.end() == 0
        _, err = command.communicate(timeout=30)
        assert command.returncode == 4
        assert err.endswith(b"kbsync: handbook can't be removed now: kbsync ended\n")
        assert names_in_file(zhipu) == ["handbook", "notes"]
        assert zhipu.run("remove", "handbook", "--delete").code == 0
    else:
        process = daemon.process if end == "kill" else command
        process.send_signal(signal.SIGKILL if end == "kill" else signal.SIGINT)
        process.wait(timeout=30)
        may_answer.set()
        if end == "kill":
            assert command.wait(timeout=30) == 0
        else:
            assert command.returncode == 130
            daemon.wait_for_event("mirror.removed", mirror="handbook")
            assert daemon.end() == 0
    assert (names_in_file(zhipu), zhipu.service.ours(), removals(zhipu)) == (["notes"], [], [])
    assert count_foreign(zhipu) == 1


def test_request_to_an_earlier_process_is_forgotten(zhipu: ZhipuSandbox, port: int) -> None:
    assert zhipu.once()["mirrors"][0]["documents"]["ready"] == 2
    with closing(StateStore(zhipu.state / "state.db")) as store:
        store.submit(lambda tx: tx.inbox.post(REMOVE, "handbook", {}, time.time())).result()
    daemon = watching(zhipu)
    zhipu.write("d.md", "delta")
    eventually(lambda: zhipu.service.digests() == digests_in(zhipu.docs))
    assert (names_in_file(zhipu), removals(zhipu)) == (["handbook", "notes"], [])
    assert daemon.end() == 0


@enumerated()
@pytest.mark.parametrize("step", range(1, STEPS + 2))
def test_killed_at_any_step_no_document_of_ours_is_left_without_an_owner(
    zhipu: ZhipuSandbox, port: int, step: int
) -> None:
    log = zhipu.root / "dying.log"
    with log.open("wb") as file:
        options = {**PIPES, "stdout": subprocess.DEVNULL, "stderr": file}
        env = zhipu.environ({DIES_AT: str(step)})
        words = ("--log-format", "json")
        process = Warm(words, module=dying_removal.__name__, cwd=zhipu.root, env=env, **options)
    daemon = Daemon(zhipu.keep(process), log)
    eventually(lambda: ready(zhipu) == {"handbook": 2, "notes": 1})
    removed(port, "handbook")
    eventually(lambda: process.poll() is not None or daemon.lines("mirror.removed"))
    was_killed = process.poll() is not None
    assert process.poll() in (None, -signal.SIGKILL)
    assert was_killed == (step <= STEPS)
    assert was_killed or daemon.end() == 0
    if "handbook" in names_in_file(zhipu):
        assert was_killed
        # The mirror continues: its files are searchable again, each once.
        assert zhipu.go("--once", hurried=True).code == 0
        assert zhipu.service.digests() == digests_in(zhipu.docs)
        assert zhipu.run("remove", "handbook", "--delete").code == 0
    assert (zhipu.service.ours(), count_foreign(zhipu)) == ([], 1)
    assert zhipu.run("forget", "handbook", "--delete-documents", "--yes").code == 2
