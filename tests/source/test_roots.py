from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from kbsync import file_systems
from kbsync.core.model import Presence, RootIdentity
from kbsync.file_systems import Mount, mounts
from kbsync.source import roots, watch
from kbsync.source.roots import RootError, compare, identify, identify_mount, is_same_mount, mounts_below
from kbsync.source.scan import Scan
from kbsync.source.stat import stat_in_mounts, stat_path
from tests.source.folders import RULES, Tree, refuse, store_listings

INFO = (
    b"21 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
    b"35 21 0:30 / /srv/a\\040b rw shared:9 master:2 - tmpfs tmpfs rw\n"
    b"36 35 254:0 /else /srv/a\\040b/bind\\134x rw - ext4 /dev/vda rw\n"
    b"37 21 0:31 / /srv/a\\040bc rw - fuse.sshfs host:/x rw\n"
    b"38 35 0:32 / /srv/a\\040b/new\\012line\\351 rw - nfs4 host:/x rw\n"
)


@pytest.fixture
def mountinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "mountinfo"
    file.write_bytes(INFO)
    monkeypatch.setattr(file_systems, "MOUNTINFO", file)


def test_root_is_identified_by_inode_file_system_and_mount(tmp_path: Path) -> None:
    identity = identify(tmp_path)
    assert (identity.dev, identity.ino) == (tmp_path.stat().st_dev, tmp_path.stat().st_ino)
    assert identity.fs_type not in ("", "unknown")
    assert not identity.is_mount
    proc, status = identify(Path("/proc")), os.stat("/proc")
    assert proc == RootIdentity(status.st_dev, status.st_ino, "proc", True, proc.mount)
    assert proc.mount.startswith(f"proc {status.st_ino} ")


@pytest.mark.parametrize(("name", "words"), [("nowhere", "missing"), ("file", "not a directory")])
def test_invalid_root_is_a_problem_with_a_hint(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RootError, match=words) as caught:
        identify(tmp_path / name)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")
    assert caught.value.halt == "folder-missing"


@pytest.mark.parametrize("call", ["open", "stat"])
def test_unreadable_root_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    refuse(monkeypatch, call, "anything", errno.EACCES)
    fix = "give the user who runs kbsync read and execute access"
    with pytest.raises(RootError, match=f"unreadable: permission denied; {fix}"):
        identify(tmp_path)


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (RootIdentity(1, 2, "ext4", True), ""),
        (RootIdentity(9, 2, "ext4", True), ""),
        (RootIdentity(1, 3, "ext4", True), "a different folder"),
        (RootIdentity(1, 2, "tmpfs", True), "was ext4 and is now tmpfs"),
        (RootIdentity(1, 2, "ext4", False), "no longer a mount point"),
        (RootIdentity(1, 2, "ext4", True, "ext4 2 b"), "another disk"),
    ],
)
def test_difference_between_runs_is_described_in_a_sentence(now: RootIdentity, words: str) -> None:
    now, stored = replace(now, mount=now.mount or "ext4 2 a"), RootIdentity(1, 2, "ext4", True, "ext4 2 a")
    assert words in compare(stored, now)
    assert not compare(replace(stored, mount=""), replace(stored, mount="ext4 2 b")), "it was not recorded"
    assert bool(words) == bool(compare(stored, now))
    assert bool(compare(stored, now, within_run=True)) is (now != stored), "a device counts within a run"


@pytest.mark.parametrize("is_mount", [False, True])  # or a bind mount, or the pool of mergerfs
@pytest.mark.parametrize("fs_type", ["vfat", "exfat", "fuseblk", "fuse.sshfs"])
def test_folder_that_gets_another_inode_number_is_the_same_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fs_type: str, is_mount: bool
) -> None:
    """FAT, exFAT and programs in FUSE number folders as they are looked up."""

    def identify_on(volume: str) -> RootIdentity:
        mount = Mount(1, str(tmp_path) if is_mount else "/", fs_type, source=volume)
        monkeypatch.setattr(roots, "mount_of", lambda _fd: mount)
        monkeypatch.setattr(os, "fstatvfs", lambda _fd: SimpleNamespace(f_fsid=int(volume, 16)))
        return identify(tmp_path)

    stored, fstat = identify_on("a1"), os.fstat
    assert stored.is_mount == is_mount

    def renumbered(fd: int) -> os.stat_result:
        mode, ino, *others = fstat(fd)
        return os.stat_result([mode, ino + 1, *others])

    monkeypatch.setattr(os, "fstat", renumbered)
    current = identify_on("a1")
    assert compare(stored, current, within_run=True) == compare(stored, replace(current, dev=1)) == ""
    assert stored.is_at(*watch.device_and_inode(tmp_path))
    assert stat_path(tmp_path, "none.md", stored).presence is Presence.MISSING
    assert "different folder" in compare(stored, replace(current, dev=1), within_run=True)
    assert compare(replace(stored, ino=5), current) == "", "an earlier version recorded the number"
    assert "another disk" in compare(stored, identify_on("b2"))
    assert compare(replace(stored, mount=""), identify_on("b2")) == "", "it was not recorded"


def test_mount_escapes_and_subroots_are_parsed(mountinfo: None) -> None:
    assert {mount.point: (mount.fs_type, mount.device, mount.part) for mount in mounts()} == {
        "/": ("ext4", "254:0", "/"),
        "/srv/a b": ("tmpfs", "0:30", "/"),
        "/srv/a b/bind\\x": ("ext4", "254:0", "/else"),
        "/srv/a bc": ("fuse.sshfs", "0:31", "/"),
        "/srv/a b/new\nline\udce9": ("nfs4", "0:32", "/"),
    }


@pytest.mark.parametrize(
    ("root", "options", "part"),
    [
        (b"/@home", b"rw,space_cache=v2,subvolid=257,subvol=/@home", "/"),
        (b"/@home/ann", b"rw,subvol=/@home", "/ann"),
        (b"/@home2", b"rw,subvol=/@home", "/@home2"),
        (b"/ann", b"rw,subvolid=5,subvol=/", "/ann"),
        (b"/", b"rw", "/"),
    ],
)
def test_mounted_subvolume_is_its_own_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: bytes, options: bytes, part: str
) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_bytes(b"40 21 0:33 %s /home rw - btrfs /dev/sda2 %s" % (root, options))
    monkeypatch.setattr(file_systems, "MOUNTINFO", mountinfo)
    [mount] = file_systems.mounts()
    assert mount.part == part


@pytest.mark.parametrize(
    ("current", "is_same"),
    [
        ("ext4 2 8a1f", True),
        ("ext4 2 ", True),
        ("", True),
        ("ext4 2 8a20", False),
        ("xfs 2 8a1f", False),
        ("ext4 57 8a1f", False),
    ],
)
def test_mount_is_the_same_unless_a_known_part_differs(current: str, is_same: bool) -> None:
    assert is_same_mount("ext4 2 8a1f", current) is is_same
    assert is_same_mount(current, "ext4 2 8a1f") is is_same


def test_mounts_are_identified_by_what_survives_a_reboot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of a device doesn't: XFS and FAT report it as their own."""
    status = tmp_path.stat()
    fd = os.open(tmp_path, os.O_RDONLY)

    def identify(fs_type: str, source: str, fsid: int) -> str:
        monkeypatch.setattr(os, "fstatvfs", lambda _fd: SimpleNamespace(f_fsid=fsid))
        identity = identify_mount(fd, Mount(1, "/mnt", fs_type, source=source))
        ino = "" if fs_type == "vfat" else status.st_ino  # FAT assigns them as folders are looked up
        assert identity.startswith(f"{fs_type} {ino} ")
        return identity.split(" ", 2)[2]

    monkeypatch.setattr(roots, "VOLUMES", tmp_path / "none")
    assert identify("ext4", "/dev/sdb1", 0xABC) == "abc"
    assert identify("xfs", "/dev/sdb1", status.st_dev) == identify("vfat", "/dev/sdb1", 0) == ""
    assert identify("nfs4", "nas:/my export\udce9", 0) == "nas:/my export\\udce9"
    monkeypatch.setattr(roots, "VOLUMES", tmp_path)
    (tmp_path / "12AB-34CD").symlink_to("/dev/null")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert roots._volume_on(os.stat("/dev/null").st_rdev) == "12AB-34CD"
    assert roots._volume_on(os.stat("/dev/zero").st_rdev) == ""
    os.close(fd)


def test_mounts_below_a_root_are_relative_to_it(mountinfo: None) -> None:
    assert mounts_below(Path("/srv/a b")) == {"bind\\x", "new\nline\udce9"}
    assert mounts_below(Path("/srv/a b/bind\\x")) == frozenset()
    assert "srv/a b" in mounts_below(Path("/"))


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A folder with something mounted on `disk` in it, if this process may mount."""
    point = tmp_path / "root/disk"
    point.mkdir(parents=True)
    completed = subprocess.run(["mount", "-t", "tmpfs", "none", str(point)], capture_output=True, check=False)
    if completed.returncode:
        pytest.skip("mounting is not allowed here")
    yield tmp_path / "root"
    subprocess.run(["umount", "-q", str(point)], check=False)


def test_unmounted_disk_deletes_nothing(mounted: Path) -> None:
    tree = Tree()
    store_listings(mounted, tree, "disk/sub/a.md")
    assert identify(mounted / "disk").is_mount
    assert mounts_below(mounted) == {"disk"}
    assert tree.stored["disk"].is_mount
    assert list(Scan(mounted, tree, RULES)) == []
    subprocess.run(["umount", str(mounted / "disk")], check=True)
    (listing,) = Scan(mounted, tree, RULES)
    assert (listing.path, listing.missing, listing.gone_folders) == ("disk", (), ())
    assert "nothing is mounted there now" in listing.problem
    assert stat_path(mounted, "disk/sub/a.md").presence is Presence.MISSING
    assert (
        stat_in_mounts(mounted, {"disk/sub/a.md": {"disk": ""}})["disk/sub/a.md"].presence is Presence.UNKNOWN
    )
