"""Tests a state directory on a file system that accepts no more files; root only."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.test_mounts import can_mount, kbsync, mounted, remount
from tests.share import long

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not can_mount(), reason="mounting needs root and the right to mount"
)

STAGES = {6: (4, "no free inodes"), 15: (3, "df -i")}
"""Inodes: enough for the lock but not for the state; for the index but not for both folders of the parser."""


def write(folder: Path) -> None:
    folder.mkdir()
    for n in range(3):
        (folder / f"text{n}.md").write_text(f"text {n}")
        (folder / f"page{n}.html").write_text(f"<p>page {n}</p>")
    for file in folder.iterdir():
        os.utime(file, (1e9, 1e9))


@long
def test_file_system_without_inodes_is_distinguished_from_a_full_one(tmp_path: Path) -> None:
    folder, small = tmp_path / "docs", tmp_path / "small"
    write(folder)
    words = ("--once", "--folder", folder, "--state-dir", small / "state")
    with mounted(small, "50m"):
        for inodes, (code, fix) in STAGES.items():
            remount(small, f"nr_inodes={inodes}")
            refused = kbsync(*words)
            assert refused.returncode == code, refused.stderr
            assert fix in refused.stderr and "Traceback" not in refused.stderr, refused.stderr
        remount(small, "nr_inodes=1000")
        done = kbsync(*words, "--json")
        assert done.returncode == 0 and '"failed": 0' in done.stdout, done.stderr
