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
from tests.cli.vendor import ZhipuPlace, digests_in, zhipu_place


@pytest.fixture
def zhipu(tmp_path: Path) -> Iterator[ZhipuPlace]:
    with zhipu_place(tmp_path) as zhipu:
        for n in range(4):
            zhipu.write(f"f{n}.md", f"text of f{n}")
        yield zhipu


def mirrors(zhipu: ZhipuPlace) -> None:
    """The base comes to hold the folder's files, each once."""
    eventually(lambda: zhipu.vendor.digests() == digests_in(zhipu.docs))


def started(zhipu: ZhipuPlace, *, hurried: bool = False) -> Daemon:
    """A daemon that has mirrored the folder."""
    daemon = zhipu.watch(hurried=hurried)
    daemon.says("document.ready", path="f3.md")
    mirrors(zhipu)
    return daemon


def connections(pid: int, port: int) -> int:
    """How many sockets a process has to a port of this machine, in whatever state; Linux tells."""
    held = {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()}
    table = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return sum(f"socket:[{row[9]}]" in held and int(row[2].partition(":")[2], 16) == port for row in table)


def test_an_idle_daemon_holds_no_connection(zhipu: ZhipuPlace) -> None:
    for n in range(4, 20):
        zhipu.write(f"f{n}.md", f"text of f{n}")
    daemon = started(zhipu)
    port = urlsplit(zhipu.vendor.url).port or 0
    assert connections(daemon.process.pid, port)
    eventually(lambda: not connections(daemon.process.pid, port), 20.0)
    asked = zhipu.vendor.asked()
    zhipu.write("late.md", "text of late")
    mirrors(zhipu)
    assert zhipu.vendor.asked() > asked
    assert daemon.end() == 0


def test_edits_are_searchable_and_an_idle_daemon_asks_nothing(zhipu: ZhipuPlace) -> None:
    daemon = started(zhipu)
    old = zhipu.vendor.document("f0.md")["id"]
    zhipu.write("f0.md", "changed to apples")
    zhipu.write("sub/new.md", "new bananas")
    (zhipu.docs / "f1.md").rename(zhipu.docs / "moved.md")
    (zhipu.docs / "f2.md").unlink()
    eventually(lambda: zhipu.vendor.digests() == digests_in(zhipu.docs))
    eventually(lambda: zhipu.found("apples bananas") and zhipu.run("status", "--check").code == 0)
    assert sorted(zhipu.found("apples bananas")) == ["f0.md", "sub/new.md"]
    assert zhipu.found("f1") == ["moved.md"]
    assert old not in {one["id"] for one in zhipu.vendor.documents()}
    assert len(zhipu.vendor.effects("stored")) == 7

    (zhipu.docs / "f3.md").touch()
    zhipu.write("sub/new.md", "new bananas")
    time.sleep(1.5)  # a settle, a second look, and then nothing
    asked = zhipu.vendor.asked()
    time.sleep(3.0)
    assert zhipu.vendor.asked() == asked
    assert len(zhipu.vendor.effects("stored")) == 7
    assert daemon.end() == 0
    assert zhipu.vendor.violations() == []


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
    zhipu: ZhipuPlace, wrong: dict[str, object], right: dict[str, object], reason: str
) -> None:
    daemon = started(zhipu, hurried=True)
    zhipu.vendor.turn(**wrong)
    zhipu.write("new.md", "new")
    (zhipu.docs / "f1.md").unlink()
    daemon.says("mirror.halted", reason=reason)
    assert zhipu.status()["halt"]["reason"] == reason
    probes = zhipu.vendor.asked("base")
    eventually(lambda: zhipu.vendor.asked("base") >= probes + 2)
    assert [line["reason"] for line in daemon.lines("mirror.halted")] == [reason]
    assert daemon.lines("mirror.resumed") == []

    zhipu.vendor.turn(**right)
    daemon.says("mirror.resumed", reason=reason)
    mirrors(zhipu)
    assert zhipu.status()["halt"] is None
    assert len(zhipu.vendor.effects("stored")) == 5
    assert len(daemon.lines("mirror.halted")) == len(daemon.lines("mirror.resumed")) == 1
    assert daemon.end() == 0


@contextlib.contextmanager
def refused(zhipu: ZhipuPlace, *, hurried: bool = False) -> Iterator[tuple[Daemon, Path]]:
    """A daemon that halts over the key in the file."""
    held = zhipu.config.parent / "zhipu.key"
    held.write_text("kid-4711.a-mistake\n")
    zhipu.aim(key="api_key_file: zhipu.key")
    daemon = zhipu.watch(hurried=hurried)
    daemon.says("mirror.halted", reason="credentials")
    yield daemon, held
    daemon.says("mirror.resumed", reason="credentials")
    mirrors(zhipu)
    assert zhipu.status()["halt"] is None
    assert len(daemon.lines("mirror.resumed")) == len(daemon.lines("mirror.halted")) == 1
    assert daemon.end() == 0


def test_a_corrected_key_is_taken_without_being_told(zhipu: ZhipuPlace) -> None:
    with refused(zhipu) as (daemon, held):
        held.unlink()
        asked = zhipu.vendor.asked("base")
        eventually(lambda: zhipu.vendor.asked("base") > asked)
        assert zhipu.status()["halt"]["reason"] == "credentials"
        held.write_text(f"{zhipu.vendor.key}\n")
        daemon.says("secrets.read", mirror="handbook")
        assert daemon.lines("config.read") == daemon.lines("config.refused") == []


def test_a_corrected_key_counts_when_the_cure_is_pasted(zhipu: ZhipuPlace) -> None:
    """Where more than the key was wrong it is not taken before."""
    with refused(zhipu) as (daemon, held):
        zhipu.aim(key="api_key_file: zhipu.key", target="concurrency: 2")
        held.write_text(f"{zhipu.vendor.key}\n")
        ran = zhipu.go(*words_of(zhipu.status()["halt"]["cure"]))
        assert ran.code == 0
        assert "the running kbsync does it now" in ran.out
        daemon.says("config.read", changed=1)


def test_a_key_that_is_changed_while_the_mirror_runs_is_taken(zhipu: ZhipuPlace) -> None:
    """Of the config nothing else is taken: nobody said that it is as it shall be."""
    held = zhipu.config.parent / "zhipu.key"
    held.write_text(f"{zhipu.vendor.key}\n")
    zhipu.aim(key="api_key_file: zhipu.key")
    daemon = started(zhipu, hurried=True)
    zhipu.vendor.turn(key_revoked=True)
    zhipu.write("new.md", "new")
    daemon.says("mirror.halted", reason="credentials")
    zhipu.config.write_text(f"log_level: error\n{zhipu.config.read_text()}")
    held.write_text("kid-4711.another-mistake\n")
    daemon.says("secrets.read", mirror="handbook")
    zhipu.vendor.turn(key_revoked=False)
    held.write_text(f"{zhipu.vendor.key}\n")
    daemon.says("mirror.resumed", reason="credentials")
    mirrors(zhipu)
    assert daemon.lines("config.read") == []
    assert len(daemon.lines("secrets.read")) == 2
    assert daemon.end() == 0


def test_a_config_that_is_no_good_is_refused_when_the_cure_is_pasted(zhipu: ZhipuPlace) -> None:
    """The command asks for no key, so it is the daemon that misses it."""
    with refused(zhipu) as (daemon, held):
        held.unlink()
        cure = words_of(zhipu.status()["halt"]["cure"])
        assert zhipu.go(*cure).code == 0
        assert "zhipu.key" in daemon.says("config.refused")["reason"]
        assert zhipu.status()["halt"]["reason"] == "credentials"
        held.write_text(f"{zhipu.vendor.key}\n")
        assert zhipu.go(*cure).code == 0


def test_a_config_changed_meanwhile_counts_for_a_mirror_that_was_at_work(zhipu: ZhipuPlace) -> None:
    """Another mirror, which nothing halts, is not disturbed; what is asked of it reads nothing."""
    other = zhipu.root / "other"
    other.mkdir()
    beside = f"  - {{name: other, folder: {other}, settle: 100ms}}\n"
    zhipu.config.write_text(zhipu.config.read_text() + beside)
    daemon = started(zhipu)
    assert zhipu.go("retry", "--mirror", "other").code == 0
    zhipu.vendor.turn(key_revoked=True)
    zhipu.write("new.md", "new")
    daemon.says("mirror.halted", reason="credentials")
    assert daemon.lines("config.read") == []
    zhipu.aim(target="concurrency: 2")
    zhipu.config.write_text(zhipu.config.read_text() + beside)
    assert zhipu.go("retry").code == 0
    daemon.says("config.read", mirrors=2, changed=1)
    zhipu.vendor.turn(key_revoked=False)
    daemon.says("mirror.resumed", reason="credentials")
    mirrors(zhipu)
    assert len([line for line in daemon.lines("watch.started") if line["mirror"] == "other"]) == 1
    assert daemon.end() == 0


def test_a_repair_and_a_new_prefix_reach_it_while_it_runs(zhipu: ZhipuPlace) -> None:
    daemon = started(zhipu)
    zhipu.vendor.take_away(zhipu.vendor.document("f0.md")["id"])
    ran = zhipu.go("verify", "--repair")
    assert ran.code == 1
    assert "the running kbsync does it now" in ran.err
    daemon.says("document.ready", path="f0.md", times=2)
    mirrors(zhipu)

    zhipu.aim("prefix: new-")
    daemon.tell(signal.SIGHUP)
    eventually(lambda: zhipu.vendor.digests(Naming("new-")) == digests_in(zhipu.docs))
    eventually(lambda: len(zhipu.vendor.ours()) == 4)
    assert daemon.end() == 0
    assert zhipu.run("verify").code == 0


def test_a_term_signal_ends_it_while_an_upload_hangs(zhipu: ZhipuPlace) -> None:
    daemon = started(zhipu)
    zhipu.vendor.play("hang", op="upload", times=0)
    for n in range(6):
        zhipu.write(f"new{n}.md", f"new {n}")
    eventually(lambda: zhipu.vendor.server.requests.in_flight >= 4)
    began = time.monotonic()
    assert daemon.end() == 0
    assert time.monotonic() - began < 4.0  # two seconds, and what a busy machine adds
    zhipu.vendor.server.faults.clear()
    zhipu.once()
    assert zhipu.vendor.digests() == digests_in(zhipu.docs)
    names = [entry["name"] for entry in zhipu.vendor.effects("stored")]
    assert len(set(names)) == len(names) == 10


def test_a_changed_concurrency_counts_after_a_hup(zhipu: ZhipuPlace) -> None:
    zhipu.aim(target="concurrency: 1")
    daemon = started(zhipu)
    assert zhipu.vendor.server.requests.in_flight_max == 1
    zhipu.aim(target="concurrency: 6")
    daemon.tell(signal.SIGHUP)
    daemon.says("config.read", changed=1)
    daemon.says("watch.started", times=2)
    zhipu.vendor.play("late-answer", op="upload", times=12, args={"seconds": 0.3})
    for n in range(12):
        zhipu.write(f"new{n}.md", f"new {n}")
    mirrors(zhipu)
    assert 3 <= zhipu.vendor.server.requests.in_flight_max <= 6

    zhipu.aim(target="concurrency: none")
    daemon.tell(signal.SIGHUP)
    assert "concurrency" in daemon.says("config.refused")["reason"]
    zhipu.write("last.md", "last")
    mirrors(zhipu)
    assert daemon.end() == 0


def test_a_key_that_may_look_but_not_upload_is_told_once(zhipu: ZhipuPlace) -> None:
    daemon = started(zhipu, hurried=True)
    zhipu.vendor.play("unauthorized", op="upload", times=0)
    zhipu.write("new.md", "new")
    daemon.says("mirror.halted", reason="credentials")
    probes = zhipu.vendor.asked("base")
    eventually(lambda: zhipu.vendor.asked("base") >= probes + 3)
    assert len(daemon.lines("mirror.halted")) == 1
    assert daemon.lines("mirror.resumed") == []
