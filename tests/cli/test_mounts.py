"""Tests full disks and unmounted disks with real file systems; root only."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx
import pytest

from kbsync import file_systems
from kbsync.config.places import check_state_dir
from kbsync.errors import UsageError
from tests import warm
from tests.cli.sandbox import Sandbox, eventually
from tests.ports import free_address
from tests.share import long


def can_mount() -> bool:
    probe = Path("/tmp") / f"kbsync-mount-probe-{os.getpid()}"
    probe.mkdir()
    try:
        completed = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", probe], capture_output=True, check=False)
        if completed.returncode == 0:
            subprocess.run(["umount", probe], check=True)
        return completed.returncode == 0
    finally:
        probe.rmdir()


pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not can_mount(), reason="mounting needs root and the right to mount"
)


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        unmount(folder)


def unmount(folder: Path) -> None:
    run_until_idle("umount", folder)


def remount(folder: Path, options: str) -> None:
    run_until_idle("mount", "-o", f"remount,{options}", folder)


def run_until_idle(*command: str | Path) -> None:
    """Run a command, waiting while its disk is busy: a daemon may be reading it, and the kernel releases the
    files of a sandboxed process a moment after its end.
    """
    until = time.monotonic() + 30.0
    while subprocess.run(command, check=time.monotonic() > until).returncode:
        time.sleep(0.05)


def fill(disk: Path) -> None:
    with suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
        while filler.write(bytes(4096)):
            pass


def kbsync(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return warm.run(words, text=True)


def write(folder: Path, count: int) -> None:
    folder.mkdir(exist_ok=True)
    for i in range(count):
        (folder / f"f{i}.md").write_text(f"# Title {i}\n\n" + f"words about number{i} and more. " * 100)


@pytest.mark.parametrize("name", ["state", "none/yet"])
def test_state_on_a_read_only_mount_is_reported(tmp_path: Path, name: str) -> None:
    folder, small = tmp_path / "docs", tmp_path / "small"
    write(folder, 1)
    with mounted(small, "2500k"):
        (small / "state").mkdir(mode=0o700)
        remount(small, "ro")
        options = ("--folder", folder, "--state-dir", small / name)
        checks = json.loads(kbsync("doctor", "--json", *options).stdout)["checks"]
        once = kbsync("--once", *options)
    [check] = [check for check in checks if check["name"] == "state"]
    assert check["cure"] == f"sudo mount -o remount,rw {small}"
    assert once.returncode == 2
    reason = f"the state directory {small / name} is on a read-only file system"
    assert f"{reason}; choose another" in once.stderr


def test_backup_onto_a_full_disk_leaves_nothing_and_says_so(tmp_path: Path) -> None:
    folder, small, options = tmp_path / "docs", tmp_path / "small", ("--state-dir", tmp_path / "state")
    write(folder, 1)
    kbsync("--once", "--folder", folder, *options)
    with mounted(small, "100k"):
        result = kbsync("state", "backup", small / "copy.db", "--folder", folder, *options)
        assert list(small.iterdir()) == []
    assert result.returncode == 4
    fix = "free some space, or choose another file"
    assert result.stderr == f"kbsync: {small / 'copy.db'}: the disk is full; {fix}\n"


def test_read_only_bind_mount_of_the_state_is_named_in_the_fix(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has the device of its source, so it doesn't differ from the folder around it."""
    folder, bound = tmp_path / "docs", tmp_path / "bound"
    write(folder, 1)
    bound.mkdir(mode=0o700)
    subprocess.run(["mount", "--bind", bound, bound], check=True)
    try:
        remount(bound, "bind,ro")
        doctor = kbsync("doctor", "--json", "--folder", folder, "--state-dir", bound)
        monkeypatch.setattr(file_systems, "MOUNTINFO", tmp_path / "none")
        with pytest.raises(UsageError, match="is on a read-only file system"):
            check_state_dir(bound)
    finally:
        unmount(bound)
    fixes = [check["cure"] for check in json.loads(doctor.stdout)["checks"]]
    assert f"sudo mount -o remount,rw {bound}" in fixes


@contextmanager
def state_on_small_disk(tmp_path: Path, files: int) -> Iterator[tuple[Path, tuple[str | Path, ...]]]:
    """Mount a disk of 2.5 MB for the state of a mirror; yield it, and the options of commands."""
    folder, small, config = tmp_path / "docs", tmp_path / "small", tmp_path / "config.yaml"
    write(folder, files)
    config.write_text(f"mirrors: [{{name: docs, folder: {folder}, settle: 100ms}}]\n")
    with mounted(small, "2500k"):
        yield small, ("--config", config, "--state-dir", small / "state")


@long
def test_command_on_a_full_disk_does_not_promise_to_finish_by_itself(tmp_path: Path) -> None:
    with state_on_small_disk(tmp_path, 1) as (small, options):
        assert kbsync("--once", *options).returncode == 0
        fill(small)
        paused = kbsync("pause", *options)
        assert paused.returncode == 4
        assert "free some space, and a running kbsync will continue automatically" in paused.stderr
        assert "paused" not in kbsync("status", *options).stdout


@long
@pytest.mark.parametrize("option", ["--folder", "--config"])
def test_first_pass_on_a_full_disk_names_the_file_it_could_not_write(tmp_path: Path, option: str) -> None:
    folder, small, config = tmp_path / "docs", tmp_path / "small", tmp_path / "kbsync.yaml"
    write(folder, 1)
    config.write_text("mirrors: [{name: docs, folder: docs}]")
    with mounted(small, "64k"):
        (small / "ballast").write_bytes(bytes(64 * 1024))
        chosen = folder if option == "--folder" else config
        result = kbsync("--once", option, chosen, "--state-dir", small / "state")
    assert result.returncode == 4
    file = "folder" if option == "--folder" else "lock"
    assert f"{small}/state/{file}: no space left on device; free some space" in result.stderr


@long
def test_daemon_on_a_full_disk_says_so_everywhere(sandbox: Sandbox) -> None:
    """A full state can't store a halt."""
    small, notices, address = sandbox.root / "small", sandbox.root / "notices", free_address()
    sandbox.configure()
    notify = f"notify: {{command: [/bin/sh, -c, 'cat >>{notices}']}}\nhttp: {{listen: '{address}'}}\n"
    sandbox.config.write_text(sandbox.config.read_text() + notify)
    for i in range(20):
        sandbox.write(f"d{i}/n{i}.md", f"note {i}")
    with mounted(small, "6m"):
        options = ("--state-dir", small / "state")
        daemon = sandbox.watch(*options)
        try:
            eventually(lambda: sandbox.run("status", "--check", *options).code == 0)
            fill(small)
            sandbox.write("new.md", "not seen yet")
            daemon.wait_for_event("state.failed")
            assert sandbox.run("status", "--check", *options).code == 4
            [mirror] = sandbox.run("status", "--json", *options).json["mirrors"]
            assert "the disk is full" in mirror["halt"]["detail"]
            assert mirror["halt"]["reason"] == "failing"
            # The daemon logs the failure before it halts.
            readyz = partial(httpx.get, f"http://{address}/readyz", timeout=60, trust_env=False)
            eventually(lambda: readyz().json()["mirrors"][0]["reason"] == "failing")
            metrics = httpx.get(f"http://{address}/metrics", trust_env=False).text
            assert 'kbsync_halted{mirror="handbook",reason="failing"} 1.0' in metrics
            eventually(lambda: notices.exists() and "the disk is full" in notices.read_text())
            (small / "filler").unlink()
            eventually(lambda: sandbox.run("status", "--check", *options).code == 0)
            eventually(lambda: sandbox.run("search", "seen", *options).code == 0)
        finally:
            assert daemon.end() == 0


@long
def test_daemon_started_on_a_full_disk_waits_for_space(sandbox: Sandbox) -> None:
    small, options = sandbox.root / "small", ("--state-dir", sandbox.root / "small" / "state")
    sandbox.write("a.md", "alpha")
    sandbox.configure(f"target: {{type: local, path: {sandbox.root / 'kb'}}}")
    with mounted(small, "2500k"):
        sandbox.run("--once", *options).check_success()
        fill(small)
        for _ in range(2):  # the first one can't record that it used the state
            daemon = sandbox.watch(*options)
            daemon.wait_for_event("state.failed")
            assert daemon.end() == 0
        daemon = sandbox.watch(*options)
        try:
            daemon.wait_for_event("state.failed")
            (small / "filler").unlink()
            sandbox.write("b.md", "beta")
            eventually(lambda: sandbox.run("search", "beta", *options).code == 0)
        finally:
            assert daemon.end() == 0


@long
def test_full_disk_ends_the_pass_with_a_message_and_a_later_pass_continues(tmp_path: Path) -> None:
    with state_on_small_disk(tmp_path, 400) as (small, options):
        full = kbsync("--once", *options)
        assert full.returncode in (3, 4), full.stderr
        assert "full" in full.stderr or "no space" in full.stderr
        assert "Traceback" not in full.stderr
        remount(small, "size=100m")
        assert kbsync("--once", *options).returncode == 0
        verified = kbsync("verify", *options)
        assert verified.returncode == 0, verified.stdout


@long
def test_directory_whose_disk_is_gone_for_good_is_accepted_with_the_command_shown(tmp_path: Path) -> None:
    folder, config = tmp_path / "docs", tmp_path / "config.yaml"
    write(folder, 1)
    config.write_text(f"mirrors: [{{name: docs, folder: {folder}, settle: 100ms}}]\n")
    options = ("--config", config, "--state-dir", tmp_path / "state")
    with mounted(folder / "data", "2500k"):
        (folder / "data/old.md").write_text("an old note")
        assert kbsync("--once", *options).returncode == 0
    (folder / "data/old.md").write_text("an old note")
    (folder / "data/new.md").write_text("a new note")
    approve = f"kbsync approve docs --config {config} --state-dir {tmp_path / 'state'}"
    reason = (
        "was a mount point, but nothing is mounted there now; mount it again, or, if the disk is gone for "
        "good, run "
    )
    failed = kbsync("--once", *options)
    assert failed.returncode == 1
    outputs = (
        failed.stderr,
        kbsync("plan", *options).stdout,
        kbsync("status", "--documents", *options).stdout,
        kbsync("explain", folder / "data/new.md", *options).stdout,
        kbsync("verify", *options).stdout,
    )
    for text in outputs:
        assert reason in text
        assert approve in text
    approved = kbsync(*approve.split()[1:], "--yes")
    assert approved.stdout.startswith("docs: accept data/ as it is now")
    once = kbsync("--once", *options)
    assert (once.returncode, "1 uploaded" in once.stdout) == (0, True), once.stderr
    assert kbsync("approve", *options).stdout == "nothing is held\n"
    assert "approved  data/" in kbsync("history", *options).stdout
