"""What a pass shows while it runs: how far it is, and how much the account still takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from kbsync.cli.commands import once
from tests.cli.vendor import zhipu_place


@pytest.mark.parametrize(("tty", "told"), [(False, '"bytes_left": 99'), (True, "kB of space left")])
def test_a_pass_shows_how_much_space_is_left(
    tty: bool, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("PATIENCE", "OFTEN", "SELDOM"):
        monkeypatch.setattr(once, name, 0.05)
    with zhipu_place(tmp_path, latency=0.03) as zhipu:
        zhipu.vendor.turn(capacity_bytes=100_000)
        for number in range(10):
            zhipu.write(f"{number}.md", f"document {number}\n")
        ran = zhipu.run("--once", tty=tty)
    assert ran.code == 0
    assert told in ran.err
