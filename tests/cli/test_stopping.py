"""SIGTERM in the middle of heavy work ends the process at once, with everything recorded."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.warm import Warm


def start(*words: str | Path) -> subprocess.Popen[bytes]:
    return Warm(["-q", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.mark.parametrize(("mode", "code"), [((), 0), (("--once",), 143)], ids=["daemon", "once"])
def test_it_does_not_wait_for_the_work_under_way(tmp_path: Path, mode: tuple[str, ...], code: int) -> None:
    folder, state = tmp_path / "docs", tmp_path / "state"
    folder.mkdir()
    for i in range(10):  # each is a good while of making vectors
        (folder / f"f{i}.md").write_text("\n\n".join(f"Paragraph {n} of file {i}. " * 20 for n in range(500)))
        os.utime(folder / f"f{i}.md", (1e9, 1e9))
    time.sleep(2.1)  # ctime counts as well
    options = ("--folder", folder, "--state-dir", state)
    process = start(*mode, *options)
    deadline = time.monotonic() + 30
    while not (state / "kb").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.2)
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == code
    assert time.monotonic() - began < 5.0  # two seconds, and what a busy machine adds
    assert start("--once", *options).wait(60) == 0
    assert start("verify", *options).wait(60) == 0
