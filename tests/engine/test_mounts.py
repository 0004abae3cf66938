"""Tests disks mounted inside a folder, with real mounts; root only."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cli.test_mounts import can_mount, mounted
from tests.engine.test_watching import WatchingWorld, until
from tests.share import long

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not can_mount(), reason="mounting needs root and the right to mount"
)


@long
async def test_changes_on_a_disk_mounted_again_are_followed(tmp_path: Path) -> None:
    daemon = WatchingWorld(tmp_path)
    daemon.settings = replace(daemon.settings, rescan=3600.0)
    daemon.write("a.md", "alpha")
    with mounted(usb := daemon.root / "usb", "1m"):
        daemon.write("usb/u.md", "note")
        async with daemon.run_daemon():
            subprocess.run(f"umount {usb} && mount -t tmpfs -o size=1m none {usb}", shell=True, check=True)
            daemon.write("usb/u.md", "note")
            for number in range(3):
                daemon.write(f"usb/w{number}.md", f"written {number}")
                await until(daemon.mirrors_disk)
