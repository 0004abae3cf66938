from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from kbsync import file_systems
from kbsync.config.places import check_state_dir
from kbsync.errors import UsageError
from kbsync.file_systems import Mount, is_shared
from kbsync.source import observer
from kbsync.source.observer import InotifyLimits, Obstacle, read_limits
from kbsync.source.roots import bound, shared_below

LIMITS = InotifyLimits(watches=8192, instances=128)


def test_limits_are_read_from_the_kernel(tmp_path: Path) -> None:
    (tmp_path / "max_user_watches").write_text("8192\n")
    assert read_limits(tmp_path) == InotifyLimits(watches=8192, instances=None)
    assert (read_limits().watches or 0) > 0


@pytest.mark.parametrize(
    ("shared", "directories", "limits", "reason"),
    [
        ("", 0, LIMITS, None),
        ("", 8191, LIMITS, None),
        ("", 8192, LIMITS, "only 8192"),
        ("it is on nfs4", 9000, LIMITS, "only 8192"),
        ("it is on nfs4", 10, LIMITS, None),
        ("", 1_000_000, InotifyLimits(), None),
    ],
)
def test_too_many_folders_to_watch_are_predicted(
    shared: str, directories: int, limits: InotifyLimits, reason: str | None
) -> None:
    obstacle = observer.foreseen_obstacle("native", shared, directories, limits)
    assert (obstacle is None) == (reason is None)
    assert obstacle is None or ((reason or "") in obstacle.why and not obstacle.is_permanent)


def test_each_start_error_has_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    watches = observer.start_obstacle(OSError(errno.ENOSPC, "no watch"), LIMITS, 300_000)
    assert watches.fix.endswith("sysctl -w fs.inotify.max_user_watches=1048576")
    instances = observer.start_obstacle(OSError(errno.EMFILE, "no instance"), LIMITS, 10)
    assert instances.fix.endswith("sysctl -w fs.inotify.max_user_instances=1024")
    other = observer.start_obstacle(OSError(errno.ENOMEM, "Cannot allocate memory"), LIMITS, 10)
    words = (
        "watching could not be started: cannot allocate memory; add memory to this machine or reduce its load"
    )
    assert other == Obstacle(words)
    monkeypatch.setattr(observer, "descriptors_used_up", lambda: True)
    assert "descriptors" in observer.start_obstacle(OSError(errno.EMFILE, ""), LIMITS, 10).why


def test_descriptor_exhaustion_is_distinguished_from_the_inotify_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(observer.resource, "getrlimit", lambda resource: (used + 4, used + 4))
    assert observer.descriptors_used_up()
    monkeypatch.setattr(observer.resource, "getrlimit", lambda resource: (used + 100, used + 100))
    assert not observer.descriptors_used_up()


SHARED = ("nfs", "nfs4", "cifs", "smb3", "9p", "fuse", "fuse.sshfs", "virtiofs")
OWN = ("ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "fuseblk", "unknown")


def test_file_systems_changed_by_others_are_shared_and_local_ones_are_not() -> None:
    assert [name for name in (*SHARED, *OWN) if is_shared(name)] == [*SHARED]


@pytest.mark.parametrize("name", [*SHARED, "vboxsf", "vmhgfs", "drvfs", "fuse.vmhgfs-fuse", "fuse.grpcfuse"])
def test_polled_file_systems_are_unsuitable_for_state_and_vice_versa(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(f"1 0 8:1 / / rw - {name} none rw\n")
    monkeypatch.setattr(file_systems, "MOUNTINFO", mountinfo)
    assert is_shared(name)
    with pytest.raises(UsageError, match=f"network file system \\({name}\\)"):
        check_state_dir(tmp_path / "state")


def test_only_mounts_below_the_folder_count() -> None:
    nfs = Mount(1, "/srv/docs/team", "nfs4")
    assert shared_below("/srv/docs", [Mount(2, "/", "ext4"), nfs]) == nfs
    assert shared_below("/", [nfs]) == nfs
    for elsewhere in ("/srv/docs2", "/srv/docs", "/srv", "/"):
        assert shared_below("/srv/docs", [Mount(3, elsewhere, "nfs4")]) is None


DISK, HOME = Mount(1, "/", "ext4", device="8:1"), Mount(2, "/home", "ext4", device="8:2")


@pytest.mark.parametrize(
    ("mounts", "point"),
    [
        ([DISK, HOME], None),
        ([], None),
        ([DISK, Mount(3, "/srv/docs", "ext4", "/home/ann", "8:1")], "/srv/docs"),
        ([DISK, Mount(3, "/srv/docs/team", "ext4", "/team", "8:2")], "/srv/docs/team"),
        ([DISK, Mount(3, "/srv", "ext4", "/volumes/srv", "8:1")], "/srv"),
        ([DISK, Mount(3, "/srv", "ext4", "/b", "8:1"), Mount(4, "/srv", "ext4", "/", "8:3")], None),
        ([DISK, Mount(3, "/srv", "ext4", "/", "8:3"), Mount(4, "/srv", "ext4", "/b", "8:1")], "/srv"),
        ([DISK, Mount(3, "/elsewhere", "ext4", "/volumes/srv", "8:1")], None),
        ([DISK, Mount(3, "/srv/docs2", "ext4", "/volumes/srv", "8:1")], None),
    ],
)
def test_part_of_a_file_system_mounted_elsewhere_is_a_bind_mount(
    mounts: list[Mount], point: str | None
) -> None:
    binds = bound("/srv/docs", mounts)
    assert (binds.point if binds else None) == point


def test_folder_bind_mounted_over_itself_by_a_sandbox_does_not_count() -> None:
    itself = Mount(3, "/home/ann/docs", "ext4", "/ann/docs", "8:2")
    assert bound("/home/ann/docs", [DISK, HOME, itself]) is None
    assert bound("/home/ann/docs", [HOME, itself, replace(itself, id=4)]) is None
    volume = Mount(5, "/home/ann", "ext4", "/volumes/home", "8:1")
    within = Mount(6, "/home/ann/docs", "ext4", "/volumes/home/docs", "8:1")
    assert bound("/home/ann/docs", [DISK, volume, within]) == within
    assert bound("/home/ann/docs", [volume, within]) == within, "its host's disk is not seen in a container"
