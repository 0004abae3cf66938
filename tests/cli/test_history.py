"""Tests `kbsync history`."""

from __future__ import annotations

import re

from tests.cli.place import Place
from tests.share import long


@long
def test_history_shows_changes_of_a_file_and_who_approved_them(place: Place) -> None:
    for number in range(10):
        place.write(f"sub/f{number}.md", f"text {number}")
    place.configure()
    ran = place.run("history")
    assert ran.code == 2 and "has not been mirrored yet" in ran.err
    place.once()
    place.write("broken.pdf", "no pdf")
    (place.docs / "sub/f0.md").rename(place.docs / "new.md")
    assert place.run("--once").code == 1
    for number in range(1, 10):
        (place.docs / f"sub/f{number}.md").unlink()
    assert place.run("--once").code == 3
    assert place.run("approve", "--yes").code == 0
    assert place.run("--once").code == 1
    lines = place.run("history", "sub/f3.md").out.splitlines()
    assert [line[21:].rstrip() for line in lines] == [
        "uploaded  sub/f3.md",
        "held      sub/f3.md  the file is gone",
        "approved  sub/f3.md  by command",
        "deleted   sub/f3.md",
    ]
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  ", line) for line in lines)
    assert "renamed   sub/f0.md > new.md" in place.run("history", "new.md").out
    assert "renamed" in place.run("history", "sub", cwd=place.docs).out
    history = place.run("history", "--json", "--since", "1h").json
    assert history["more"] is False and len(history["events"]) == 10 + 2 + 27
    [failed] = [event for event in history["events"] if event["event"] == "failed"]
    assert failed["path"] == "broken.pdf" and failed["reason"] and failed["mirror"] == "handbook"
    newest = place.run("history", "--limit", "2").out.splitlines()
    assert newest[0] == "the newest 2 events; for more: --limit 20" and len(newest) == 3
    assert len(place.run("history", "--limit", "9" * 20).out.splitlines()) == len(history["events"])
    assert place.run("history", "--since", "2100-01-01").out == "nothing happened\n"
    refused = {
        ("--since", "soon"): "neither a duration such as 1d nor a date",
        ("nowhere.md",): "no mirror has nowhere.md",
    }
    for words, says in refused.items():
        ran = place.run("history", *words)
        assert ran.code == 2 and says in ran.err
