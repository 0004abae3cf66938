"""Tests promise 1, unreadable is never deleted, from outside, by a user whom a folder's mode excludes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli import without_root
from tests.cli.zhipu import ZhipuSandbox, ZhipuStandIn
from tests.share import long


class UnprivilegedSandbox(ZhipuSandbox):
    """A sandbox whose kbsync lacks root's right to read everything."""

    modules = (without_root.__name__, without_root.__name__)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[ZhipuSandbox]:
    """Ten files, two of them in a folder that can be made unreadable."""
    service = ZhipuStandIn()
    service.arrive()
    desk = UnprivilegedSandbox(tmp_path, service)
    desk.aim()
    for n in range(8):
        desk.write(f"f{n}.md", f"text of {n}")
    for n in range(2):
        desk.write(f"shut/g{n}.md", f"text of the folder {n}")
    try:
        yield desk
    finally:
        (desk.docs / "shut").chmod(0o700)
        desk.close()
        service.leave()


def test_unlistable_folder_is_not_treated_as_deleted(desk: ZhipuSandbox) -> None:
    desk.once()
    (desk.docs / "shut").chmod(0)
    for _ in range(2):  # files missing from two scans are deleted, and so few need no approval
        result = desk.go("--once", "--json")
        assert (result.code, result.json["deleted"], result.json["held"]) == (1, 0, 0)
        assert desk.service.request_count("delete") == 0
    assert set(desk.service.by_path()) >= {"shut/g0.md", "shut/g1.md"}
    (desk.docs / "shut").chmod(0o700)
    (desk.docs / "shut/g0.md").unlink()
    last = desk.once()
    assert (last["deleted"], last["uploaded"]) == (1, 0)


@long
def test_running_daemon_deletes_nothing_in_an_unreadable_folder(desk: ZhipuSandbox) -> None:
    daemon = desk.watch()
    for path in ("f1.md", "f7.md", "shut/g0.md", "shut/g1.md"):
        daemon.wait_for_event("document.ready", path=path)
    (desk.docs / "shut").chmod(0)
    desk.write("f0.md", "changed")
    daemon.wait_for_event("document.ready", path="f0.md", replaced=True)
    # Only now: deleting a file while nothing else is searchable yet would wait for approval.
    (desk.docs / "f1.md").unlink()
    daemon.wait_for_event("document.deleted", path="f1.md")
    assert desk.service.request_count("delete") <= 2  # f1.md, and the old text of f0.md
    assert set(desk.service.by_path()) >= {"shut/g0.md", "shut/g1.md"}
    assert daemon.end() == 0


@long
def test_running_daemon_uploads_a_file_as_soon_as_it_becomes_readable(desk: ZhipuSandbox) -> None:
    (desk.docs / "f0.md").chmod(0)
    daemon = desk.watch()
    daemon.wait_for_event("document.failed", path="f0.md")
    for n in range(1, 8):
        daemon.wait_for_event("document.ready", path=f"f{n}.md")
    uploads = desk.service.request_count("upload")
    (desk.docs / "f1.md").chmod(0o600)
    (desk.docs / "f0.md").chmod(0o600)
    daemon.wait_for_event("document.ready", path="f0.md")
    assert desk.service.request_count("upload") == uploads + 1
    assert daemon.end() == 0


@long
@pytest.mark.parametrize(("mode", "is_shut_at_start"), [(0, True), (0o444, True), (0, False)])
def test_running_daemon_watches_a_folder_as_soon_as_it_becomes_readable(
    desk: ZhipuSandbox, mode: int, *, is_shut_at_start: bool
) -> None:
    shut = desk.docs / "shut"
    desk.write("shut/below/deep.md", "deep text")
    if is_shut_at_start:
        shut.chmod(mode)
    daemon = desk.watch()
    for n in range(8):
        daemon.wait_for_event("document.ready", path=f"f{n}.md")
    replaced = {} if is_shut_at_start else {"replaced": True}
    if not is_shut_at_start:
        daemon.wait_for_event("document.ready", path="shut/below/deep.md")
        desk.write("shut/g0.md", "a text that kbsync can't read in time")
        shut.chmod(mode)
        desk.write("f0.md", "changed after it")
        daemon.wait_for_event("document.ready", path="f0.md", replaced=True)
    shut.chmod(0o700)
    daemon.wait_for_event("document.ready", path="shut/g0.md", **replaced)
    daemon.wait_for_event("document.ready", path="shut/below/deep.md")
    desk.write("shut/below/deep.md", "changed")
    daemon.wait_for_event("document.ready", path="shut/below/deep.md", replaced=True)
    assert daemon.lines("mirror.failed") == []
    assert daemon.end() == 0


@long
def test_running_daemon_reads_files_as_soon_as_their_folder_can_be_entered(desk: ZhipuSandbox) -> None:
    shut = desk.docs / "shut"
    shut.chmod(0o444)
    daemon = desk.watch()
    for n in range(8):
        daemon.wait_for_event("document.ready", path=f"f{n}.md")
    shut.chmod(0o700)
    daemon.wait_for_event("document.ready", path="shut/g0.md")
    assert daemon.end() == 0
