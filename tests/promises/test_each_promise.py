"""Tests each promise briefly: the program as people run it, a folder, and a knowledge base.

A promise that needs failures uses a service (its stand-in), one about this disk the built-in knowledge base.
The other tests, and those that docs/promises.md names, test the promises in every detail.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.sandbox import Sandbox, eventually
from tests.cli.zhipu import ZhipuSandbox, digests_in, zhipu_sandbox

FILES = [f"f{n}.md" for n in range(10)]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ZhipuSandbox]:
    """Mirror ten files into a knowledge base at a service."""
    with zhipu_sandbox(tmp_path) as desk:
        for name in FILES:
            desk.write(name, f"the text of {name}")
        desk.once()
        yield desk


def test_1_unreadable_is_never_deleted(desk: ZhipuSandbox) -> None:
    desk.docs.rename(desk.root / "unmounted")
    result = desk.go("--once", "--json")
    assert result.code == 3
    assert result.json["mirrors"][0]["halt"]["reason"] == "folder-missing"
    assert desk.service.request_count("delete") == 0


def test_2_document_is_never_absent_while_replaced(desk: ZhipuSandbox) -> None:
    desk.service.play("fails", op="upload", args={"runs": 0}, times=0)  # no new version becomes searchable
    desk.write("f3.md", "an edited text of f3.md")
    assert desk.go("--once").code == 1
    assert desk.search("text of f3.md")[0] == "f3.md"
    desk.service.server.faults.clear()
    desk.write("f3.md", "another edit of f3.md")
    desk.once()
    assert desk.service.digests() == digests_in(desk.docs)


def test_3_each_file_is_one_document_after_a_kill_and_a_lost_answer(desk: ZhipuSandbox) -> None:
    desk.service.play("late-answer", op="upload", args={"seconds": 60.0})
    desk.write("new.md", "a new text")
    process = desk.start("--once")
    eventually(lambda: desk.service.effects("stored")[len(FILES) :])  # it arrived, but the response was lost
    process.kill()
    process.wait()
    desk.once()
    assert desk.service.request_count("upload") == len(FILES) + 1
    assert desk.service.digests() == digests_in(desk.docs)


def test_4_the_daemon_never_wakes_itself(desk: ZhipuSandbox) -> None:
    daemon = desk.watch()
    daemon.wait_for_event("daemon.watching")
    requests_before = desk.service.request_count()
    for file in desk.docs.iterdir():
        file.read_bytes()
        assert file.stat().st_size > 0
    assert desk.service.request_count() == requests_before
    desk.write("new.md", "a new text")  # the events that arrive after the reads
    daemon.wait_for_event("document.ready", path="new.md")
    assert [line["path"] for line in daemon.lines("document.ready")] == ["new.md"]
    assert desk.service.request_count("upload") == len(FILES) + 1


def test_5_mass_deletion_asks(desk: ZhipuSandbox) -> None:
    for name in FILES[:6]:
        (desk.docs / name).unlink()
    result = desk.go("--once", "--json")
    assert (result.code, result.json["held"], result.json["deleted"]) == (3, 6, 0)
    assert len(desk.service.ours()) == len(FILES)
    assert desk.run("approve", "--yes").code == 0
    assert desk.once()["deleted"] == 6
    assert desk.service.digests() == digests_in(desk.docs)


def test_6_foreign_documents_are_untouched(desk: ZhipuSandbox) -> None:
    desk.service.plant("theirs.md", "a text of somebody else")
    for name in FILES:
        (desk.docs / name).unlink()
    desk.go("--once")
    desk.run("approve", "--yes")
    desk.once()
    assert desk.run("verify", "--repair").code == 0
    desk.once()
    assert [document["name"] for document in desk.service.documents()] == ["theirs.md"]


def test_7_same_bytes_cause_no_work(desk: ZhipuSandbox) -> None:
    for name in FILES:
        file = desk.docs / name
        file.write_bytes(file.read_bytes())
        file.chmod(0o600)
        os.utime(file)
    assert desk.once()["uploaded"] == 0
    assert desk.service.request_count("upload") == len(FILES)


def test_8_half_written_file_is_never_sent(desk: ZhipuSandbox) -> None:
    """The writer pauses for less than `settle` between its pieces."""
    desk.config.write_text(desk.config.read_text().replace("settle: 100ms", "settle: 1500ms"))
    pieces = [f"piece {n}\n" for n in range(40)]
    rest = threading.Event()

    def write() -> None:
        with (desk.docs / "growing.md").open("w") as growing:
            for piece in pieces:
                growing.write(piece)
                growing.flush()
                rest.wait(0.02)

    writer = threading.Thread(target=write)
    writer.start()
    desk.once()
    writer.join()
    desk.once()
    digest = hashlib.sha256("".join(pieces).encode()).hexdigest()
    sent = [
        effect["sha256"] for effect in desk.service.effects("stored") if effect["name"].startswith("growing")
    ]
    assert sent == [digest]


def test_9_failures_are_visible_and_bounded(desk: ZhipuSandbox) -> None:
    desk.service.play(
        "fails", op="upload", match="bad*", args={"runs": 0, "text": "document damaged"}, times=0
    )
    desk.write("bad.md", "a text that cannot be indexed")
    desk.write("good.md", "a text that can")
    result = desk.go("--once", "--json")
    assert (result.code, result.json["failed"], result.json["uploaded"]) == (1, 1, 1)
    assert "document damaged" in desk.state_of("bad.md")["reason"]
    requests_before = desk.service.request_count("upload")
    desk.go("--once")  # in quarantine: nothing more is tried
    assert desk.service.request_count("upload") == requests_before


def test_10_http_200_is_not_success(desk: ZhipuSandbox) -> None:
    desk.service.play("fails", op="upload", match="new*", args={"runs": 0}, times=0)
    desk.write("new.md", "accepted with HTTP 200, and never searchable")
    assert desk.go("--once").code == 1
    assert desk.state_of("new.md")["state"] == "failed"


def test_11_gone_is_gone(sandbox: Sandbox) -> None:
    sandbox.configure()
    secret = sandbox.write("secret.md", "The password is xylophone-4711.")
    sandbox.mirror({"other.md": "Lunch is at noon."})
    secret.unlink()
    assert sandbox.run("--once").code == 0
    files = [path for path in sandbox.home.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if b"xylophone" in path.read_bytes()] == []
