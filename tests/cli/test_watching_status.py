"""`status` fits the terminal, and `--watch` follows what happens and leaves the terminal as it was."""

from __future__ import annotations

import contextlib
import re
import signal

import apsw
import pytest

from kbsync.cli.choosing import choose
from kbsync.cli.following import Rates, changes, framed
from kbsync.cli.layout import Column, elided, lines
from kbsync.cli.options import Choices
from kbsync.cli.paper import cells
from kbsync.cli.screen import ENTER, LEAVE
from kbsync.cli.standing import Standing
from kbsync.core.model import Status
from kbsync.engine.status import Counts, MirrorStatus
from kbsync.state.mirrors import Halt
from kbsync.state.store import Store
from tests.cli.place import Place
from tests.cli.terminal import Begin

WIDE = "/srv/手册/部门/" + "long-name/" * 6 + "配置"


def standing(ready: int = 0, pending: int = 0, halt: Halt | None = None) -> Standing:
    counts = Counts(ready=ready, pending=pending)
    return Standing(MirrorStatus("handbook", "/srv/handbook", "local", counts, halt=halt))


def columns() -> list[Column]:
    return [
        Column("MIRROR", ("handbook", "手册"), is_key=True),
        Column("READY", ("1,204", "3"), is_number=True, is_key=True, blank="0"),
        Column("HELD", ("0", "0"), is_number=True, blank="0"),
        Column("FAILED", ("0", "2"), is_number=True, blank="0"),
        Column("FOLDER", (WIDE, "/srv/a"), is_path=True),
    ]


@pytest.mark.parametrize("room", range(1, 140))
def test_no_line_of_a_table_is_wider_than_the_terminal(room: int) -> None:
    found = lines(columns(), room)
    if len(found) == 3:
        assert all(cells(line) <= room for line in found)
    else:
        assert room < 30
    assert any("1,204" in line for line in found)
    assert any("handbook" in line for line in found)


def test_what_says_nothing_goes_before_anything_is_cut() -> None:
    whole = lines(columns(), None)
    room = max(map(cells, whole))
    assert lines(columns(), room) == whole
    assert "HELD" not in lines(columns(), room - 1)[0]
    assert WIDE in lines(columns(), room - 1)[1]


def test_columns_stand_below_each_other_with_wide_characters() -> None:
    head, *rows = lines(columns(), None)
    assert len({cells(row[: row.index("/srv")]) for row in rows}) == 1
    assert cells(head[: head.index("FOLDER")]) == cells(rows[0][: rows[0].index("/srv")])


@pytest.mark.parametrize("room", range(3, 60))
def test_a_path_is_cut_at_its_beginning_between_names_where_it_can_be(room: int) -> None:
    shown = elided(WIDE, room)
    assert cells(shown) <= room
    assert WIDE.endswith(shown.removeprefix("…"))
    assert room < 8 or shown.startswith("…/")


def test_without_a_terminal_each_change_is_a_line() -> None:
    halt = Halt("quota", "no money", "kbsync retry")
    looks = [standing(1, 1), standing(1, 1), standing(2), standing(2, halt=halt), standing(2, halt=halt)]
    sights = iter([[each] for each in looks])

    def look() -> list[Standing]:
        with contextlib.suppress(StopIteration):
            return next(sights)
        raise KeyboardInterrupt

    told = list[str]()
    with pytest.raises(KeyboardInterrupt):
        for line in changes(look, lambda _seconds: None, lambda: 0.0):
            told.append(line)
    assert told == [
        "1970-01-01T00:00:00Z handbook: 1 ready, 1 pending",
        "1970-01-01T00:00:00Z handbook: 2 ready",
        "1970-01-01T00:00:00Z handbook: 2 ready; quota: no money; cure: kbsync retry",
    ]


def test_the_rate_is_that_of_the_last_looks_and_only_while_there_is_work() -> None:
    rates = Rates()
    assert rates.seen([standing(0, 100)], 0.0) == []
    assert rates.seen([standing(20, 80)], 10.0) == ["handbook: 2.0 documents/s, about 40 s left"]
    assert rates.seen([standing(20, 80)], 45.0) == []
    assert rates.seen([standing(100, 0)], 50.0) == []


def test_what_watch_cannot_be_combined_with_is_refused(place: Place) -> None:
    for option in ("--json", "--check", "--documents"):
        assert place.run("status", "--watch", option, "--folder", "docs").code == 2


def test_colour_is_on_terminals_only_and_not_where_it_is_unwanted(mirrored: Place) -> None:
    words = ("status", "--folder", "docs")
    assert "\x1b[" not in mirrored.run(*words).out
    assert "\x1b[32mdocs\x1b[0m" in mirrored.run(*words, tty=True).out
    assert "\x1b[" not in mirrored.run(*words, tty=True, env={"NO_COLOR": "1"}).out


def test_what_is_wrong_and_the_rates_come_before_the_table(place: Place) -> None:
    """A screen that is too small shows the beginning."""
    halted = standing(3, 1, Halt("credentials", "the key is refused", ""))
    frame = framed(choose(Choices(folder=place.docs)), [halted], ["handbook: 3.0 documents/s"])
    assert "the key is refused" in frame[0]
    rate, table = frame.index("handbook: 3.0 documents/s"), len(frame) - 2
    assert 0 < rate < table
    assert "MIRROR" in frame[table]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_terminal_is_left_as_it_was(terminal: Begin, number: int, code: int) -> None:
    watching = terminal("status", "--watch", "--folder", "docs")
    watching.until(ENTER)
    shown = watching.until("Ctrl-C ends")
    assert "MIRROR" in shown
    watching.process.send_signal(number)
    watching.until(LEAVE)
    assert watching.end() == code
    assert "Traceback" not in watching.seen
    assert "MIRROR" in watching.seen  # the last frame stays


def test_one_look_tells_how_fast_documents_become_searchable_while_others_wait(place: Place) -> None:
    for number in range(6):
        place.write(f"{number}.md", f"document {number}")
    place.configure()
    assert place.run("--once").code == 0
    assert "documents/s" not in place.run("status").out  # nothing waits
    store = Store(place.state / "state.db")
    mirror = store.read_now(lambda tx: tx.mirrors.named("handbook"))
    assert mirror is not None
    store.submit(lambda tx: tx.entries.set_status(mirror.id, "0.md", Status.PENDING, 0.0)).result()
    store.close()
    assert re.search(r"^handbook: \d+\.\d documents/s, about .* left$", place.run("status").out, re.MULTILINE)
    with contextlib.closing(apsw.Connection(str(place.state / "state.db"))) as database:
        database.execute("UPDATE upload SET accepted_at = accepted_at - 3600")
    assert "documents/s" not in place.run("status").out  # that was an hour ago
