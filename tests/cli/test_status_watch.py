"""`status` fits the terminal, and `--watch` follows what happens and leaves the terminal as it was."""

from __future__ import annotations

import contextlib
import re
import signal
from dataclasses import replace

import apsw
import pytest

from kbsync.cli.commands.status_watch import changes, framed
from kbsync.cli.context import choose
from kbsync.cli.options import Choices
from kbsync.cli.output import Column, Output, cells, elided, table
from kbsync.cli.report import MirrorReport
from kbsync.core.model import Status
from kbsync.engine.status import DocumentCounts, MirrorStatus
from kbsync.state import lock
from kbsync.state.mirrors import Halt
from kbsync.state.store import StateStore
from tests.cli.place import Place
from tests.cli.terminal import Begin

SECOND_SCREEN, FIRST_SCREEN = "\x1b[?1049h", "\x1b[?1049l"
WIDE = "/srv/手册/部门/" + "long-name/" * 6 + "配置"


def standing(ready: int = 0, pending: int = 0, halt: Halt | None = None) -> MirrorReport:
    counts = DocumentCounts(ready=ready, pending=pending)
    return MirrorReport(MirrorStatus("handbook", "/srv/handbook", "local", counts, last_pass=0.0, halt=halt))


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
    found = table(columns(), room)
    if len(found) == 3:
        assert all(cells(line) <= room for line in found)
    else:
        assert room < 30
    assert any("1,204" in line for line in found)
    assert any("handbook" in line for line in found)


def test_what_says_nothing_goes_before_anything_is_cut() -> None:
    whole = table(columns(), None)
    room = max(map(cells, whole))
    assert table(columns(), room) == whole
    assert "HELD" not in table(columns(), room - 1)[0]
    assert WIDE in table(columns(), room - 1)[1]


def test_columns_stand_below_each_other_with_wide_characters() -> None:
    head, *rows = table(columns(), None)
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

    def look() -> list[MirrorReport]:
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


def test_what_watch_cannot_be_combined_with_is_refused(place: Place) -> None:
    for option in ("--json", "--check", "--documents"):
        assert place.run("status", "--watch", option, "--folder", "docs").code == 2


def test_colour_is_on_terminals_only_and_not_where_it_is_unwanted(mirrored: Place) -> None:
    words = ("status", "--folder", "docs")
    assert "\x1b[" not in mirrored.run(*words).out
    assert "\x1b[32mdocs\x1b[0m" in mirrored.run(*words, tty=True).out
    assert "\x1b[" not in mirrored.run(*words, tty=True, env={"NO_COLOR": "1"}).out


def failing(count: int) -> MirrorReport:
    whole = standing(3, halt=Halt("credentials", "the key is refused", "put another one there"))
    documents = DocumentCounts(ready=3, failed=count)
    failed = tuple((f"{number}.md", f"damaged at byte {number}") for number in range(count))
    return replace(whole, status=replace(whole.status, documents=documents), failed=failed)


def test_watched_the_table_comes_first_and_all_else_in_the_rows_that_are_left(place: Place) -> None:
    installation = choose(Choices(folder=place.docs))
    frame = framed(Output(), installation, [failing(30)])
    assert "MIRROR" in frame.table[0]
    assert "the key is refused" in frame.wrong[0]
    for rows in range(6, 24):
        shown = frame.within(200, rows)
        assert len(shown) == rows
        table = list(frame.table[: rows - 3])
        assert shown[: len(table)] == table
        more = len(frame.wrong) - sum(line in shown for line in frame.wrong)
        assert shown[-2] == f"… and {more} more; see {installation.cure('status')}"
    assert frame.within(900, 80) == [*frame.table, "", *frame.wrong, ""]
    assert frame.left() == [*frame.wrong, "", *frame.table]
    assert frame.within(50, 80)[-2] == f"in full: {installation.cure('status')}"


def test_on_a_small_screen_the_table_is_seen_over_twenty_failures(place: Place, terminal: Begin) -> None:
    for number in range(22):
        (place.docs / f"{number}.xlsx").write_bytes(b"no spreadsheet %d" % number)
    assert place.run("--once", "--folder", "docs").code == 1
    watching = terminal(place, "status", "--watch", "--folder", "docs", rows=12, columns=60)
    watching.until(SECOND_SCREEN)
    frame = watching.until("Ctrl-C ends")
    watching.process.send_signal(signal.SIGINT)
    assert watching.end() == 130
    assert "MIRROR" in frame
    assert "see kbsync status" in frame or "in full: kbsync status" in frame


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_terminal_is_left_as_it_was(terminal: Begin, mirrored: Place, number: int, code: int) -> None:
    watching = terminal(mirrored, "status", "--watch", "--folder", "docs")
    watching.until(SECOND_SCREEN)
    shown = watching.until("Ctrl-C ends")
    assert "MIRROR" in shown
    watching.process.send_signal(number)
    watching.until(FIRST_SCREEN)
    assert watching.end() == code
    assert "Traceback" not in watching.seen
    assert "MIRROR" in watching.seen  # the last frame stays


def test_one_look_tells_how_fast_documents_become_searchable_while_others_wait(place: Place) -> None:
    for number in range(6):
        place.write(f"{number}.md", f"document {number}")
    place.configure()
    assert place.run("--once").code == 0
    assert "documents/s" not in place.run("status").out  # nothing waits
    store = StateStore(place.state / "state.db")
    mirror = store.read_now(lambda tx: tx.mirrors.named("handbook"))
    assert mirror is not None
    store.submit(lambda tx: tx.entries.set_status(mirror.id, "0.md", Status.PENDING, 0.0)).result()
    store.close()
    rate = re.compile(r"^handbook: \d+\.\d documents/s, about .* left$", re.MULTILINE)
    with lock.held(place.state):
        assert rate.search(place.run("status").out)
    with contextlib.closing(apsw.Connection(str(place.state / "state.db"))) as database:
        database.execute("UPDATE upload SET accepted_at = accepted_at - 3600")
    with lock.held(place.state):
        assert "documents/s" not in place.run("status").out  # that was an hour ago
