"""Tests too few file descriptors: kbsync reports that, loses nothing, and continues once it has enough."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from kbsync.config.problems import ConfigError
from kbsync.config.reader import load
from kbsync.errors import ShortageError, StateError
from kbsync.index.errors import storage_error
from kbsync.state.read_only import ReadOnlyState
from kbsync.state.store import StateStore
from tests.cli.sandbox import PIPES, Sandbox
from tests.cli.zhipu import ZhipuSandbox, digests_in, zhipu_sandbox
from tests.engine.test_watching import WatchingWorld, until
from tests.engine.world import World
from tests.programs import run_program
from tests.share import long

FOLDER = ("--folder", "docs", "--state-dir", "own")


@pytest.fixture
def desk(tmp_path: Path):  # type: ignore[no-untyped-def]
    with zhipu_sandbox(tmp_path) as desk:
        yield desk


class Descriptors:
    """Whether the program can open more descriptors, except for the state."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.number = 0
        self._open: Any = os.open
        monkeypatch.setattr(os, "open", self._open_checked)

    def _open_checked(self, path: Any, *args: Any, **options: Any) -> int:
        if self.number and not str(path).endswith(".db"):
            raise OSError(self.number, os.strerror(self.number))
        return int(self._open(path, *args, **options))


def with_few(desk: ZhipuSandbox, descriptors: int, *words: str) -> subprocess.Popen[bytes]:
    limited = ["bash", "-c", f'ulimit -n {descriptors}; exec "$@"', "bash", sys.executable, "-m", "kbsync"]
    return desk.keep(subprocess.Popen([*limited, *words], cwd=desk.root, env=desk.environ({}), **PIPES))


@long
def test_pass_out_of_descriptors_says_so_and_the_next_one_continues(desk: ZhipuSandbox) -> None:
    for n in range(20):
        desk.write(f"f{n}.md", f"text {n}")
    for descriptors, words in ((17, ()), (18, FOLDER)):  # to the service, into the built-in knowledge base
        process = with_few(desk, descriptors, "--once", *words)
        _, err = process.communicate(timeout=100)
        assert process.returncode == 4, err
        assert b"open files" in err and b"ulimit -n" in err, err
        assert b"Traceback" not in err and b"approve" not in err and b"folder-missing" not in err, err
    assert desk.once()["mirrors"][0]["documents"]["ready"] == 20
    assert desk.service.digests() == digests_in(desk.docs)
    assert desk.service.request_count("upload") == 20


def test_doctor_out_of_descriptors_says_only_that(desk: ZhipuSandbox) -> None:
    out, err = with_few(desk, 8, "doctor", *FOLDER).communicate(timeout=100)
    advice = "too many open files; raise the limit on open files (ulimit -n, LimitNOFILE=)"
    assert (out.decode(), err) == (f"wrong    open files  {advice}\n", b"")


IMPORT = """
import importlib.util, os, resource, sys
from kbsync.cli.exit_codes import code_of, sentence_of
spec = importlib.util.spec_from_file_location("apsw", sys.argv[1])
free = os.dup(0)
os.close(free)
most, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
try:
    importlib.util.module_from_spec(spec)
except ImportError as error:
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    print(int(code_of(error)), sentence_of(error))
"""


def test_library_that_could_not_be_opened_is_no_bug_of_kbsync() -> None:
    program = [sys.executable, "-c", IMPORT, apsw.__file__ or ""]
    result = subprocess.run(program, capture_output=True, text=True, check=True)
    assert result.stdout == "4 too many open files; raise the limit on open files (ulimit -n, LimitNOFILE=)\n"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
async def test_descriptor_shortage_in_a_pass_halts_fails_and_deletes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    world = World(tmp_path)
    await world.mirrored(6)
    descriptors = Descriptors(monkeypatch)
    descriptors.number = number
    with pytest.raises(ShortageError, match=os.strerror(number).lower()):
        await world.once()
    assert world.run.halt is None
    descriptors.number = 0
    assert world.statuses() == {"ready": 6}
    await world.ends_equal()
    assert world.puts() == 6


@long
async def test_daemon_recovers_when_descriptors_are_available_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = WatchingWorld(tmp_path)
    world.write_many(3)
    descriptors = Descriptors(monkeypatch)
    async with world.run_daemon():
        descriptors.number = errno.EMFILE
        world.write("new.md", "written meanwhile")
        await until(lambda: world.run.halt)
        assert world.run.halt is not None
        assert world.run.halt.reason == "failing" and "open files" in world.run.halt.detail
        descriptors.number = 0
        await until(lambda: world.run.halt is None and world.mirrors_disk())
    assert world.puts() == 4


@contextlib.contextmanager
def only_free(count: int) -> Iterator[None]:
    """Let this process open only `count` more descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    with contextlib.ExitStack() as stack:
        while (last := os.dup(2)) < highest:
            stack.callback(os.close, last)
        stack.callback(os.close, last)
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        resource.setrlimit(resource.RLIMIT_NOFILE, (last + 1 + count, hard))
        yield


def check_database(folder: Path, count: int) -> None:
    """Assert what kbsync reports if it can open only `count` more descriptors."""
    StateStore(folder / "state.db").close()
    with only_free(count), pytest.raises(StateError) as refused:
        ReadOnlyState(folder / "state.db")
    assert "raise the limit on open files" in str(refused.value)
    with only_free(count), pytest.raises(apsw.CantOpenError) as closed:
        apsw.Connection(str(folder / "state.db")).execute("SELECT * FROM meta")
    with only_free(count):
        assert "raise the limit on open files" in storage_error(folder, closed.value).reason


@pytest.mark.parametrize("count", [0, 1, 2])
def test_database_that_lacks_descriptors_is_not_blamed_on_permissions(tmp_path: Path, count: int) -> None:
    """In a process of its own, because what other tests left behind may be closed meanwhile."""
    code = f"import sys; from pathlib import Path; from {__name__} import check_database"
    call = f"check_database(Path(sys.argv[1]), {count})"
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    completed = run_program(sys.executable, "-c", f"{code}; {call}", tmp_path, env=os.environ | path)
    assert completed.returncode == 0, completed.stderr


def test_config_that_lacks_a_descriptor_is_not_blamed_on_permissions(sandbox: Sandbox) -> None:
    config = sandbox.configure()
    with only_free(0), pytest.raises(ConfigError, match="raise the limit on open files"):
        load(config, {})


def test_backup_that_lacks_descriptors_is_not_blamed_on_its_path(sandbox: Sandbox) -> None:
    sandbox.mirror({"a.md": "a word"})
    words = ("state", "backup", "copy.db")
    with only_free(0):
        result = sandbox.run(*words)
    for count in range(1, 20):
        assert "raise the limit on open files" in result.err, (count, result.err)
        with only_free(count):
            result = sandbox.run(*words)
        if result.code == 0:
            return
    pytest.fail(result.err)
