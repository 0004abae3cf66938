"""`kbsync` in the foreground: a person sees what is watched and each change; programs get the log."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest

from tests.cli.place import Place
from tests.cli.terminal import Begin, Terminal
from tests.ports import free_port

CHANGE = re.compile(r"^\d\d:\d\d:\d\d ([-+~>!]) (.+?)(?: \d+\.\d s)?$")


def test_a_person_sees_what_is_watched_and_a_short_line_for_each_change(
    place: Place, terminal: Begin
) -> None:
    place.write("a.md", "alpha")
    place.write("b.md", "beta")
    config, port = place.configure(), free_port()
    config.write_text(f"{config.read_text()}http: {{listen: '127.0.0.1:{port}'}}\n")
    daemon = terminal(place, columns=200)
    begun = daemon.until("Ctrl-C stops it\r\n")
    assert f"using {config}\r\n" in begun
    assert f"\r\nwatching 1 folder, 2 documents; http://127.0.0.1:{port}; Ctrl-C stops it" in begun
    said = begun
    for change, line in (
        (lambda: place.write("office/note.md", "a note"), r"\d\d:\d\d:\d\d \+ office/note\.md \d+\.\d s\r\n"),
        (lambda: place.write("office/note.md", "a note, changed"), r" ~ office/note\.md \d+\.\d s\r\n"),
        (lambda: (place.docs / "office/note.md").rename(place.docs / "n.md"), r" > n\.md( \d+\.\d s)?\r\n"),
        ((place.docs / "n.md").unlink, r" - n\.md\r\n"),
        (lambda: place.write("broken.pdf", "this is no pdf"), r" ! broken\.pdf: cannot be read: .*\r\n"),
    ):
        change()
        piece = seen_until(daemon, line)
        said += piece
    daemon.process.send_signal(signal.SIGINT)
    assert daemon.end() == 0
    said += daemon.seen
    lines = [line for line in said.replace("\r", "").splitlines() if CHANGE.match(line)]
    told = [CHANGE.match(line).groups() for line in lines]  # type: ignore[union-attr]
    assert sorted(path for mark, path in told if mark == "+") == ["a.md", "b.md", "office/note.md"]
    assert [mark for mark, _ in told if mark != "+"] == ["~", ">", "-", "!"]
    assert len(said.splitlines()) == len(lines) + 3, said  # using, watching, stopped
    assert "event" not in said and "document." not in said


def seen_until(terminal: Terminal, pattern: str) -> str:
    """What came until a line fits."""
    seen = ""
    while not re.search(pattern, seen):
        seen += terminal.until("\n")
    return seen


def test_a_halt_is_one_line_with_its_cure_and_its_end_another(place: Place, terminal: Begin) -> None:
    place.write("a.md", "alpha")
    place.configure()
    daemon = terminal(place, columns=200)
    daemon.until("Ctrl-C stops it")
    place.docs.rename(place.root / "away")
    halted = seen_until(daemon, "folder is missing")
    assert re.search(rf"\d ! handbook: folder-missing: {re.escape(str(place.docs))}: the folder is", halted)
    (place.root / "away").rename(place.docs)
    seen_until(daemon, "handbook resumed")


@pytest.mark.parametrize("options", [("--log-format", "json"), ("--log-level", "info")])
def test_a_log_that_is_asked_for_is_a_log(place: Place, terminal: Begin, options: tuple[str, str]) -> None:
    place.write("a.md", "alpha")
    place.configure()
    daemon = terminal(place, *options, columns=200)
    said = daemon.until("document.ready") + daemon.until("\n")
    assert "watching 1 folder, " not in said
    if "json" in options:
        assert all(json.loads(line)["event"] for line in said.splitlines() if line)


def test_off_a_terminal_the_daemon_says_everything_in_json(place: Place, tmp_path: Path) -> None:
    place.write("a.md", "alpha")
    place.write("broken.pdf", "this is no pdf")
    place.configure()
    daemon = place.start()
    assert daemon.stderr is not None
    lines = []
    while not {"daemon.watching", "document.failed", "document.ready"} <= {line["event"] for line in lines}:
        lines.append(json.loads(daemon.stderr.readline()))
    [watching] = [line for line in lines if line["event"] == "daemon.watching"]
    assert (watching["folders"], watching["documents"]) == (1, 2)
    second = place.run()
    assert second.code == 4
    assert "another kbsync" in json.loads(second.err)["detail"]
    daemon.terminate()
    rest, code = daemon.communicate(timeout=60)[1], daemon.returncode
    assert code == 0
    assert [json.loads(line)["event"] for line in rest.splitlines()][-1] == "daemon.stopped"
