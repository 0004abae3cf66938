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
from tests.cli.vendor import KEY, ZhipuPlace, digests_in, zhipu_place


@pytest.fixture
def zhipu(tmp_path: Path) -> Iterator[ZhipuPlace]:
    with zhipu_place(tmp_path) as zhipu:
        zhipu.write("a.md", "alpha")
        zhipu.write("b.md", "beta")
        yield zhipu


# -- what waits for a person -----------------------------------------------------------------------------


def halted(zhipu: ZhipuPlace, reason: str) -> Ran:
    """A pass that ends in a halt, which `status` knows as well."""
    ran = zhipu.go("--once")
    assert ran.code == 3, ran.words
    assert f"handbook: {reason}: " in ran.words
    halt = zhipu.status()["halt"]
    assert halt["reason"] == reason
    assert halt["detail"] in ran.words
    assert zhipu.run("status", "--check").code == 3
    return ran


def goes_on(zhipu: ZhipuPlace) -> None:
    """The cause is gone: the cure can be pasted, and a pass mirrors everything, each document once."""
    if (halt := zhipu.status()["halt"]) is not None:
        assert zhipu.go(*words_of(halt["cure"])).code == 0
    zhipu.once()
    assert zhipu.status()["halt"] is None
    assert zhipu.vendor.digests() == digests_in(zhipu.docs)
    assert len(zhipu.vendor.effects("stored")) == 2


def test_a_plan_says_beforehand_that_not_everything_fits(zhipu: ZhipuPlace) -> None:
    zhipu.write("b.md", "b" * 3000)
    zhipu.vendor.turn(capacity_bytes=1000)
    ran = zhipu.run("plan")
    assert ran.code == 0
    assert "left of 1.0 kB, and 3.0 kB would be sent: the pass stops (quota) at the first file" in ran.out
    assert zhipu.vendor.asked("upload") <= 1
    for enough in ({"capacity_bytes": 100_000}, {"not_offered": ["capacity"], "capacity_bytes": 1000}):
        zhipu.vendor.turn(**enough)
        assert "would be sent:" not in zhipu.run("plan").out


# -- what passes by itself -------------------------------------------------------------------------------


# -- what stands on the way and is not the vendor ----------------------------------------------------------

PAGE = "<html><head><title>Request blocked</title></head><body>Your request was blocked.</body></html>"
"""What a firewall or a gateway on the way says."""


def blocked(status: int) -> dict[str, Any]:
    return {"effect": False, "args": {"status": status, "body": PAGE}}


def test_a_document_that_a_page_refuses_each_time_is_quarantined_with_its_words(zhipu: ZhipuPlace) -> None:
    zhipu.vendor.play("status", op="upload", match="a*", times=0, **blocked(403))
    ran = zhipu.go("--once")
    assert ran.code == 1, ran.words
    assert zhipu.status()["halt"] is None
    told = zhipu.state_of("a.md")
    assert told["state"] == "failed"
    assert "403" in told["reason"]
    assert "Request blocked" in told["reason"]
    assert zhipu.state_of("b.md")["state"] == "ready"
    assert zhipu.vendor.asked("upload") == 3  # b.md, and a.md with the one more try that the config allows
    zhipu.vendor.server.faults.clear()
    assert zhipu.go("retry", "a.md").code == 0
    goes_on(zhipu)


# -- without the key -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    ["api_key: ${NOWHERE_SET}", "api_key_file: ${CREDENTIALS_DIRECTORY}/zhipu"],
    ids=["environment", "file"],
)
def test_a_person_without_the_services_key_looks_and_decides(zhipu: ZhipuPlace, key: str) -> None:
    """The key may be where only the service sees it; a person's shell is not there."""
    for number in range(8):
        zhipu.write(f"{number}.md", f"text {number}")
    zhipu.once()
    for number in range(6):
        (zhipu.docs / f"{number}.md").unlink()
    assert zhipu.go("--once").code == 3
    zhipu.aim(key=key)
    asked = zhipu.vendor.asked()
    for words in (("status",), ("status", "--documents"), ("approve", "handbook"), ("retry",)):
        ran = zhipu.run(*words)
        assert (ran.code, ran.words) == (0, ""), words
    assert zhipu.vendor.asked() == asked
    ran = zhipu.run("doctor", "--json")
    assert ran.code == 2
    wrong = [one for one in ran.json["checks"] if one["result"] == "wrong"]
    assert {one["name"] for one in wrong} == {"config", "handbook: knowledge base"}
    for words in (("--once",), ("search", "text"), ("explain", "7.md")):
        ran = zhipu.run(*words)
        assert ran.code == 2
        assert "is not set in the environment" in ran.words
    zhipu.aim()
    assert zhipu.once()["deleted"] == 6


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
    zhipu: ZhipuPlace, before: str, after: str, key: str, words: str
) -> None:
    config = zhipu.aim()
    good = config.read_text()
    assert before in good
    config.write_text(good.replace(before, after, 1))
    ran = zhipu.run("--once")
    assert (ran.code, ran.out) == (2, "")
    lines = config.read_text().splitlines()
    line = next(n for n, one in enumerate(lines, 1) if (key if "required" not in words else "target") in one)
    assert f"{config}:{line}: " in ran.words
    assert key in ran.words
    assert words in ran.words
    assert KEY not in ran.words
    assert zhipu.vendor.asked() == 0
    assert not zhipu.state.exists()


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


def bytes_kept(zhipu: ZhipuPlace) -> bytes:
    """Every byte of the state directory, names included."""
    files = [path for path in zhipu.state.rglob("*") if path.is_file()]
    return b"".join(os.fsencode(path) + path.read_bytes() for path in files)


def shows_no_secret(*texts: str | bytes) -> None:
    for text in texts:
        raw = text.encode() if isinstance(text, str) else text
        assert [secret for secret in SECRETS if secret.encode() in raw] == []


@pytest.mark.parametrize("way", ["environment", "file"])
def test_the_key_is_seen_nowhere(zhipu: ZhipuPlace, way: str) -> None:
    env = {"THE_KEY": KEY} if way == "environment" else {}
    held = zhipu.config.parent / "zhipu.key"
    held.write_text(f"{KEY}\n")
    config = zhipu.aim(key="api_key: ${THE_KEY}" if way == "environment" else "api_key_file: zhipu.key")
    local = zhipu.root / "local"
    local.mkdir()
    (local / "page.html").write_text("<p>this is parsed by a process of its own</p>")
    config.write_text(config.read_text() + f"  - {{name: local, folder: {local}, settle: 100ms}}\n")
    daemon = zhipu.watch("--log-level", "debug", env=env)
    daemon.says("document.ready", mirror="handbook", path="b.md")
    daemon.says("document.ready", mirror="local")
    pid, *children = family(daemon.process.pid)
    assert children
    shows_no_secret(*(Path(f"/proc/{one}/cmdline").read_bytes() for one in (pid, *children)))
    shows_no_secret(*(Path(f"/proc/{one}/environ").read_bytes() for one in children))

    zhipu.vendor.play("unauthorized", op="upload", args={"message": f"the key {KEY} is not known"})
    zhipu.vendor.play("failed-info", op="upload", skip=1, args={"reason": f"{KEY} 不支持"})
    zhipu.write("c.md", "gamma")
    daemon.says("mirror.halted")
    shows_no_secret(bytes_kept(zhipu))
    assert daemon.end() == 0
    passed = zhipu.go("--once", "--log-level", "debug", env=env)
    assert passed.code == 1
    shown = [
        zhipu.run(*words, env=env) for words in (["status", "--json", "--documents"], ["explain", "c.md"])
    ]
    shows_no_secret(daemon.log.read_bytes(), bytes_kept(zhipu))
    shows_no_secret(*(text for ran in (passed, *shown) for text in (ran.raw, ran.words)))


def test_a_refused_key_is_not_told(zhipu: ZhipuPlace) -> None:
    wrong = "kid-4711.not-the-right-one"
    zhipu.aim(key=f"api_key: {wrong}")
    ran = zhipu.go("--once", "--log-level", "debug")
    assert ran.code == 3
    assert wrong not in ran.words + ran.out
    assert wrong.encode() not in bytes_kept(zhipu)


def test_another_host_never_gets_the_key(zhipu: ZhipuPlace) -> None:
    with Recorder(b"alpha").listening() as other:
        for op, status in (("base", 301), ("capacity", 302), ("upload", 307), ("list", 308), ("detail", 303)):
            zhipu.vendor.play("redirect", op=op, effect=False, args={"to": other.url, "status": status})
        ran = zhipu.go("--once", "--log-level", "debug")
        assert ran.code in (0, 4), ran.words
        shows_no_secret(ran.words, *other.heard)
        zhipu.vendor.server.faults.clear()
        goes_on(zhipu)


def test_the_host_of_the_files_never_gets_the_key(zhipu: ZhipuPlace) -> None:
    zhipu.aim("names: plain")
    zhipu.once()
    (zhipu.state / "state.db").unlink()
    with Recorder(b"alpha").listening() as other:
        for path in ("a.md", "b.md"):
            zhipu.vendor.play("url", op="detail", match=path, times=0, args={"to": f"{other.url}?token=xyz"})
        ran = zhipu.go("--once", "--log-level", "debug")
        assert ran.code == 0
        assert len(other.heard) >= 2
        shows_no_secret(*other.heard)
        assert not any("authorization" in one.lower() for one in other.heard)
        assert "xyz" not in ran.words
        assert b"xyz" not in bytes_kept(zhipu)
    assert zhipu.vendor.asked("upload") == 3  # what is behind b.md's address is not b.md


# -- one document that is said to have no room -----------------------------------------------------------

LENGTH = "字数超出限制"
"""The words of the documents' own example, under 10002."""


def blamed_alone(zhipu: ZhipuPlace) -> None:
    """The document has failed with the vendor's words; the other one is mirrored, and nobody is called."""
    ran = zhipu.go("--once")
    assert ran.code == 1, ran.err
    assert LENGTH in ran.out + ran.err
    status = zhipu.status()
    assert status["halt"] is None
    assert (status["documents"]["ready"], status["documents"]["failed"]) == (1, 1)


def test_a_document_whose_text_is_too_long_fails_alone_where_the_account_has_room(zhipu: ZhipuPlace) -> None:
    fault = {"code": 10002, "text": LENGTH, "runs": 0}
    zhipu.vendor.play("fails", op="upload", match="a*", times=99, args=fault)
    blamed_alone(zhipu)
