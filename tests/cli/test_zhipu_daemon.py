"""The daemon with a knowledge base at Zhipu: edits, outages, halts that end by themselves, signals, quiet."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kbsync.core.names import Naming
from tests.cli.place import Daemon, eventually, words_of
from tests.cli.vendor import Desk, desk_in, digests_in


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_in(tmp_path) as desk:
        for n in range(4):
            desk.write(f"f{n}.md", f"text of f{n}")
        yield desk


def mirrors(desk: Desk) -> None:
    """The base comes to hold the folder's files, each once."""
    eventually(lambda: desk.vendor.digests() == digests_in(desk.docs))


def started(desk: Desk, *, hurried: bool = False) -> Daemon:
    """A daemon that has mirrored the folder."""
    daemon = desk.watch(hurried=hurried)
    daemon.says("document.ready", path="f3.md")
    mirrors(desk)
    return daemon


def connections(pid: int, port: int) -> int:
    """How many sockets a process has to a port of this machine, in whatever state; Linux tells."""
    held = {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()}
    table = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return sum(f"socket:[{row[9]}]" in held and int(row[2].partition(":")[2], 16) == port for row in table)


def test_an_idle_daemon_holds_no_connection(desk: Desk) -> None:
    for n in range(4, 20):
        desk.write(f"f{n}.md", f"text of f{n}")
    daemon = started(desk)
    port = urlsplit(desk.vendor.url).port or 0
    assert connections(daemon.process.pid, port)
    eventually(lambda: not connections(daemon.process.pid, port), 20.0)
    asked = desk.vendor.asked()
    desk.write("late.md", "text of late")
    mirrors(desk)
    assert desk.vendor.asked() > asked
    assert daemon.end() == 0


def test_edits_are_searchable_and_an_idle_daemon_asks_nothing(desk: Desk) -> None:
    daemon = started(desk)
    old = desk.vendor.document("f0.md")["id"]
    desk.write("f0.md", "changed to apples")
    desk.write("sub/new.md", "new bananas")
    (desk.docs / "f1.md").rename(desk.docs / "moved.md")
    (desk.docs / "f2.md").unlink()
    eventually(lambda: desk.vendor.digests() == digests_in(desk.docs))
    eventually(lambda: desk.found("apples bananas") and desk.run("status", "--check").code == 0)
    assert sorted(desk.found("apples bananas")) == ["f0.md", "sub/new.md"]
    assert desk.found("f1") == ["moved.md"]
    assert old not in {one["id"] for one in desk.vendor.documents()}
    assert len(desk.vendor.effects("stored")) == 7

    (desk.docs / "f3.md").touch()
    desk.write("sub/new.md", "new bananas")
    time.sleep(1.5)  # a settle, a second look, and then nothing
    asked = desk.vendor.asked()
    time.sleep(3.0)
    assert desk.vendor.asked() == asked
    assert len(desk.vendor.effects("stored")) == 7
    assert daemon.end() == 0
    assert desk.vendor.violations() == []


@pytest.mark.parametrize(
    ("wrong", "right", "reason"),
    [
        ({"key_revoked": True}, {"key_revoked": False}, "credentials"),
        ({"base": "deleted"}, {"base": "present"}, "knowledge-base-missing"),
        ({"money_gone": True}, {"money_gone": False}, "quota"),
    ],
    ids=["key", "base", "money"],
)
def test_a_halt_is_told_once_and_ends_by_itself(
    desk: Desk, wrong: dict[str, object], right: dict[str, object], reason: str
) -> None:
    daemon = started(desk, hurried=True)
    desk.vendor.turn(**wrong)
    desk.write("new.md", "new")
    (desk.docs / "f1.md").unlink()
    daemon.says("mirror.halted", reason=reason)
    assert desk.status()["halt"]["reason"] == reason
    probes = desk.vendor.asked("base")
    eventually(lambda: desk.vendor.asked("base") >= probes + 2)
    assert [line["reason"] for line in daemon.lines("mirror.halted")] == [reason]
    assert daemon.lines("mirror.resumed") == []

    desk.vendor.turn(**right)
    daemon.says("mirror.resumed", reason=reason)
    mirrors(desk)
    assert desk.status()["halt"] is None
    assert len(desk.vendor.effects("stored")) == 5
    assert len(daemon.lines("mirror.halted")) == len(daemon.lines("mirror.resumed")) == 1
    assert daemon.end() == 0


@contextlib.contextmanager
def refused(desk: Desk, *, hurried: bool = False) -> Iterator[tuple[Daemon, Path]]:
    """A daemon that halts over the key in the file."""
    held = desk.config.parent / "zhipu.key"
    held.write_text("kid-4711.a-mistake\n")
    desk.aim(key="api_key_file: zhipu.key")
    daemon = desk.watch(hurried=hurried)
    daemon.says("mirror.halted", reason="credentials")
    yield daemon, held
    daemon.says("mirror.resumed", reason="credentials")
    mirrors(desk)
    assert desk.status()["halt"] is None
    assert len(daemon.lines("mirror.resumed")) == len(daemon.lines("mirror.halted")) == 1
    assert daemon.end() == 0


def test_a_corrected_key_is_taken_without_being_told(desk: Desk) -> None:
    with refused(desk) as (daemon, held):
        held.unlink()
        asked = desk.vendor.asked("base")
        eventually(lambda: desk.vendor.asked("base") > asked)
        assert desk.status()["halt"]["reason"] == "credentials"
        held.write_text(f"{desk.vendor.key}\n")
        daemon.says("secrets.read", mirror="handbook")
        assert daemon.lines("config.read") == daemon.lines("config.refused") == []


def test_a_corrected_key_counts_when_the_cure_is_pasted(desk: Desk) -> None:
    """Where more than the key was wrong it is not taken before."""
    with refused(desk) as (daemon, held):
        desk.aim(key="api_key_file: zhipu.key", target="concurrency: 2")
        held.write_text(f"{desk.vendor.key}\n")
        ran = desk.go(*words_of(desk.status()["halt"]["cure"]))
        assert ran.code == 0
        assert "the running kbsync does it now" in ran.out
        daemon.says("config.read", changed=1)


def test_a_key_that_is_changed_while_the_mirror_runs_is_taken(desk: Desk) -> None:
    """Of the config nothing else is taken: nobody said that it is as it shall be."""
    held = desk.config.parent / "zhipu.key"
    held.write_text(f"{desk.vendor.key}\n")
    desk.aim(key="api_key_file: zhipu.key")
    daemon = started(desk, hurried=True)
    desk.vendor.turn(key_revoked=True)
    desk.write("new.md", "new")
    daemon.says("mirror.halted", reason="credentials")
    desk.config.write_text(f"log_level: error\n{desk.config.read_text()}")
    held.write_text("kid-4711.another-mistake\n")
    daemon.says("secrets.read", mirror="handbook")
    desk.vendor.turn(key_revoked=False)
    held.write_text(f"{desk.vendor.key}\n")
    daemon.says("mirror.resumed", reason="credentials")
    mirrors(desk)
    assert daemon.lines("config.read") == []
    assert len(daemon.lines("secrets.read")) == 2
    assert daemon.end() == 0


def test_a_config_that_is_no_good_is_refused_when_the_cure_is_pasted(desk: Desk) -> None:
    """The command asks for no key, so it is the daemon that misses it."""
    with refused(desk) as (daemon, held):
        held.unlink()
        cure = words_of(desk.status()["halt"]["cure"])
        assert desk.go(*cure).code == 0
        assert "zhipu.key" in daemon.says("config.refused")["reason"]
        assert desk.status()["halt"]["reason"] == "credentials"
        held.write_text(f"{desk.vendor.key}\n")
        assert desk.go(*cure).code == 0


def test_a_config_changed_meanwhile_counts_for_a_mirror_that_was_at_work(desk: Desk) -> None:
    """Another mirror, which nothing halts, is not disturbed; what is asked of it reads nothing."""
    other = desk.root / "other"
    other.mkdir()
    beside = f"  - {{name: other, folder: {other}, settle: 100ms}}\n"
    desk.config.write_text(desk.config.read_text() + beside)
    daemon = started(desk)
    assert desk.go("retry", "--mirror", "other").code == 0
    desk.vendor.turn(key_revoked=True)
    desk.write("new.md", "new")
    daemon.says("mirror.halted", reason="credentials")
    assert daemon.lines("config.read") == []
    desk.aim(target="concurrency: 2")
    desk.config.write_text(desk.config.read_text() + beside)
    assert desk.go("retry").code == 0
    daemon.says("config.read", mirrors=2, changed=1)
    desk.vendor.turn(key_revoked=False)
    daemon.says("mirror.resumed", reason="credentials")
    mirrors(desk)
    assert len([line for line in daemon.lines("watch.started") if line["mirror"] == "other"]) == 1
    assert daemon.end() == 0


def test_a_repair_and_a_new_prefix_reach_it_while_it_runs(desk: Desk) -> None:
    daemon = started(desk)
    desk.vendor.take_away(desk.vendor.document("f0.md")["id"])
    ran = desk.go("verify", "--repair")
    assert ran.code == 1
    assert "the running kbsync does it now" in ran.err
    daemon.says("document.ready", path="f0.md", times=2)
    mirrors(desk)

    desk.aim("prefix: new-")
    daemon.tell(signal.SIGHUP)
    eventually(lambda: desk.vendor.digests(Naming("new-")) == digests_in(desk.docs))
    eventually(lambda: len(desk.vendor.ours()) == 4)
    assert daemon.end() == 0
    assert desk.run("verify").code == 0


def test_a_term_signal_ends_it_while_an_upload_hangs(desk: Desk) -> None:
    daemon = started(desk)
    desk.vendor.play("hang", op="upload", times=0)
    for n in range(6):
        desk.write(f"new{n}.md", f"new {n}")
    eventually(lambda: desk.vendor.server.requests.in_flight >= 4)
    began = time.monotonic()
    assert daemon.end() == 0
    assert time.monotonic() - began < 4.0  # two seconds, and what a busy machine adds
    desk.vendor.server.faults.clear()
    desk.once()
    assert desk.vendor.digests() == digests_in(desk.docs)
    names = [entry["name"] for entry in desk.vendor.effects("stored")]
    assert len(set(names)) == len(names) == 10


def test_a_changed_concurrency_counts_after_a_hup(desk: Desk) -> None:
    desk.aim(target="concurrency: 1")
    daemon = started(desk)
    assert desk.vendor.server.requests.in_flight_max == 1
    desk.aim(target="concurrency: 6")
    daemon.tell(signal.SIGHUP)
    daemon.says("config.read", changed=1)
    daemon.says("watch.started", times=2)
    desk.vendor.play("late-answer", op="upload", times=12, args={"seconds": 0.3})
    for n in range(12):
        desk.write(f"new{n}.md", f"new {n}")
    mirrors(desk)
    assert 3 <= desk.vendor.server.requests.in_flight_max <= 6

    desk.aim(target="concurrency: none")
    daemon.tell(signal.SIGHUP)
    assert "concurrency" in daemon.says("config.refused")["reason"]
    desk.write("last.md", "last")
    mirrors(desk)
    assert daemon.end() == 0
