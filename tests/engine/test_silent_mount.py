"""Mounts of which nobody knows whether events tell of their changes; root only."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from kbsync.source.watch import Mode
from tests.cli.test_mounts import can_mount, mounted
from tests.engine.test_watching import WatchingWorld, until

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not can_mount(), reason="mounting needs root and the right to mount"
)


@contextmanager
def overlaid(layers: Path, place: Path) -> Iterator[Path]:
    """`place` shows what is in the folder that this gives, whose changes no watch at `place` hears of."""
    with mounted(layers, "10m"):
        lower, upper, work = (layers / name for name in ("lower", "upper", "work"))
        for each in (lower, upper, work):
            each.mkdir()
        options = f"lowerdir={lower},upperdir={upper},workdir={work}"
        subprocess.run(["mount", "-t", "overlay", "-o", options, "overlay", place], check=True)
        try:
            yield lower
        finally:
            subprocess.run(["umount", place], check=True)


async def test_a_folder_whose_events_do_not_arrive_is_polled_until_one_does(tmp_path: Path) -> None:
    daemon = WatchingWorld(tmp_path)
    daemon.settings = replace(daemon.settings, rescan=1.0)
    with overlaid(tmp_path / "layers", daemon.root) as behind:
        (behind / "a.md").write_text("first")
        async with daemon.kept():
            watching = daemon.watching
            assert watching is not None and watching._mode is Mode.NATIVE
            (behind / "a.md").write_text("changed from behind")
            await until(lambda: watching._mode is Mode.POLLING)
            await until(daemon.mirrors_disk)
            daemon.write("b.md", "written here")
            await until(lambda: watching._mode is Mode.NATIVE)
            await until(daemon.mirrors_disk)
