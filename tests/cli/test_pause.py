"""Tests `kbsync pause`, `resume` and `rescan`."""

from __future__ import annotations

import base64
import contextlib
import json
import os
from datetime import datetime, timedelta

import apsw
import pytest

from kbsync.state import lock
from tests.cli.cures import proves
from tests.cli.pasting import after, paste
from tests.cli.sandbox import Sandbox, busy_file, eventually
from tests.ports import free_port
from tests.share import long


@pytest.fixture
def two(sandbox: Sandbox) -> Sandbox:
    """Two mirrors that have mirrored nothing yet."""
    sandbox.prepare({"a.md": "alpha"})
    sandbox.add_mirror("other", {"b.md": "beta"})
    return sandbox


@long
@proves("resume", "resume {}")
def test_pass_skips_a_paused_mirror_and_says_until_when(two: Sandbox) -> None:
    result = two.run("pause", "other")
    assert (result.code, result.err) == (0, "")
    assert result.out == "paused other; to resume: kbsync resume other\n"
    result = two.run("--once")
    assert result.code == 3  # nothing but a person ends this pause
    assert "2 mirrors: 1 document searchable, 1 uploaded, other paused; " in result.out
    assert "other: requested: paused since " in result.words and "kbsync resume other" in result.words
    assert two.search("alpha", "--mirror", "handbook") == ["a.md"]
    [_, other] = two.run("status", "--json").json["mirrors"]
    assert other["paused"]["until"] is None and other["last_pass"] is None
    status = two.run("status").out
    assert "! other: paused since " in status and "no pass has finished" not in status
    assert two.run("status", "--check", "-q").code == 3
    assert two.run("--once", "--mirror", "handbook").code == 0

    result = two.run("pause", "other", "--for", "2h", "--json")
    [paused] = result.json["paused"]
    assert paused["name"] == "other" and paused["until"] > paused["since"]
    assert two.run("--once", "--json").code == 4  # it ends by itself
    assert two.run("status", "--check").code == 4

    resumed = paste(two, after(two.run("status", "-q").out, "to resume: "))
    assert resumed.out == "resumed other\nto mirror now: kbsync --once\n"
    assert "paused since" not in two.run("status").out
    assert two.run("resume").out == "nothing is paused\n"
    assert paste(two, after(resumed.out, "to mirror now: ")).code == 0
    assert two.search("beta", "--mirror", "other") == ["b.md"]


def test_pause_refusals(two: Sandbox) -> None:
    refused = {
        ("pause", "othr"): "did you mean other?",
        ("pause", "--for", "soon"): "'soon' is not a duration",
        ("pause", "--for", "0s"): "'0s' is out of range; allowed: more than 0s, up to 366d",
        ("pause", "--for", "367d"): "out of range",
        ("resume", "othr"): "did you mean other?",
        ("rescan", "othr"): "did you mean other?",
    }
    results = {words: two.run(*words) for words in refused}
    assert {words: result.code for words, result in results.items()} == dict.fromkeys(refused, 2)
    assert [words for words, says in refused.items() if says not in results[words].err] == []


@long
def test_a_mirror_renamed_in_the_config_is_paused_and_resumed_by_its_new_name(two: Sandbox) -> None:
    """Also before a pass has given its row the new name."""
    assert two.run("--once").code == 0
    two.config.write_text(two.config.read_text().replace("name: other", "name: renamed"))
    assert two.run("pause", "renamed").code == 0
    assert two.run("resume", "renamed").out.startswith("resumed renamed\n")

    assert two.run("pause", "renamed").code == 0
    result = two.run("--once")
    assert result.code == 3 and "renamed: requested: paused since " in result.words
    [_, renamed] = two.run("status", "--json").json["mirrors"]
    assert renamed["paused"] and renamed["documents"]["ready"] == 1
    assert two.search("beta", "--mirror", "renamed") == ["b.md"]
    assert two.run("resume", "renamed").code == 0
    assert two.once()["uploaded"] == 0


@long
def test_a_mirror_removed_and_added_while_paused_says_how_to_resume(two: Sandbox) -> None:
    for is_running in (False, True):
        two.run("pause", "other").check_success()
        two.run("remove", "other", "--keep").check_success()
        with lock.held(two.state) if is_running else contextlib.nullcontext():
            result = two.run("add", two.root / "other").check_success()
        assert "other is paused; to resume: kbsync resume other\n" in result.out
        assert "kbsync --once" not in result.out
        assert ("the running kbsync" in result.out) == is_running
        paste(two, after(result.out, "to resume: "))
        assert "paused" not in two.run("status").out


@long
def test_daemon_pauses_across_a_kill_and_resumes(sandbox: Sandbox) -> None:
    sandbox.write("a.md", "alpha")
    config, port = sandbox.configure(), free_port()
    config.write_text(f"{config.read_text()}http: {{listen: '127.0.0.1:{port}'}}\n")
    assert paste(sandbox, after(sandbox.run("rescan").err, "to run a pass now: ")).code == 0
    daemon = sandbox.watch(until="daemon.watching")
    assert sandbox.run("pause", "--for", "2w").code == 0
    daemon.wait_for_event("mirror.paused", mirror="handbook")
    sandbox.write("new.md", "novelty")
    result = sandbox.run("rescan")
    assert result.code == 2 and "handbook is paused" in result.err
    daemon.process.kill()
    daemon.process.wait()

    daemon = sandbox.watch()
    daemon.wait_for_event("mirror.paused", mirror="handbook")
    assert sandbox.search("novelty") == []
    explanation = sandbox.run("explain", "new.md", "--json").json["answer"]
    assert (
        "nothing is mirrored now: paused since " in explanation
        and "run `kbsync resume handbook`" in explanation
    )
    metrics = page(port, "/metrics")
    assert 'kbsync_paused{mirror="handbook"} 1.0' in metrics
    assert json.loads(page(port, "/api/status"))["mirrors"][0]["paused"]["until"]
    assert page(port, "/readyz")
    payload = json.loads(page(port, "/api/search?q=alpha"))
    assert [hit["path"] for hit in payload["hits"]] == ["a.md"]
    assert not any("not searched" in note for note in payload["notes"])
    key = base64.urlsafe_b64encode(b"a.md").decode().rstrip("=")
    assert "alpha" in json.loads(page(port, f"/api/document?mirror=handbook&key={key}"))["text"]
    sandbox.write("broken.pdf", "no pdf")
    assert paste(sandbox, after(result.err, "(this also rescans): ")).code == 0
    daemon.wait_for_event("mirror.resumed", reason="paused")
    eventually(lambda: sandbox.search("novelty") == ["new.md"])
    daemon.wait_for_event("document.failed")
    assert 'kbsync_paused{mirror="handbook"} 0.0' in page(port, "/metrics")
    sandbox.run("pause")
    assert (
        "handbook is paused; the request will have to wait; to resume: kbsync resume handbook"
        in sandbox.run("retry").out
    )
    sandbox.run("resume")
    daemon.wait_for_event("document.failed", times=2)
    assert daemon.end() == 0


@long
def test_rescan_compares_the_whole_folder_immediately(sandbox: Sandbox) -> None:
    sandbox.prepare({"a.md": "alpha"})
    daemon = sandbox.watch(until="daemon.watching")
    passed = sandbox.status()["last_pass"]
    assert sandbox.run("rescan").out == "the running kbsync will rescan handbook now\n"
    daemon.wait_for_event("rescan.started", reason="requested")
    # The times are to the second.
    eventually(lambda: sandbox.run("rescan").code == 0 and sandbox.status()["last_pass"] > passed)
    assert daemon.end() == 0


@long
def test_rescan_is_refused_during_a_single_pass(sandbox: Sandbox) -> None:
    sandbox.mirror({"a.md": "alpha"}, "settle_longest: 30s")
    with busy_file(sandbox):
        process = sandbox.start("--once")
        eventually(lambda: lock.find_holder(sandbox.state))
        result = sandbox.run("rescan")
        assert (result.code, result.out) == (4, "")
        assert f"process {process.pid} is running a single pass" in result.words
        process.terminate()
        process.communicate()
    assert paste(sandbox, after(result.err, "once it has ended, run: ")).code == 0


@long
def test_refused_rescan_leaves_no_request_for_a_later_daemon(sandbox: Sandbox) -> None:
    sandbox.mirror({"a.md": "alpha"})
    with lock.held(sandbox.state, keeps_running=False):
        assert sandbox.run("rescan").code == 4
    daemon = sandbox.watch(until="daemon.watching")
    assert daemon.lines("rescan.started") == []
    assert daemon.end() == 0


def page(port: int, path: str) -> str:
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as response:
        return str(response.read().decode())


@long
def test_status_gives_no_estimate_while_nothing_is_finished(sandbox: Sandbox) -> None:
    sandbox.mirror({"a.md": "alpha", **{f"f{number}.md": f"text {number}" for number in range(6)}})
    with contextlib.closing(apsw.Connection(str(sandbox.state / "state.db"))) as db:
        db.execute("UPDATE entry SET status = 1 WHERE name = 'a.md'")
    with lock.held(sandbox.state):
        assert "documents/s" in sandbox.run("status").out
        assert sandbox.run("pause").code == 0
        assert "documents/s" not in sandbox.run("status").out


def quiet_now() -> str:
    """Quiet hours that began in the last hour and last at least one more."""
    now = datetime.now()
    return "-".join((now + timedelta(hours=hours)).strftime("%H:00") for hours in (0, 2))


@long
def test_quiet_hours_pause_a_daemon_until_they_end_or_resume(sandbox: Sandbox) -> None:
    sandbox.write("a.md", "alpha")
    config, port = sandbox.configure(), free_port()
    settings = f"quiet_hours: {quiet_now()}\nhttp: {{listen: '127.0.0.1:{port}'}}\n"
    config.write_text(config.read_text() + settings)
    daemon = sandbox.watch()
    daemon.wait_for_event("mirror.paused", mirror="handbook", reason="quiet-hours")
    status = sandbox.run("status")
    assert (
        "! handbook: quiet hours since " in status.out and "; to resume: kbsync resume handbook" in status.out
    )
    assert sandbox.run("status", "--check").code == 0  # as planned, although nothing is mirrored yet
    assert sandbox.run("status", "--check", "--max-age", "1h").code == 0
    paused = json.loads(page(port, "/api/status"))["mirrors"][0]["paused"]
    assert paused["reason"] == "quiet-hours" and paused["until"]
    metrics = page(port, "/metrics")
    assert 'kbsync_paused{mirror="handbook"} 1.0' in metrics
    until = datetime.fromisoformat(paused["until"]).timestamp()
    line = 'kbsync_paused_until_timestamp_seconds{mirror="handbook",reason="quiet-hours"} '
    assert float(metrics.partition(line)[2].split()[0]) == until
    assert "handbook is paused" in sandbox.run("rescan").err
    assert daemon.end() == 0

    result = sandbox.go("--once")
    assert result.code == 0 and sandbox.search("alpha") == ["a.md"]
    daemon = sandbox.watch()
    daemon.wait_for_event("mirror.paused", reason="quiet-hours")
    sandbox.write("new.md", "novelty")
    assert sandbox.run("status", "--check").code == 0  # as planned
    assert sandbox.search("novelty") == []
    assert "; to resume before they end, run " in sandbox.run("explain", "new.md").out
    assert sandbox.run("resume").out == "resumed handbook\nthe running kbsync will continue now\n"
    daemon.wait_for_event("mirror.resumed")
    eventually(lambda: sandbox.search("novelty") == ["new.md"])
    assert daemon.end() == 0
    daemon = sandbox.watch(until="daemon.watching")
    assert daemon.lines("mirror.paused") == []
    assert daemon.end() == 0


@long
def test_pass_on_a_terminal_says_that_it_runs_in_quiet_hours(sandbox: Sandbox) -> None:
    sandbox.prepare({"a.md": "alpha"}, f"quiet_hours: {quiet_now()}")
    result = sandbox.run("--once", tty=True).check_success()
    assert "handbook: quiet hours until " in result.err and "; a single pass runs anyway" in result.err
    assert "quiet hours" not in sandbox.run("--once").err


@long
def test_rescan_names_the_mirrors_that_it_leaves_out(two: Sandbox) -> None:
    two.add_mirror("third")
    daemon = two.watch(until="daemon.watching")
    assert two.run("rescan").out == "the running kbsync will rescan handbook, other and third now\n"
    two.run("pause", "other")
    assert two.run("rescan").out == "the running kbsync will rescan handbook and third now; other is paused\n"
    two.run("pause", "third")
    two.run("pause", "handbook")
    assert "handbook, other and third are paused" in two.run("rescan").err
    assert daemon.end() == 0


@long
def test_commands_name_the_mirrors_that_a_limited_daemon_leaves_out(two: Sandbox) -> None:
    assert two.run("--once").code == 0
    third = two.root / "third"
    third.mkdir()
    daemon = two.watch("--mirror", "handbook")
    daemon.wait_for_event("daemon.watching")
    left_out = "the running kbsync excludes {0} (--mirror); restart it to include {0}"
    assert two.run("add", third).out.splitlines()[-1] == left_out.format("third")
    assert two.run("rescan", "other").err == f"kbsync: {left_out.format('other')}\n"
    status = two.run("status", "--check").out
    assert f"! third: no pass has finished yet; {left_out.format('third')}" in status
    assert "handbook: no pass" not in status
    with contextlib.closing(apsw.Connection(os.fspath(two.state / "state.db"))) as database:
        database.execute("UPDATE mirror SET last_pass = 1700000000 WHERE name = 'other'")
    assert f"ago and {left_out.format('other')}" in two.run("status").out
    assert f"are unknown and {left_out.format('other')}" in two.run("search", "beta").err
    assert two.run("rescan").out.splitlines() == [
        "the running kbsync will rescan handbook now",
        left_out.format("other and third"),
    ]
    assert two.run("pause").code == 0
    assert two.run("resume", "handbook").out.splitlines()[-1] == "the running kbsync will continue now"
    assert two.run("resume", "other").out.splitlines()[-1] == left_out.format("other")
    for file in two.state.glob("kb/other/*"):
        file.unlink()
    assert left_out.format("other") in two.run("verify", "--repair", "--mirror", "other").words
    assert two.run("remove", "other", "--keep").out.splitlines()[-1] == (
        "the running kbsync will reload the config now"
    )
    assert two.run("remove", "handbook", "--keep").out.splitlines()[-1] == (
        "the running kbsync (--mirror handbook) will refuse this config and keep "
        "running; "
        "restart it without --mirror handbook"
    )
    daemon.wait_for_event("config.refused")
    assert daemon.end() == 0


@long
def test_requests_for_a_mirror_that_the_daemon_left_out_are_carried_out_later(two: Sandbox) -> None:
    assert two.run("--once").code == 0
    config = two.config.read_text()
    two.config.write_text(config.replace("{name: other,", "{name: other, deletions: {hold_count: 0},"))
    (two.root / "other" / "b.md").unlink()
    assert two.run("--once").code == 3
    daemon = two.watch("--mirror", "handbook")
    daemon.wait_for_event("daemon.watching")
    approved = two.run("approve", "other", "--yes")
    assert approved.out.splitlines()[-1] == (
        "approved; the running kbsync excludes other (--mirror); restart it to include other"
    )
    assert daemon.end() == 0
    assert two.run("--once").code == 0
    assert two.search("beta", "--mirror", "other") == []
