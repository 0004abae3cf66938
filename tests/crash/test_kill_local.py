"""Kills the real process with the built-in target at every commit of the state and of the index."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.crash.kills_local import KilledMirror
from tests.share import ONE_IN, boundaries, in_parts, long
from tests.torture.exercise import Tally


@long
@in_parts
def test_killed_at_every_commit_leaves_one_document_per_file(tmp_path: Path, part: int) -> None:
    first = KilledMirror(tmp_path / "start")
    first.write_files()
    passed = first.run(0)
    assert passed >= 4
    for boundary in range(1 + part, passed + 1, ONE_IN):
        mirror = KilledMirror(tmp_path / f"a{boundary}")
        shutil.copytree(first.folder, mirror.folder)
        if not mirror.run(boundary):  # a quicker run may have fewer commits than the first
            mirror.run(0)
        mirror.check(Tally())


@long
@in_parts
def test_killed_at_every_commit_while_files_change_leaves_one_document_per_file(
    tmp_path: Path, part: int
) -> None:
    mirror, tally = KilledMirror(tmp_path), Tally()
    mirror.write_files()
    mirror.run(0)
    mirror.edit(0)
    for boundary in boundaries(part):  # the same folder and state, killed at one boundary after the other
        if mirror.run(boundary):
            break
        mirror.check_kept(tally)
    mirror.check(tally)
