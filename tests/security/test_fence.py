"""What a parser that was taken over by a document can do: nothing outside of its own process."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from kbsync.errors import Rejected
from kbsync.index.fence.parser import Bounds, Parser, ParserProcess
from tests.index import samples
from tests.targets.bodies import BytesBody

ROOT = Path(__file__).parents[2]
TAKEN_OVER = Path(__file__).with_name("taken_over.py")
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def parser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Parser]:
    spool = tmp_path_factory.mktemp("state") / "spool"
    parser = Parser(spool, Bounds(20, 512 * MIB, MIB), child=TAKEN_OVER)
    yield parser
    parser.close()


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A file of the user that runs kbsync."""
    file = tmp_path / "own.txt"
    file.write_text("a letter of the user's")
    file.chmod(0o600)
    return file


def obeyed(parser: Parser, program: str) -> str:
    """What the program said: of each attempt how it ended."""
    attempts = """
import ctypes, errno, os, socket, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
def attempt(what):
    try:
        say('done', what())
    except OSError as error:
        say('refused', errno.errorcode.get(error.errno, error))
def native(*arguments):
    result = libc.syscall(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), 'refused')
    return result
"""
    return parser.parse("x.html", BytesBody((attempts + textwrap.dedent(program)).encode())).text


def all_refused(parser: Parser, program: str) -> bool:
    lines = obeyed(parser, program).splitlines()
    assert lines and all(line.startswith("refused") for line in lines), lines
    return True


def test_every_fence_of_this_kernel_is_up(tmp_path):
    process = ParserProcess(tmp_path, Bounds(20, 512 * MIB, MIB), TAKEN_OVER)
    try:
        assert process.wait_until_ready() == ("namespace", "landlock", "seccomp", "python")
    finally:
        process.end()


def test_no_file_of_the_user_is_read(parser, own):
    assert all_refused(
        parser,
        f"""
        attempt(lambda: open({str(own)!r}).read())
        attempt(lambda: open('/etc/passwd').read())
        attempt(lambda: os.listdir({str(own.parent)!r}))
        attempt(lambda: os.listdir('/'))
        os.chdir('/')
        attempt(lambda: open('etc/passwd').read())
        """,
    )


def test_nothing_that_lies_beside_the_program_is_read(parser, tmp_path, monkeypatch):
    """In a checkout, or where a folder of the user's is searched for packages, letters may lie beside."""
    beside = tmp_path / "work"
    (beside / "package").mkdir(parents=True)
    (beside / "package" / "__init__.py").write_text("")
    (beside / "letter.txt").write_text("a letter of the user's")
    monkeypatch.syspath_prepend(beside)
    other = Parser(tmp_path / "spool", Bounds(20, 512 * MIB), child=TAKEN_OVER)
    try:
        for each, places in (
            (other, [beside / "letter.txt", beside / "package" / "__init__.py"]),
            (parser, [ROOT / "pyproject.toml", ROOT / "tests" / "ports.py", ROOT / ".git"]),
        ):
            tried = "\n".join(f"attempt(lambda: open({str(place)!r}).read())" for place in places)
            assert all_refused(each, tried)
            assert all_refused(each, f"attempt(lambda: os.listdir({str(places[0].parent)!r}))")
    finally:
        other.close()


def test_the_readers_are_found_wherever_they_were_installed(tmp_path, monkeypatch):
    """A folder of the user's own before all others, as PYTHONPATH makes one, hides no reader."""
    (tmp_path / "own").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "own")
    parser = Parser(tmp_path / "spool")
    try:
        assert "window" in parser.parse("x.html", BytesBody(b"<p>window")).text
        assert "fire" in parser.parse("x.pdf", BytesBody(samples.pdf([["fire drill"]]))).text
    finally:
        parser.close()


def test_neither_memory_nor_environment_of_another_process_is_read(parser):
    assert all_refused(
        parser,
        f"""
        for name in ('environ', 'mem', 'maps', 'fd/2', 'cmdline'):
            attempt(lambda: open('/proc/{os.getpid()}/' + name, 'rb').read())
        attempt(lambda: native(101, 16, {os.getpid()}, 0, 0))  # ptrace
        attempt(lambda: native(310, {os.getpid()}, 0, 0, 0, 0, 0))  # process_vm_readv
        attempt(lambda: native(434, {os.getpid()}, 0))  # pidfd_open
        """,
    )


def test_no_file_is_made_changed_emptied_moved_or_removed(parser, own):
    before = own.stat()
    assert all_refused(
        parser,
        f"""
        own, home = {str(own)!r}, os.environ['HOME']
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_CREAT):
            attempt(lambda: os.open(own, flags))
            attempt(lambda: native(2, own.encode(), flags, 0o600))  # open, which Python never calls
        attempt(lambda: os.open(home + '/new', os.O_WRONLY | os.O_CREAT))
        attempt(lambda: os.open(home, os.O_TMPFILE | os.O_RDWR))
        attempt(lambda: os.truncate(own, 0))
        attempt(lambda: os.unlink(own))
        attempt(lambda: os.rename(own, home + '/x'))
        attempt(lambda: os.link(own, home + '/x'))
        attempt(lambda: os.symlink('/', home + '/x'))
        attempt(lambda: os.mkdir(home + '/x'))
        attempt(lambda: os.mkfifo(home + '/x'))
        attempt(lambda: os.rmdir(home))
        attempt(lambda: os.chmod(own, 0o666))
        attempt(lambda: os.chown(own, 1, 1))
        attempt(lambda: os.utime(own))
        attempt(lambda: os.setxattr(own, 'user.x', b'x'))
        """,
    )
    assert own.stat() == before


def test_what_a_thread_of_its_own_tries_is_refused_as_well(parser, own):
    assert all_refused(
        parser,
        f"""
        for what in (lambda: open({str(own)!r}).read(), lambda: os.unlink({str(own)!r}),
                     lambda: native(41, 2, 1, 0)):
            thread = threading.Thread(target=attempt, args=(what,))
            thread.start()
            thread.join()
        """,
    )


def test_no_process_or_program_is_started(parser):
    assert all_refused(
        parser,
        """
        attempt(os.fork)
        attempt(lambda: native(57))  # fork
        attempt(lambda: native(56, 17, 0, 0, 0, 0))  # clone with SIGCHLD
        attempt(lambda: native(435, 0, 0))  # clone3
        attempt(lambda: os.execv(sys.executable, [sys.executable]))
        attempt(lambda: native(59, sys.executable.encode(), 0, 0))
        """,
    )


def test_no_other_process_gets_a_signal_or_another_limit(parser):
    assert all_refused(
        parser,
        f"""
        attempt(lambda: os.kill({os.getpid()}, 0))
        attempt(lambda: os.killpg({os.getpgid(0)}, 0))
        attempt(lambda: os.kill(-1, 0))
        attempt(lambda: native(234, {os.getpid()}, {os.getpid()}, 0))  # tgkill
        attempt(lambda: native(302, {os.getpid()}, 7, 0, 0))  # prlimit64
        attempt(lambda: os.setpriority(os.PRIO_PROCESS, {os.getpid()}, 19))
        """,
    )


def test_no_socket_of_any_kind_is_opened(parser):
    assert all_refused(
        parser,
        """
        for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, 16, 17):  # netlink, packet
            attempt(lambda: native(41, int(family), 1, 0))
        attempt(lambda: socket.create_connection(('127.0.0.1', 80)))
        attempt(lambda: socket.getaddrinfo('example.org', 80))
        attempt(lambda: native(425, 8, 0))  # io_uring_setup
        """,
    )


def test_the_doors_to_the_kernel_are_shut(parser):
    assert all_refused(
        parser,
        """
        for number in (272, 308, 165, 321, 298, 323, 250):  # unshare, setns, mount, bpf, …
            attempt(lambda: native(number, 0, 0, 0, 0, 0))
        """,
    )


def test_it_holds_no_descriptor_but_its_pipes(parser):
    held = obeyed(parser, "say(*sorted(os.readlink(f'/proc/self/fd/{n}').split(':')[0] for n in range(16) "
                          "if os.path.lexists(f'/proc/self/fd/{n}')))")  # fmt: skip
    assert set(held.split()) <= {"pipe", "/dev/null", "/dev/urandom"}


def test_no_key_is_in_its_environment_or_its_command_line(tmp_path, monkeypatch):
    monkeypatch.setenv("ZHIPU_API_KEY", "secret-key-of-ours")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret-key-of-ours@127.0.0.1:1")
    parser = Parser(tmp_path / "spool", child=TAKEN_OVER)
    try:
        obeyed(parser, "pass")
        (pid,) = parser.pids()
        for name in ("environ", "cmdline"):
            assert b"secret-key" not in Path(f"/proc/{pid}/{name}").read_bytes()
    finally:
        parser.close()


def test_threads_descriptors_and_core_dumps_are_bounded(parser):
    said = obeyed(
        parser,
        """
        import resource
        for name in ('NOFILE', 'CORE', 'FSIZE', 'AS'):
            say(name, resource.getrlimit(getattr(resource, 'RLIMIT_' + name))[1])
        say('dumpable', libc.prctl(3, 0, 0, 0, 0))
        """,
    )
    assert said.splitlines() == ["NOFILE 64", "CORE 0", "FSIZE 0", f"AS {512 * MIB}", "dumpable 0"]


def test_a_parser_deaf_to_signals_is_ended_at_the_limit(tmp_path):
    parser = Parser(tmp_path / "spool", Bounds(1), child=TAKEN_OVER)
    deaf = """
    import signal, time
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(600)
    """
    try:
        with pytest.raises(Rejected) as refusal:
            obeyed(parser, deaf)
        assert refusal.value.code == "timeout"
        assert obeyed(parser, "say('next')") == "next"
    finally:
        parser.close()


@pytest.mark.parametrize(
    "program",
    [
        "os.write(3, b'\\xff' * 8 + b'x')",  # a length without end
        "os.write(3, (1 << 40).to_bytes(8, 'big'))",
        "os.write(3, (4).to_bytes(8, 'big') + b'null')",
        "[os.close(n) for n in range(16)]",
        "os.write(3, (9).to_bytes(8, 'big') + b'{\"x\": 1}\\n')",
    ],
)
def test_lies_on_the_way_back_cost_one_document(parser, program):
    with pytest.raises(Rejected) as refusal:
        obeyed(parser, program + "\nimport time; time.sleep(600)")
    assert refusal.value.code in ("crash", "output", "timeout", "damaged")
    assert obeyed(parser, "say('next')") == "next"


def test_a_refusal_that_a_document_dictates_is_short_and_printable_where_it_is_shown(parser):
    forged = """
    from kbsync.errors import Rejected
    raise Rejected('\\x1b]0;title\\x07' + 'x' * 200_000, code='y' * 200_000)
    """
    with pytest.raises(Rejected) as refusal:
        obeyed(parser, forged)
    assert len(refusal.value.reason) <= 1000 and len(refusal.value.code) <= 100


PRIVATE = """
import os, subprocess, sys
from pathlib import Path
from kbsync.permissions import keep_memory_private
from kbsync.source.roots import identify

def is_shown():
    look = ["cat", f"/proc/{os.getpid()}/environ"]
    return subprocess.run(look, capture_output=True).returncode == 0

print(is_shown())
keep_memory_private()
identify(Path("/"))
print(is_shown())
print(*open("/proc/self/limits").read().splitlines()[5].split()[:6], flush=True)
"""


POWERLESS = """
import ctypes, os, sys
for capability in range(64):
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)  # PR_CAPBSET_DROP: what is executed is no superuser
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def test_another_process_of_the_same_user_does_not_read_our_environment():
    command = [sys.executable, "-c", POWERLESS, "-c", PRIVATE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.splitlines() == ["True", "False", "Max core file size 0 0"], done.stderr
