from __future__ import annotations

from pathlib import Path

import pytest

from kbsync.config.places import network_file_system

MOUNTS = """\
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
30 27 0:40 / /mnt/nfs rw shared:1 - nfs4 host:/x rw
31 30 0:41 / /mnt/nfs/local rw - xfs /dev/vdb rw
32 27 0:42 / /mnt/my\\040share rw master:2 propagate_from:1 - cifs //h/s rw
33 27 0:43 / /mnt/ssh rw - fuse.sshfs u@h: rw
34 27 0:44 / /mnt/ntfs rw - fuseblk /dev/vdc rw
35 27 0:45 / /mnt/auto rw - autofs systemd-1 rw
36 35 0:46 / /mnt/auto rw - nfs host:/y rw
37 27 0:47 / /mnt/win rw - 9p C: rw
38 27 0:48 / /mnt/smb rw - smb3 //h/s rw
39 27 0:49 / /mnt/ov rw - overlay overlay rw
not a mount
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/", None),
        ("/home/x", None),
        ("/mnt/nfs", "nfs4"),
        ("/mnt/nfs/a/b", "nfs4"),
        ("/mnt/nfsx", None),
        ("/mnt/nfs/local/a", None),
        ("/mnt/my share/a", "cifs"),
        ("/mnt/ssh/a", "fuse.sshfs"),
        ("/mnt/ntfs/a", None),
        ("/mnt/auto/a", "nfs"),
        ("/mnt/win/a", "9p"),
        ("/mnt/smb/a", "smb3"),
        ("/mnt/ov/a", None),
    ],
)
def test_network_file_systems_are_told_from_local_ones(tmp_path: Path, path: str, kind: str | None) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(MOUNTS)
    assert network_file_system(Path(path), mountinfo) == kind


def test_a_link_to_a_network_file_system_is_followed(tmp_path: Path) -> None:
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(f"1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:9 / {tmp_path}/nfs rw - nfs h:/x rw\n")
    (tmp_path / "link").symlink_to("nfs")
    assert network_file_system(tmp_path / "link" / "state", mountinfo) == "nfs"


def test_without_mountinfo_nothing_is_claimed(tmp_path: Path) -> None:
    assert network_file_system(tmp_path, tmp_path / "none") is None
