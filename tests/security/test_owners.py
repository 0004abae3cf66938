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
from tests.cli.sandbox import RunResult, Sandbox
from tests.share import enumerated, long

SERVICE = 10001
"""A user without a name."""

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can create other users' files")


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    """A folder that every user can enter, unlike pytest's own folders; root mirrors the folder."""
    root = Path(tempfile.mkdtemp(prefix="kbsync-owners-"))
    root.chmod(0o755)
    sandbox = Sandbox(root)
    sandbox.mirror({"a.md": "words of a page\n"})
    yield sandbox
    shutil.rmtree(root)


@pytest.fixture
def service_sandbox(sandbox: Sandbox) -> Sandbox:
    """The same folder with a state that the service created."""
    give(sandbox.home, SERVICE)
    return sandbox


def give(folder: Path, user: int) -> None:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, user, user)


def owners(sandbox: Sandbox) -> dict[str, int]:
    """Return the owners by path of everything in the state."""
    return {str(p.relative_to(sandbox.state)): p.lstat().st_uid for p in sandbox.state.rglob("*")}


@pytest.fixture(scope="module", autouse=True)
def everything_is_loaded() -> None:
    """Load everything: the service's user may be unable to read the checkout, or its Python."""
    warm.load()


def as_service(sandbox: Sandbox, *words: str) -> RunResult:
    """Run kbsync as the service's user, in a child of this process, which has loaded everything."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _become_service_and_run(sandbox, words, writer)
    os.close(writer)
    with open(reader, "rb") as pipe:
        result = pickle.loads(pipe.read())
    os.waitpid(child, 0)
    assert isinstance(result, RunResult), result
    return result


def _become_service_and_run(sandbox: Sandbox, words: tuple[str, ...], writer: int) -> None:
    try:
        os.chdir(sandbox.root)  # a run returns to its first folder, which others may be unable to enter
        os.setgroups([])
        os.setresgid(SERVICE, SERVICE, SERVICE)
        os.setresuid(SERVICE, SERVICE, SERVICE)
        try:
            result: RunResult | str = sandbox.run(*words)
        except BaseException:
            result = traceback.format_exc()
        with open(writer, "wb") as pipe:
            pipe.write(pickle.dumps(result))
    finally:
        os._exit(0)


COMMANDS = "--once, forget handbook --yes, retry --mirror handbook, verify --repair, search words, status"


@long
@pytest.mark.parametrize("command", COMMANDS.split(", "))
def test_files_made_by_root_in_a_services_state_belong_to_the_service(
    service_sandbox: Sandbox, command: str
) -> None:
    shutil.rmtree(service_sandbox.state / "kb")  # created again, and found missing by commands that only read
    shutil.rmtree(service_sandbox.state / "spool")
    service_sandbox.run(*command.split())
    (service_sandbox.state / "wake").unlink(missing_ok=True)
    wake(service_sandbox.state)
    assert set(owners(service_sandbox).values()) == {SERVICE}
    next_pass = as_service(service_sandbox, "--once")
    assert next_pass.code == 0, next_pass.err


@long
def test_state_made_by_root_in_a_users_home_belongs_to_that_user(service_sandbox: Sandbox) -> None:
    shutil.rmtree(service_sandbox.home / ".local")
    assert service_sandbox.run("--once").code == 0
    assert {(service_sandbox.home / ".local").stat().st_uid, *owners(service_sandbox).values()} == {SERVICE}
    assert as_service(service_sandbox, "--once").code == 0


@long
def test_backup_belongs_to_the_caller_except_inside_the_state(service_sandbox: Sandbox) -> None:
    for file in (service_sandbox.state / "copy.db", service_sandbox.home / "copy.db"):
        assert service_sandbox.run("state", "backup", file).code == 0
    assert owners(service_sandbox)["copy.db"] == SERVICE
    assert (service_sandbox.home / "copy.db").stat().st_uid == 0


@long
def test_empty_spool_left_by_root_is_recreated(service_sandbox: Sandbox) -> None:
    os.chown(service_sandbox.state / "spool", 0, 0)
    assert as_service(service_sandbox, "--once").code == 0
    assert owners(service_sandbox)["spool"] == SERVICE


@long
def test_spool_filled_by_root_is_reported_with_a_fix_before_any_work(service_sandbox: Sandbox) -> None:
    (service_sandbox.state / "spool" / "parser-left").mkdir(mode=0o700)
    os.chown(service_sandbox.state / "spool", 0, 0)
    before = service_sandbox.run("status", "--json").json
    result = as_service(service_sandbox, "--once")
    assert result.code == 2
    assert f"{service_sandbox.state}/spool belongs to root" in result.err
    assert f"sudo chown -R {SERVICE} {service_sandbox.state}" in result.err
    assert service_sandbox.run("status", "--json").json == before
    assert paste(service_sandbox, after(result.words, "; run: ")).code == 0
    assert as_service(service_sandbox, "--once").code == 0


@long
@enumerated()
@pytest.mark.parametrize(("name", "command"), [("wake", "retry"), ("lock", "--once")])
def test_file_left_by_root_is_reported_with_a_fix(service_sandbox: Sandbox, name: str, command: str) -> None:
    service_sandbox.write("shut.md", "what the service may not read").chmod(0)
    assert as_service(service_sandbox, "--once").code == 1
    (service_sandbox.state / name).touch(mode=0o600)
    os.chown(service_sandbox.state / name, 0, 0)
    result = as_service(service_sandbox, command)
    assert result.code == 2
    assert (
        f"{name}: permission denied; restore its owner: sudo chown -R {SERVICE} {service_sandbox.state}"
        in result.err
    )
    assert paste(service_sandbox, after(result.words, "restore its owner: ")).code == 0
    assert as_service(service_sandbox, command).code == (1 if command == "--once" else 0)


@long
def test_path_closed_to_its_own_user_is_reopened(service_sandbox: Sandbox) -> None:
    (service_sandbox.state / "spool").chmod(0)
    checks = as_service(service_sandbox, "doctor", "--json").json["checks"]
    [fix] = [check["cure"] for check in checks if check["name"] == "state"]
    assert fix == f"chmod -R u+rwX {service_sandbox.state}"
    assert paste(service_sandbox, fix).code == 0
    assert as_service(service_sandbox, "--once").code == 0


@long
@enumerated()
@pytest.mark.parametrize("leftover", ["spool", "kb/handbook/index.db", "wake"])
def test_doctor_reports_files_of_other_owners(service_sandbox: Sandbox, leftover: str) -> None:
    file = service_sandbox.state / leftover
    if not file.exists():
        file.touch(mode=0o600)
    os.chown(file, 0, 0)
    for result in (service_sandbox.run("doctor", "--json"), as_service(service_sandbox, "doctor", "--json")):
        state = check_of_state(result)
        assert (result.code, state["result"]) == (2, "wrong")
        assert f"{file} belongs to root" in state["detail"]
        assert state["cure"] == f"sudo chown -R {SERVICE} {service_sandbox.state}"
    assert paste(service_sandbox, state["cure"]).code == 0
    assert check_of_state(as_service(service_sandbox, "doctor", "--json"))["result"] == "ok"


def check_of_state(result: RunResult) -> dict[str, Any]:
    """Return doctor's result about the state; the service's user may be unable to read the installation."""
    return next(check for check in result.json["checks"] if check["name"] == "state")
