"""Kills the real process at random moments while it mirrors into Zhipu's stand-in over TCP."""

from __future__ import annotations

import random
from pathlib import Path

from tests.crash.kills_zhipu import busy_desk, kill_in_first_mirror, kill_while_editing
from tests.share import long

KILLS = 5


@long
def test_killed_in_the_first_pass_leaves_one_document_per_file(tmp_path: Path) -> None:
    with busy_desk(tmp_path) as desk:
        assert kill_in_first_mirror(desk, random.Random(1), KILLS).crashes == KILLS


@long
def test_killed_while_files_change_leaves_one_document_per_file(tmp_path: Path) -> None:
    with busy_desk(tmp_path) as desk:
        assert kill_while_editing(desk, random.Random(3), KILLS).crashes == KILLS
