"""The program with a knowledge base at Zhipu when something is wrong: exit codes, sentences, secrets."""

from __future__ import annotations

import contextlib
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbsync_standin.zhipu import HOME_ID
from tests.cli.place import Ran, words_of
from tests.cli.vendor import KEY, Desk, desk_in, digests_in


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_in(tmp_path) as desk:
        desk.write("a.md", "alpha")
        desk.write("b.md", "beta")
        yield desk


# -- what waits for a person -----------------------------------------------------------------------------


def halted(desk: Desk, reason: str) -> Ran:
    """A pass that ends in a halt, which `status` knows as well."""
    ran = desk.go("--once")
    assert ran.code == 3, ran.words
    assert f"handbook: {reason}: " in ran.words
    halt = desk.status()["halt"]
    assert halt["reason"] == reason
    assert halt["detail"] in ran.words
    assert desk.run("status", "--check").code == 3
    return ran


def goes_on(desk: Desk) -> None:
    """The cause is gone: the cure can be pasted, and a pass mirrors everything, each document once."""
    if (halt := desk.status()["halt"]) is not None:
        assert desk.go(*words_of(halt["cure"])).code == 0
    desk.once()
    assert desk.status()["halt"] is None
    assert desk.vendor.digests() == digests_in(desk.docs)
    assert len(desk.vendor.effects("stored")) == 2


def test_a_plan_says_beforehand_that_not_everything_fits(desk: Desk) -> None:
    desk.write("b.md", "b" * 3000)
    desk.vendor.turn(capacity_bytes=1000)
    ran = desk.run("plan")
    assert ran.code == 0
    assert "left of 1.0 kB, and 3.0 kB would be sent: the pass stops (quota) at the first file" in ran.out
    assert desk.vendor.asked("upload") <= 1
    for enough in ({"capacity_bytes": 100_000}, {"not_offered": ["capacity"], "capacity_bytes": 1000}):
        desk.vendor.turn(**enough)
        assert "would be sent:" not in desk.run("plan").out


# -- what passes by itself -------------------------------------------------------------------------------


# -- what stands on the way and is not the vendor ----------------------------------------------------------

PAGE = "<html><head><title>Request blocked</title></head><body>Your request was blocked.</body></html>"
"""What a firewall or a gateway on the way says."""


def blocked(status: int) -> dict[str, Any]:
    return {"effect": False, "args": {"status": status, "body": PAGE}}


def test_a_document_that_a_page_refuses_each_time_is_quarantined_with_its_words(desk: Desk) -> None:
    desk.vendor.play("status", op="upload", match="a*", times=0, **blocked(403))
    ran = desk.go("--once")
    assert ran.code == 1, ran.words
    assert desk.status()["halt"] is None
    told = desk.state_of("a.md")
    assert told["state"] == "failed"
    assert "403" in told["reason"]
    assert "Request blocked" in told["reason"]
    assert desk.state_of("b.md")["state"] == "ready"
    assert desk.vendor.asked("upload") == 3  # b.md, and a.md with the one more try that the config allows
    desk.vendor.server.faults.clear()
    assert desk.go("retry", "a.md").code == 0
    goes_on(desk)


# -- without the key -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    ["api_key: ${NOWHERE_SET}", "api_key_file: ${CREDENTIALS_DIRECTORY}/zhipu"],
    ids=["environment", "file"],
)
def test_a_person_without_the_services_key_looks_and_decides(desk: Desk, key: str) -> None:
    """The key may be where only the service sees it; a person's shell is not there."""
    for number in range(8):
        desk.write(f"{number}.md", f"text {number}")
    desk.once()
    for number in range(6):
        (desk.docs / f"{number}.md").unlink()
    assert desk.go("--once").code == 3
    desk.aim(key=key)
    asked = desk.vendor.asked()
    for words in (("status",), ("status", "--documents"), ("approve", "handbook"), ("retry",)):
        ran = desk.run(*words)
        assert (ran.code, ran.words) == (0, ""), words
    assert desk.vendor.asked() == asked
    ran = desk.run("doctor", "--json")
    assert ran.code == 2
    wrong = [one for one in ran.json["checks"] if one["result"] == "wrong"]
    assert {one["name"] for one in wrong} == {"config", "handbook: knowledge base"}
    for words in (("--once",), ("search", "text"), ("explain", "7.md")):
        ran = desk.run(*words)
        assert ran.code == 2
        assert "is not set in the environment" in ran.words
    desk.aim()
    assert desk.once()["deleted"] == 6


# -- the config ------------------------------------------------------------------------------------------

KEY_LINE = f"api_key: {KEY}"
RULE = "documents: [{match: 'faq/*.csv', zhipu: {knowledge_type: 2}}]\n    target:"


@pytest.mark.parametrize(
    ("before", "after", "key", "words"),
    [
        (f"      {KEY_LINE}\n", "", "api_key", "is required"),
        (KEY_LINE, "api_key: ${NOWHERE_SET}", "api_key", "${NOWHERE_SET} is not set in the environment"),
        (KEY_LINE, "api_key_file: nowhere.key", "api_key_file", "nowhere.key cannot be read"),
        (KEY_LINE, f"api_key: Bearer {KEY}", "api_key", "without `Bearer`"),
        (f'"{HOME_ID}"', HOME_ID, "knowledge_id", "put quotes around it"),
        ("knowledge_id", "knowlege_id", "knowlege_id", "did you mean knowledge_id?"),
        ("target:", RULE, "knowledge_type", "2 does not take csv files; allowed for it: 3, 7"),
        ("/api\n", "/api?x=1\n", "base_url", "write what comes before"),
        ("type: zhipu", "type: zipu", "type", "zhipu"),
    ],
    ids=["no key", "no variable", "no file", "bearer", "number", "unknown key", "csv", "url", "type"],
)
def test_a_mistake_in_the_config_is_named_with_file_line_and_key(
    desk: Desk, before: str, after: str, key: str, words: str
) -> None:
    config = desk.aim()
    good = config.read_text()
    assert before in good
    config.write_text(good.replace(before, after, 1))
    ran = desk.run("--once")
    assert (ran.code, ran.out) == (2, "")
    lines = config.read_text().splitlines()
    line = next(n for n, one in enumerate(lines, 1) if (key if "required" not in words else "target") in one)
    assert f"{config}:{line}: " in ran.words
    assert key in ran.words
    assert words in ran.words
    assert KEY not in ran.words
    assert desk.vendor.asked() == 0
    assert not desk.state.exists()


# -- secrets ---------------------------------------------------------------------------------------------


class Recorder:
    """Another host: keeps what it is sent, and answers every request with the same bytes."""

    def __init__(self, answer: bytes) -> None:
        self.heard: list[str] = []
        recorder = self

        class Recording(http.server.BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                recorder.heard.append(f"{self.requestline}\n{self.headers}\n{body!r}")
                self.send_response(200)
                self.send_header("content-length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_POST = do_PUT = do_DELETE = answer

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recording)
        self.url = f"http://127.0.0.1:{self._server.server_port}/elsewhere"

    @contextlib.contextmanager
    def listening(self) -> Iterator[Recorder]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


SECRETS = (KEY, KEY.partition(".")[2])
"""The key, and the half of it that signs."""


def family(pid: int) -> list[int]:
    """The process and all below it."""
    below = [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return [pid, *(one for child in below for one in family(child))]


def bytes_kept(desk: Desk) -> bytes:
    """Every byte of the state directory, names included."""
    files = [path for path in desk.state.rglob("*") if path.is_file()]
    return b"".join(os.fsencode(path) + path.read_bytes() for path in files)


def shows_no_secret(*texts: str | bytes) -> None:
    for text in texts:
        raw = text.encode() if isinstance(text, str) else text
        assert [secret for secret in SECRETS if secret.encode() in raw] == []


@pytest.mark.parametrize("way", ["environment", "file"])
def test_the_key_is_seen_nowhere(desk: Desk, way: str) -> None:
    env = {"THE_KEY": KEY} if way == "environment" else {}
    held = desk.config.parent / "zhipu.key"
    held.write_text(f"{KEY}\n")
    config = desk.aim(key="api_key: ${THE_KEY}" if way == "environment" else "api_key_file: zhipu.key")
    local = desk.root / "local"
    local.mkdir()
    (local / "page.html").write_text("<p>this is parsed by a process of its own</p>")
    config.write_text(config.read_text() + f"  - {{name: local, folder: {local}, settle: 100ms}}\n")
    daemon = desk.watch("--log-level", "debug", env=env)
    daemon.says("document.ready", mirror="handbook", path="b.md")
    daemon.says("document.ready", mirror="local")
    pid, *children = family(daemon.process.pid)
    assert children
    shows_no_secret(*(Path(f"/proc/{one}/cmdline").read_bytes() for one in (pid, *children)))
    shows_no_secret(*(Path(f"/proc/{one}/environ").read_bytes() for one in children))

    desk.vendor.play("unauthorized", op="upload", args={"message": f"the key {KEY} is not known"})
    desk.vendor.play("failed-info", op="upload", skip=1, args={"reason": f"{KEY} 不支持"})
    desk.write("c.md", "gamma")
    daemon.says("mirror.halted")
    shows_no_secret(bytes_kept(desk))
    assert daemon.end() == 0
    passed = desk.go("--once", "--log-level", "debug", env=env)
    assert passed.code == 1
    shown = [
        desk.run(*words, env=env) for words in (["status", "--json", "--documents"], ["explain", "c.md"])
    ]
    shows_no_secret(daemon.log.read_bytes(), bytes_kept(desk))
    shows_no_secret(*(text for ran in (passed, *shown) for text in (ran.raw, ran.words)))


def test_a_refused_key_is_not_told(desk: Desk) -> None:
    wrong = "kid-4711.not-the-right-one"
    desk.aim(key=f"api_key: {wrong}")
    ran = desk.go("--once", "--log-level", "debug")
    assert ran.code == 3
    assert wrong not in ran.words + ran.out
    assert wrong.encode() not in bytes_kept(desk)


def test_another_host_never_gets_the_key(desk: Desk) -> None:
    with Recorder(b"alpha").listening() as other:
        for op, status in (("base", 301), ("capacity", 302), ("upload", 307), ("list", 308), ("detail", 303)):
            desk.vendor.play("redirect", op=op, effect=False, args={"to": other.url, "status": status})
        ran = desk.go("--once", "--log-level", "debug")
        assert ran.code in (0, 4), ran.words
        shows_no_secret(ran.words, *other.heard)
        desk.vendor.server.faults.clear()
        goes_on(desk)


def test_the_host_of_the_files_never_gets_the_key(desk: Desk) -> None:
    desk.aim("names: plain")
    desk.once()
    (desk.state / "state.db").unlink()
    with Recorder(b"alpha").listening() as other:
        for path in ("a.md", "b.md"):
            desk.vendor.play("url", op="detail", match=path, times=0, args={"to": f"{other.url}?token=xyz"})
        ran = desk.go("--once", "--log-level", "debug")
        assert ran.code == 0
        assert len(other.heard) >= 2
        shows_no_secret(*other.heard)
        assert not any("authorization" in one.lower() for one in other.heard)
        assert "xyz" not in ran.words
        assert b"xyz" not in bytes_kept(desk)
    assert desk.vendor.asked("upload") == 3  # what is behind b.md's address is not b.md


# -- one document that is said to have no room -----------------------------------------------------------

LENGTH = "字数超出限制"
"""The words of the documents' own example, under 10002."""


def blamed_alone(desk: Desk) -> None:
    """The document has failed with the vendor's words; the other one is mirrored, and nobody is called."""
    ran = desk.go("--once")
    assert ran.code == 1, ran.err
    assert LENGTH in ran.out + ran.err
    status = desk.status()
    assert status["halt"] is None
    assert (status["documents"]["ready"], status["documents"]["failed"]) == (1, 1)


def test_a_document_whose_text_is_too_long_fails_alone_where_the_account_has_room(desk: Desk) -> None:
    fault = {"code": 10002, "text": LENGTH, "runs": 0}
    desk.vendor.play("fails", op="upload", match="a*", times=99, args=fault)
    blamed_alone(desk)
