"""Tests a limit on memory: kbsync reports it at once, and works within a limit that suffices."""

from __future__ import annotations

import subprocess
import sys
import time

from tests.cli.sandbox import PIPES, Sandbox
from tests.share import long


def within(sandbox: Sandbox, kibibytes: int, *words: str) -> subprocess.Popen[bytes]:
    limited = ["bash", "-c", f'ulimit -v {kibibytes}; exec "$@"', "bash", sys.executable, "-m", "kbsync"]
    return sandbox.keep(
        subprocess.Popen([*limited, *words], cwd=sandbox.root, env=sandbox.environ({}), **PIPES)
    )


@long
def test_pass_out_of_memory_ends_at_once_with_one_sentence_and_the_next_one_continues(
    sandbox: Sandbox,
) -> None:
    sandbox.prepare({f"{number}.md": f"text {number}" for number in range(20)})
    for kibibytes in (400_000, 500_000):
        process = within(sandbox, kibibytes, "--once", "--log-format", "console")
        started = time.monotonic()
        _, err = process.communicate(timeout=100)
        assert time.monotonic() - started < 50
        lines = [line for line in err.decode().splitlines() if line.strip()]
        assert process.returncode == 3, err
        assert len(lines) == 1 and "docs" in lines[0] and "no more memory" in lines[0], err
        assert sandbox.run("status", "--json").json["mirrors"][0]["halt"]["reason"] == "out-of-memory"
    assert sandbox.once()["mirrors"][0]["documents"]["ready"] == 20


@long
def test_parser_starts_within_a_limit_lower_than_its_own(sandbox: Sandbox) -> None:
    sandbox.prepare({"page.html": "<p>an aardvark</p>"})
    process = within(sandbox, 1_000_000, "--once")
    _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert sandbox.run("search", "aardvark").out
