"""Tests `kbsync history`."""

from __future__ import annotations

import os
import re
import time

from tests.cli.sandbox import Sandbox
from tests.share import long

pytestmark = long


def test_history_shows_changes_of_a_file_and_who_approved_them(sandbox: Sandbox) -> None:
    sandbox.prepare({f"sub/f{number}.md": f"text {number}" for number in range(10)})
    result = sandbox.run("history")
    assert result.code == 2 and "has not been mirrored yet" in result.err
    sandbox.once()
    sandbox.write("broken.pdf", "no pdf")
    (sandbox.docs / "sub/f0.md").rename(sandbox.docs / "new.md")
    assert sandbox.run("--once").code == 1
    for number in range(1, 10):
        (sandbox.docs / f"sub/f{number}.md").unlink()
    assert sandbox.run("--once").code == 3
    assert sandbox.run("approve", "--yes").code == 0
    assert sandbox.run("--once").code == 1
    lines = sandbox.run("history", "sub/f3.md").out.splitlines()
    assert [line[21:].rstrip() for line in lines] == [
        "uploaded  sub/f3.md",
        "held      sub/f3.md  the file is gone",
        "approved  sub/f3.md  by command",
        "deleted   sub/f3.md",
    ]
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", line) for line in lines)
    assert "renamed   sub/f0.md > new.md" in sandbox.run("history", "new.md").out
    assert "renamed" in sandbox.run("history", "sub", cwd=sandbox.docs).out
    history = sandbox.run("history", "--json", "--since", "2w").json
    assert history["more"] is False and len(history["events"]) == 10 + 2 + 27
    [failed] = [event for event in history["events"] if event["event"] == "failed"]
    assert failed["path"] == "broken.pdf" and failed["reason"] and failed["mirror"] == "handbook"
    newest = sandbox.run("history", "--limit", "2").out.splitlines()
    assert newest[0] == "showing only the newest 2 events; for more, pass --limit 20" and len(newest) == 3
    newest = sandbox.run("history", "--limit", "1").out.splitlines()
    assert newest[0] == "showing only the newest event; for more, pass --limit 10" and len(newest) == 2
    assert len(sandbox.run("history", "--limit", "9" * 20).out.splitlines()) == len(history["events"])
    assert sandbox.run("history", "--since", "2100-01-01").out == "nothing happened\n"
    refused = {
        ("--since", "soon"): "neither a duration such as 1d nor a date",
        ("nowhere.md",): "no mirror has nowhere.md",
    }
    for words, says in refused.items():
        result = sandbox.run("history", *words)
        assert result.code == 2 and says in result.err


def test_history_says_why_a_hold_ended_without_approval(sandbox: Sandbox) -> None:
    texts = {f"f{number}.md": f"text {number}" for number in range(8)}
    sandbox.mirror(texts)
    for path in texts:
        (sandbox.docs / path).unlink()
    assert sandbox.run("--once").code == 3
    for path, text in texts.items():
        sandbox.write(path, text if path != "f1.md" else "edited")
    sandbox.once()
    sandbox.write(".kbsyncignore", "*.md\n")
    assert sandbox.run("--once").code == 3
    (sandbox.docs / ".kbsyncignore").unlink()
    sandbox.once()
    sandbox.once()
    for path, replaced in (("f0.md", []), ("f1.md", ["replaced  f1.md"])):
        assert [line[21:].rstrip() for line in sandbox.run("history", path).out.splitlines()] == [
            f"uploaded  {path}",
            f"held      {path}  the file is gone",
            f"kept      {path}  the file is back",
            *replaced,
            f"held      {path}  the file is no longer selected",
            f"kept      {path}  the file is selected again",
        ]


def test_times_have_the_same_forms_in_history_and_search(sandbox: Sandbox) -> None:
    sandbox.write("new.md", "the heron")
    old = sandbox.write("old.md", "the heron")
    long_ago = time.time() - 40 * 86400
    os.utime(old, (long_ago, long_ago))
    sandbox.configure()
    sandbox.once()
    for when in ("1d", "yesterday", "2000-01-01"):
        assert len(sandbox.run("history", "--since", when, "--json").json["events"]) == 2
        hits = sandbox.run("search", "heron", "--after", when, "--json").json["hits"]
        paths = {hit["path"] for hit in hits}
        assert paths == ({"new.md", "old.md"} if when == "2000-01-01" else {"new.md"})
