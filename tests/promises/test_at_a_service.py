"""Tests the promises at a service from outside: the program, a folder, and a stand-in."""

from __future__ import annotations

import base64
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from kbsync_standin.faults import Fault
from kbsync_standin.server import Server
from kbsync_standin.vectors import application
from tests.cli.sandbox import Sandbox, eventually
from tests.cli.zhipu import ZhipuSandbox, digests_in, zhipu_sandbox
from tests.share import enumerated, long
from tests.targets.services.service import KEY

FILES = 6


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ZhipuSandbox]:
    with zhipu_sandbox(tmp_path) as desk:
        for n in range(FILES):
            desk.write(f"f{n}.md", f"text of {n}")
        yield desk
        assert desk.service.violations() == []


def stored(desk: ZhipuSandbox) -> int:
    """Return how many times the service stored a document."""
    return len(desk.service.effects("stored"))


# -- 3: exactly once ---------------------------------------------------------------------------------------


@enumerated()
@pytest.mark.parametrize("kind", ["lost-answer", "cut-headers", "cut-body", "truncated-json", "empty"])
def test_upload_with_a_lost_answer_is_not_sent_again(desk: ZhipuSandbox, kind: str) -> None:
    desk.service.play(kind, op="upload", match="f2*")
    desk.once()
    assert (stored(desk), desk.service.request_count("upload")) == (FILES, FILES)
    assert desk.service.digests() == digests_in(desk.docs)


@long
def test_file_renamed_while_the_state_was_lost_is_not_sent_again_by_a_restored_one(
    desk: ZhipuSandbox,
) -> None:
    desk.once()
    assert desk.run("state", "backup", desk.root / "backup.db").code == 0
    shutil.rmtree(desk.state)
    (desk.docs / "f1.md").rename(desk.docs / "moved.md")
    assert desk.once()["uploaded"] == 1
    shutil.rmtree(desk.state)
    desk.state.mkdir()
    shutil.copyfile(desk.root / "backup.db", desk.state / "state.db")
    for _ in range(2):
        assert desk.once()["uploaded"] == 0
        assert stored(desk) == FILES + 1
        assert desk.service.digests() == digests_in(desk.docs)
    [audited] = desk.run("verify", "--json").json["mirrors"]
    assert audited["ok"]


# -- 7: same bytes, no work --------------------------------------------------------------------------------


def test_delayed_rename_uploads_nothing(desk: ZhipuSandbox) -> None:
    desk.aim("renames: keep")
    desk.once()
    (desk.docs / "f1.md").rename(desk.docs / "moved.md")
    assert desk.once()["uploaded"] == 0
    assert desk.service.request_count("upload") == FILES
    assert desk.search("text of 1")[0] == "moved.md"


# -- 8: a half-written file is never sent ------------------------------------------------------------------


@long
def test_sent_bytes_are_the_hashed_ones(desk: ZhipuSandbox) -> None:
    """A waiting file is rewritten with the same length; its name contains the old digest."""
    desk.aim(target="concurrency: 1")
    desk.service.play("late-answer", op="upload", args={"seconds": 2.0})
    process = desk.start("--once")
    eventually(lambda: stored(desk) == 1)
    done = desk.service.effects("stored")[0]["sha256"]
    for path in sorted(desk.docs.iterdir()):
        if digests_in(desk.docs)[path.name] != [done]:
            path.write_text(path.read_text().replace("text", "TEXT"))
    process.communicate(timeout=60)
    for effect in desk.service.effects("stored"):
        tag = base64.b32encode(bytes.fromhex(effect["sha256"])).decode()[:8].lower()
        assert f"~{tag}." in effect["name"], effect
    desk.once()
    assert desk.service.digests() == digests_in(desk.docs)


# -- 9: failures are seen and bounded ----------------------------------------------------------------------


def test_document_that_fails_to_index_is_reembedded_without_an_upload(desk: ZhipuSandbox) -> None:
    desk.service.play("fails", op="upload", match="f3*")  # cured by a re-embed
    desk.once()
    assert (desk.service.request_count("reembed"), desk.service.request_count("upload")) == (1, FILES)
    assert desk.service.digests() == digests_in(desk.docs)


@long
@pytest.mark.parametrize(("dialect", "status"), [("openai", 500), ("tei", 424)])
def test_text_that_makes_the_embedding_model_fail_is_the_only_failure(
    tmp_path: Path, dialect: str, status: int
) -> None:
    server = Server(application(KEY))
    sandbox = Sandbox(tmp_path)
    for n in range(FILES):
        sandbox.write(f"f{n}.md", "a poisoned text" if n == 3 else f"text of {n}")
    with server.in_thread(), closing(sandbox):
        path = "tei" if dialect == "tei" else "openai/v1"
        service = {"type": dialect, "base_url": f"{server.url}/{path}", "api_key": KEY, "model": "words"}
        sandbox.configure(f"target: {json.dumps({'type': 'local', 'embedding': service})}")
        args = {"word": "poisoned", "status": status, "message": "unsupported value: NaN"}
        server.faults.add(Fault("bad-item", times=0, args=args))
        assert sandbox.run("--once").code == 1
        documents = sandbox.status()["documents"]
        assert (documents["ready"], documents["failed"]) == (FILES - 1, 1)
        assert "unsupported value: NaN" in sandbox.state_of("f3.md")["reason"]
        server.faults.clear()
        sandbox.run("retry", "f3.md")
        assert sandbox.run("--once").code == 0


# -- 10: HTTP 200 is not success ---------------------------------------------------------------------------


@enumerated()
@pytest.mark.parametrize("value", [3, -1, "1", True, None, 1.0, [1]])
def test_unknown_status_is_not_ready(desk: ZhipuSandbox, value: object) -> None:
    desk.service.play("stat", op="upload", match="f4*", args={"value": value, "seconds": 600.0})
    process = desk.start("--once")
    eventually(lambda: desk.service.request_count("detail") + desk.service.request_count("list") >= 4)
    eventually(lambda: desk.status()["documents"]["ready"] == FILES - 1)
    assert desk.state_of("f4.md")["state"] == "indexing"
    assert process.poll() is None
    desk.service.server.advance(600)
    assert process.wait(60) == 0
    assert desk.state_of("f4.md")["state"] == "ready"


# -- 11: gone is gone --------------------------------------------------------------------------------------


@long
def test_document_still_listed_after_its_deletion_is_deleted_again(desk: ZhipuSandbox) -> None:
    """And never taken for the document of a file again."""
    desk.once()
    desk.service.play("keeps-document", op="delete")
    (desk.docs / "f5.md").unlink()
    assert desk.once()["deleted"] == 1
    assert "f5.md" in desk.service.by_path()
    time.sleep(2.5)  # the horizon: before it a list may still lag
    desk.service.play("lost-answer", op="upload", match="new*", effect=False)
    desk.write("new.md", "a text whose upload is lost, so that the whole list is read")
    desk.once()
    desk.once()  # this pass at the latest deletes the document that was found again
    assert desk.service.request_count("delete") == 2
    assert "f5.md" not in desk.service.by_path()
    assert desk.service.digests() == digests_in(desk.docs)
