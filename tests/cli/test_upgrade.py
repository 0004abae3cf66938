"""An upgrade replaces kbsync's files while it runs."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import apsw
import pytest

import kbsync
from kbsync import upgrade
from kbsync.errors import Halted, Rejected
from kbsync.index.fence.parser import Content, Parser
from kbsync.index.sqlite.writer import STEP
from kbsync.index.words import TOKENISER
from kbsync.targets.indexed import target
from tests.cli.cures import proves
from tests.cli.sandbox import LONGEST, Daemon, Sandbox, eventually
from tests.index import samples
from tests.index.test_index import older_words, traces
from tests.ports import free_port
from tests.share import long

PACKAGE = Path(kbsync.__file__).parent


@proves("restart kbsync")
@long
def test_documents_wait_for_a_restart_after_an_upgrade(sandbox: Sandbox, tmp_path: Path) -> None:
    mirrors = sandbox.configure().read_text()
    sandbox.config.write_text(f"notify: {{url: 'http://127.0.0.1:{free_port()}'}}\n{mirrors}")
    installed, log = tmp_path / "lib" / "kbsync", tmp_path / "log"
    shutil.copytree(PACKAGE, installed, ignore=shutil.ignore_patterns("__pycache__"))
    environment = sandbox.environ({"PYTHONPATH": str(installed.parent), "PYTHONDONTWRITEBYTECODE": "1"})
    command = [sys.executable, "-m", "kbsync", "--log-format", "json"]

    def start() -> Daemon:
        with log.open("wb") as file:
            process = subprocess.Popen(
                command, env=environment, cwd=tmp_path, stdin=subprocess.DEVNULL, stderr=file
            )
        sandbox.keep(process)
        daemon = Daemon(process, log)
        daemon.wait_for_event("daemon.watching")
        return daemon

    daemon = start()
    original = (installed / "index" / "chunk.py").read_bytes()
    for file in (installed / "server" / "app.py", installed / "targets" / "http" / "connection.py"):
        replace_file(file, file.read_bytes())
    replace_file(installed / "index" / "chunk.py", b"raise ImportError('of the new version')\n")
    sandbox.write_all({"a.md": "alpha", "b.html": "<p>beta"})
    assert daemon.wait_for_event("mirror.halted")["reason"] == "upgraded"
    assert sandbox.status()["halt"]["cure"] == "restart kbsync"
    assert {item["state"] for item in sandbox.status()["items"]} == {"pending"}
    assert daemon.lines("document.failed") == []
    assert daemon.wait_for_event("notify.failed")["detail"] == "it refused the connection"

    sandbox.config.write_text(f"{sandbox.config.read_text()}http: {{listen: 127.0.0.1:{free_port()}}}\n")
    daemon.send_signal(signal.SIGHUP)
    refused = daemon.wait_for_event("config.refused")["reason"]
    assert refused == "kbsync was upgraded while it was running; fix: restart kbsync"
    eventually(lambda: refused in sandbox.run("status").out)
    assert daemon.end() == 0

    replace_file(installed / "index" / "chunk.py", original)
    daemon = start()
    eventually(lambda: sandbox.status()["documents"]["ready"] == 2 and sandbox.status()["halt"] is None)
    assert daemon.end() == 0


def replace_file(file: Path, content: bytes) -> None:
    """Write a new file and give it the old one's name, as installers do."""
    new = file.with_suffix(".new")
    new.write_bytes(content)
    os.replace(new, file)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A guarded package."""
    folder, finders = tmp_path / "kbsync", list(sys.meta_path)
    for name in ("one.py", "two/__init__.py", "two/three.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("value = 1\n")
    monkeypatch.setattr(upgrade, "_PACKAGE", folder)
    monkeypatch.setattr(sys, "meta_path", [])
    upgrade.guard_imports()
    others = [finder for finder in finders if not isinstance(finder, upgrade._Guard)]
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, *others])
    return folder


def refused(*names: str) -> list[str]:
    """Return the names of the modules that can't be imported."""
    found = list[str]()
    for name in names:
        try:
            assert sys.meta_path[0].find_spec(name, None) is None
        except Halted as error:
            assert error.halt == "upgraded"
            found.append(name)
    return found


def test_only_replaced_and_new_and_removed_modules_are_refused(package: Path) -> None:
    names = ("kbsync.one", "kbsync.two", "kbsync.two.three", "kbsync.four", "kbsync", "one", "kbsynced.one")
    assert refused(*names) == []
    upgrade.refuse_if_upgraded()
    replace_file(package / "one.py", b"value = 1\n")
    assert refused(*names) == ["kbsync.one"]
    (package / "four.py").write_text("")
    (package / "two" / "three.py").unlink()
    assert refused(*names) == ["kbsync.one", "kbsync.two.three", "kbsync.four"]
    with pytest.raises(Halted):
        upgrade.refuse_if_upgraded()


@proves("index/sqlite/schema.py: upgrade this kbsync")
def test_index_of_a_newer_kbsync_halts_the_mirror_until_kbsync_is_upgraded(sandbox: Sandbox) -> None:
    sandbox.prepare({"a.md": "alpha"})
    sandbox.once()

    def set_version(number: int) -> None:
        with closing(apsw.Connection(str(sandbox.state / "kb/handbook/index.db"))) as index:
            index.execute("UPDATE run SET tokeniser = ?", (number,))

    set_version(99)
    assert sandbox.run("--once").code == 3
    [status] = sandbox.run("status", "--json").json["mirrors"]
    assert (status["halt"]["reason"], status["halt"]["cure"]) == ("newer-index", "upgrade this kbsync")
    assert "newer kbsync (words 99" in status["halt"]["detail"]
    set_version(TOKENISER)
    assert sandbox.run("--once").code == 0


@long
def test_pass_after_an_upgrade_erases_deleted_text_before_it_has_updated_all_words(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    sections = "".join(f"# Part {number}\n\nText {number}, S.S.O.\n\n" for number in range(STEP))
    sandbox.prepare(
        {f"{name}.md": f"{name} {sections}" for name in "abcdefghi"} | {"secret.md": "zqsecret S.S.O."}
    )
    with older_words(4, monkeypatch):
        sandbox.run("--once").check_success()
    (sandbox.docs / "secret.md").unlink()
    monkeypatch.setattr(target, "SCRUB_AFTER", LONGEST)  # the background doesn't get far in a large index
    assert traces(sandbox.state / "kb", "zqsecret")
    assert sandbox.run("--once", "--json").json["deleted"] == 1
    with closing(apsw.Connection(str(sandbox.state / "kb/handbook/index.db"))) as index:
        assert index.execute("SELECT min(tokeniser) FROM run").get == 4
    assert traces(sandbox.state / "kb", "zqsecret") == []
    assert sandbox.run("verify").code == 0


def test_no_parser_of_another_version_is_started(package: Path, tmp_path: Path) -> None:
    parser = Parser(tmp_path / "spool")
    with pytest.raises(Rejected):
        parser.parse("a.pdf", Content(b"no PDF"))
    parser.close()
    replace_file(package / "one.py", b"value = 2\n")
    parser = Parser(tmp_path / "spool")
    with pytest.raises(Halted, match="upgraded while it was running"):
        parser.parse("a.pdf", Content(samples.pdf()))
    parser.close()
