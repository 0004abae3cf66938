"""Tests that root's commands don't lock a service out of its state; inaccessible files come with a fix."""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbsync.source.wake import wake
from tests import warm
from tests.cli.pasting import after, paste
from tests.cli.place import Place, Ran
from tests.share import enumerated, long

SERVICE = 10001
"""A user without a name."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files in the place of others")


@pytest.fixture
def place() -> Iterator[Place]:
    """A place that every user may enter, unlike pytest's own folders; root mirrors the folder."""
    root = Path(tempfile.mkdtemp(prefix="kbsync-owners-"))
    root.chmod(0o755)
    place = Place(root)
    place.write("a.md", "words of a page\n")
    place.configure()
    assert place.run("--once").code == 0
    yield place
    shutil.rmtree(root)


@pytest.fixture
def served(place: Place) -> Place:
    """The same place with a state that the service created."""
    give(place.home, SERVICE)
    return place


def give(place: Path, user: int) -> None:
    for each in (place, *place.rglob("*")):
        os.chown(each, user, user)


def owners(place: Place) -> dict[str, int]:
    """Return the owners by path of everything in the state."""
    return {str(p.relative_to(place.state)): p.lstat().st_uid for p in place.state.rglob("*")}


@pytest.fixture(scope="module", autouse=True)
def everything_is_loaded() -> None:
    """Load everything: the service's user may be unable to read the checkout, or its Python."""
    warm.load()


def as_service(place: Place, *words: str) -> Ran:
    """Run kbsync as the service's user, in a child of this process, which has loaded everything."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _become_service_and_run(place, words, writer)
    os.close(writer)
    with open(reader, "rb") as answer:
        ran = pickle.loads(answer.read())
    os.waitpid(child, 0)
    assert isinstance(ran, Ran), ran
    return ran


def _become_service_and_run(place: Place, words: tuple[str, ...], writer: int) -> None:
    try:
        os.chdir(place.root)  # a run returns to its first folder, which others may be unable to enter
        os.setgroups([])
        os.setresgid(SERVICE, SERVICE, SERVICE)
        os.setresuid(SERVICE, SERVICE, SERVICE)
        try:
            ran: Ran | str = place.run(*words)
        except BaseException:
            ran = traceback.format_exc()
        with open(writer, "wb") as answer:
            answer.write(pickle.dumps(ran))
    finally:
        os._exit(0)


COMMANDS = "--once, forget handbook --yes, retry --mirror handbook, verify --repair, search words, status"


@long
@pytest.mark.parametrize("command", COMMANDS.split(", "))
def test_files_made_by_root_in_a_services_state_belong_to_the_service(served: Place, command: str) -> None:
    shutil.rmtree(served.state / "kb")  # created again, and found missing by commands that only read
    shutil.rmtree(served.state / "spool")
    served.run(*command.split())
    (served.state / "wake").unlink(missing_ok=True)
    wake(served.state)
    assert set(owners(served).values()) == {SERVICE}
    again = as_service(served, "--once")
    assert again.code == 0, again.err


def test_state_made_by_root_in_a_users_home_belongs_to_that_user(served: Place) -> None:
    shutil.rmtree(served.home / ".local")
    assert served.run("--once").code == 0
    assert {(served.home / ".local").stat().st_uid, *owners(served).values()} == {SERVICE}
    assert as_service(served, "--once").code == 0


def test_backup_belongs_to_the_caller_except_inside_the_state(served: Place) -> None:
    for file in (served.state / "copy.db", served.home / "copy.db"):
        assert served.run("state", "backup", file).code == 0
    assert owners(served)["copy.db"] == SERVICE
    assert (served.home / "copy.db").stat().st_uid == 0


def test_empty_spool_left_by_root_is_recreated(served: Place) -> None:
    os.chown(served.state / "spool", 0, 0)
    assert as_service(served, "--once").code == 0
    assert owners(served)["spool"] == SERVICE


@long
def test_spool_filled_by_root_is_reported_with_a_fix_before_any_work(served: Place) -> None:
    (served.state / "spool" / "parser-left").mkdir(mode=0o700)
    os.chown(served.state / "spool", 0, 0)
    before = served.run("status", "--json").json
    ran = as_service(served, "--once")
    assert ran.code == 2
    assert f"{served.state}/spool belongs to root" in ran.err
    assert f"sudo chown -R {SERVICE} {served.state}" in ran.err
    assert served.run("status", "--json").json == before
    assert paste(served, after(ran.words, "; run: ")).code == 0
    assert as_service(served, "--once").code == 0


@enumerated()
@pytest.mark.parametrize(("name", "command"), [("wake", "retry"), ("lock", "--once")])
def test_file_left_by_root_is_reported_with_a_fix(served: Place, name: str, command: str) -> None:
    served.write("shut.md", "what the service may not read").chmod(0)
    assert as_service(served, "--once").code == 1
    (served.state / name).touch(mode=0o600)
    os.chown(served.state / name, 0, 0)
    ran = as_service(served, command)
    assert ran.code == 2
    assert f"{name}: permission denied; restore its owner: sudo chown -R {SERVICE} {served.state}" in ran.err
    assert paste(served, after(ran.words, "restore its owner: ")).code == 0
    assert as_service(served, command).code == (1 if command == "--once" else 0)


@long
def test_path_closed_to_its_own_user_is_reopened(served: Place) -> None:
    (served.state / "spool").chmod(0)
    checks = as_service(served, "doctor", "--json").json["checks"]
    [cure] = [check["cure"] for check in checks if check["name"] == "state"]
    assert cure == f"chmod -R u+rwX {served.state}"
    assert paste(served, cure).code == 0
    assert as_service(served, "--once").code == 0


@enumerated()
@pytest.mark.parametrize("left", ["spool", "kb/handbook/index.db", "wake"])
def test_doctor_reports_files_of_other_owners(served: Place, left: str) -> None:
    file = served.state / left
    if not file.exists():
        file.touch(mode=0o600)
    os.chown(file, 0, 0)
    for ran in (served.run("doctor", "--json"), as_service(served, "doctor", "--json")):
        state = check_of_state(ran)
        assert (ran.code, state["result"]) == (2, "wrong")
        assert f"{file} belongs to root" in state["detail"]
        assert state["cure"] == f"sudo chown -R {SERVICE} {served.state}"
    assert paste(served, state["cure"]).code == 0
    assert check_of_state(as_service(served, "doctor", "--json"))["result"] == "ok"


def check_of_state(ran: Ran) -> dict[str, Any]:
    """Return doctor's result about the state; the service's user may be unable to read the installation."""
    return next(check for check in ran.json["checks"] if check["name"] == "state")
