"""Tests that a compromised parser can do nothing outside of its own process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from kbsync.errors import Rejected
from kbsync.index.fence import sandbox
from kbsync.index.fence.child import READ, SPLIT
from kbsync.index.fence.parser import CHILD, Bounds, Parser, ParserProcess
from tests.index import samples
from tests.share import enumerated, long
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
def begin(tmp_path: Path) -> Iterator[Callable[..., Parser]]:
    """Create compromised parsers for a test; they are closed after it."""
    with ExitStack() as opened:

        def make(*bounds: Bounds) -> Parser:
            parser = Parser(tmp_path / "spool", *bounds, child=TAKEN_OVER)
            opened.callback(parser.close)
            return parser

        yield make


@pytest.fixture
def users_file(tmp_path: Path) -> Path:
    """A file of the user who runs kbsync."""
    file = tmp_path / "own.txt"
    file.write_text("a letter of the user's")
    file.chmod(0o600)
    return file


PRELUDE = """
import ctypes, errno, os, socket, stat, sys, threading
own, home, parent, group = {own!r}, os.environ['HOME'], {pid}, {group}
libc = ctypes.CDLL(None, use_errno=True)
answers = 3 if stat.S_ISFIFO(os.fstat(3).st_mode) else 4  # after a file that libffi may keep open

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

def in_thread(what):
    thread = threading.Thread(target=attempt, args=(what,))
    thread.start()
    thread.join()
    raise OSError(errno.EACCES, 'said by the thread')
"""


def output_of(parser: Parser, program: str, users_file: object = "") -> str:
    """Return the program's output: the result of each attempt."""
    prelude = PRELUDE.format(own=str(users_file), pid=os.getpid(), group=os.getpgid(0))
    return parser.parse("x.html", BytesBody((prelude + textwrap.dedent(program)).encode())).text


def all_refused(parser: Parser, attempts: str, users_file: object = "") -> bool:
    """Return whether each line, an expression, ends in a refusal."""
    tried = [line for line in textwrap.dedent(attempts).strip().splitlines() if line]
    output = output_of(
        parser, "\n".join(f"attempt(lambda: {expression}\n)" for expression in tried), users_file
    ).splitlines()
    assert len(output) >= len(tried) and all(line.startswith("refused") for line in output), output
    return True


REFUSED = {
    "reading a file of the user": """
        open(own).read()
        open('/etc/passwd').read()
        os.listdir(os.path.dirname(own))
        os.listdir('/')
        (os.chdir('/'), open('etc/passwd').read())
    """,
    "memory and environment of another process": """
        open(f'/proc/{parent}/environ', 'rb').read()
        open(f'/proc/{parent}/mem', 'rb').read()
        open(f'/proc/{parent}/maps', 'rb').read()
        open(f'/proc/{parent}/fd/2', 'rb').read()
        open(f'/proc/{parent}/cmdline', 'rb').read()
        native(101, 16, parent, 0, 0)  # ptrace
        native(310, parent, 0, 0, 0, 0, 0)  # process_vm_readv
        native(434, parent, 0)  # pidfd_open
    """,
    "memory and files of the process that forked it": """
        open(f'/proc/{os.getppid()}/mem', 'rb').read()
        open(f'/proc/{os.getppid()}/maps', 'rb').read()
        open(f'/proc/{os.getppid()}/environ', 'rb').read()
        os.open(f'/proc/{os.getppid()}/fd/{answers}', os.O_WRONLY)
        os.kill(os.getppid(), 0)
    """,
    "making, changing, emptying, moving and removing files": """
        os.open(own, os.O_WRONLY)
        os.open(own, os.O_RDWR)
        os.open(own, os.O_RDONLY | os.O_TRUNC)
        os.open(own, os.O_WRONLY | os.O_CREAT)
        native(2, own.encode(), os.O_WRONLY, 0o600)  # open, which Python never calls
        native(2, own.encode(), os.O_RDWR, 0o600)
        native(2, own.encode(), os.O_RDONLY | os.O_TRUNC, 0o600)
        native(2, own.encode(), os.O_WRONLY | os.O_CREAT, 0o600)
        os.open(home + '/new', os.O_WRONLY | os.O_CREAT)
        os.open(home, os.O_TMPFILE | os.O_RDWR)
        os.truncate(own, 0)
        os.unlink(own)
        os.rename(own, home + '/x')
        os.link(own, home + '/x')
        os.symlink('/', home + '/x')
        os.mkdir(home + '/x')
        os.mkfifo(home + '/x')
        os.rmdir(home)
        os.chmod(own, 0o666)
        os.chown(own, 1, 1)
        os.utime(own)
        os.setxattr(own, 'user.x', b'x')
    """,
    "the same in a thread of its own": """
        in_thread(lambda: open(own).read())
        in_thread(lambda: os.unlink(own))
        in_thread(lambda: native(41, 2, 1, 0))  # socket
    """,
    "starting a process or a program": """
        os.fork()
        native(57)  # fork
        native(56, 17, 0, 0, 0, 0)  # clone with SIGCHLD
        native(435, 0, 0)  # clone3
        os.execv(sys.executable, [sys.executable])
        native(59, sys.executable.encode(), 0, 0)  # execve
    """,
    "signals and limits of another process": """
        os.kill(parent, 0)
        os.killpg(group, 0)
        os.kill(-1, 0)
        native(234, parent, parent, 0)  # tgkill
        native(302, parent, 7, 0, 0)  # prlimit64
        os.setpriority(os.PRIO_PROCESS, parent, 19)
    """,
    "outliving kbsync": """
        native(157, 1, 0, 0, 0, 0)  # prctl(PR_SET_PDEATHSIG)
        native(157, 1, 9, 0, 0, 0)
        native(112)  # setsid
        native(109, 0, 0)  # setpgid
    """,
    "sockets of any kind": """
        native(41, int(socket.AF_INET), 1, 0)
        native(41, int(socket.AF_INET6), 1, 0)
        native(41, int(socket.AF_UNIX), 1, 0)
        native(41, 16, 1, 0)  # netlink
        native(41, 17, 1, 0)  # packet
        socket.create_connection(('127.0.0.1', 80))
        socket.getaddrinfo('example.org', 80)
        native(425, 8, 0)  # io_uring_setup
    """,
    "other ways into the kernel": """
        native(272, 0, 0, 0, 0, 0)  # unshare
        native(308, 0, 0, 0, 0, 0)  # setns
        native(165, 0, 0, 0, 0, 0)  # mount
        native(321, 0, 0, 0, 0, 0)  # bpf
        native(298, 0, 0, 0, 0, 0)  # perf_event_open
        native(323, 0, 0, 0, 0, 0)  # userfaultfd
        native(250, 0, 0, 0, 0, 0)  # keyctl
    """,
}


@pytest.mark.parametrize("attempt", REFUSED)
def test_compromised_parser_is_refused(parser: Parser, users_file: Path, attempt: str) -> None:
    before = users_file.stat()
    assert all_refused(parser, REFUSED[attempt], users_file)
    assert users_file.stat() == before


def test_every_sandbox_layer_of_this_kernel_is_active(tmp_path):
    process = ParserProcess(tmp_path, Bounds(20, 512 * MIB, MIB), TAKEN_OVER)
    try:
        assert process.wait_until_ready() == ("namespace", "landlock", "seccomp", "python")
    finally:
        process.end()


def test_files_beside_the_program_are_never_read(parser, begin, tmp_path, monkeypatch):
    """In a checkout, or where Python searches a user's folder for packages, letters may be in the same
    folder.
    """
    beside = tmp_path / "work"
    (beside / "package").mkdir(parents=True)
    (beside / "package" / "__init__.py").write_text("")
    (beside / "letter.txt").write_text("a letter of the user's")
    monkeypatch.syspath_prepend(beside)
    for compromised, secret_paths in (
        (begin(Bounds(20, 512 * MIB)), [beside / "letter.txt", beside / "package" / "__init__.py"]),
        (parser, [ROOT / "pyproject.toml", ROOT / "tests" / "ports.py", ROOT / ".git"]),
    ):
        tried = [f"open({str(secret_path)!r}).read()" for secret_path in secret_paths]
        assert all_refused(compromised, "\n".join([*tried, f"os.listdir({str(secret_paths[0].parent)!r})"]))


@long
def test_readers_are_found_wherever_they_are_installed(tmp_path, monkeypatch):
    """A user's own folder first in the search path, as PYTHONPATH makes one, hides no reader."""
    (tmp_path / "own").mkdir()
    monkeypatch.syspath_prepend(tmp_path / "own")
    with closing(Parser(tmp_path / "spool")) as parser:
        assert "window" in parser.parse("x.html", BytesBody(b"<p>window")).text
        assert "fire" in parser.parse("x.pdf", BytesBody(samples.pdf([["fire drill"]]))).text


USED = """
import sys
from kbsync.index.fence.child import _LOADERS
_LOADERS[sys.argv[1]]()
for name, module in sorted(sys.modules.items()):
    if "-packages" in (getattr(module, "__file__", None) or ""):
        print(name.partition(".")[0])
"""


@pytest.mark.parametrize("work", [READ, SPLIT])
def test_packages_are_in_reach_wherever_they_are_installed(work):
    """With `pip install --target`, for example, they are in a folder of any name."""
    result = subprocess.run([sys.executable, "-c", USED, work], capture_output=True, text=True, check=True)
    assert set(result.stdout.split()) - set(sandbox._NEEDED) == set()


def test_parser_imports_kbsync_only_from_the_parents_paths() -> None:
    """Otherwise it may be another version, and one that isn't installed would not be found."""
    words = [str(os.getpid()), str(512 * MIB), "20", json.dumps(sys.path), READ]
    python = [sys.executable, "-I", "-S", "-B", "-X", "utf8"]  # -S: without the installed packages
    result = subprocess.run([*python, CHILD, *words], input=b"", capture_output=True, timeout=60, check=False)
    assert (result.returncode, b'"resident"' in result.stdout) == (0, True), result.stderr


def test_parser_has_no_descriptor_but_its_pipes(parser):
    # Some versions of libffi, which ctypes needs, keep their own file open.
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    libraries = [os.stat(path) for path in mapped if path.startswith("/") and "libffi" in path]
    program = f"""
    null = os.stat('/dev/null').st_rdev, os.stat('/dev/urandom').st_rdev
    libraries = {[(status.st_dev, status.st_ino) for status in libraries]}
    for descriptor in range(64):
        with __import__('contextlib').suppress(OSError):
            status = os.fstat(descriptor)
            if stat.S_ISFIFO(status.st_mode) or (status.st_rdev in null):
                say('ours')
            elif (status.st_dev, status.st_ino) not in libraries:
                say(f'{{descriptor}} is none of ours')
    """
    assert output_of(parser, program).splitlines() == ["ours"] * 4


def test_no_key_is_in_the_parsers_environment_or_command_line(begin, monkeypatch):
    monkeypatch.setenv("ZHIPU_API_KEY", "secret-key-of-ours")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret-key-of-ours@127.0.0.1:1")
    parser = begin()
    # Only root may read the environment of a parser from outside.
    assert "secret-key" not in output_of(parser, "say(*os.environ.items())")
    (pid,) = parser.pids()
    assert b"secret-key" not in Path(f"/proc/{pid}/cmdline").read_bytes()


def test_threads_descriptors_and_core_dumps_are_limited(parser):
    output = output_of(
        parser,
        """
        import resource
        for name in ('NOFILE', 'CORE', 'FSIZE', 'AS'):
            say(name, resource.getrlimit(getattr(resource, 'RLIMIT_' + name))[1])
        say('dumpable', libc.prctl(3, 0, 0, 0, 0))
        """,
    )
    assert output.splitlines() == ["NOFILE 64", "CORE 0", "FSIZE 0", f"AS {512 * MIB}", "dumpable 0"]


def test_parser_is_the_oom_victim_instead_of_kbsync(parser):
    output_of(parser, "say('here')")
    (pid,) = parser.pids()
    assert Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n"


@long
def test_parser_ignoring_signals_is_killed_at_the_limit(begin):
    parser = begin(Bounds(3))
    deaf = """
    import signal, time
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGXCPU):
        signal.signal(number, signal.SIG_IGN)
    time.sleep(600)
    """
    with pytest.raises(Rejected) as refusal:
        output_of(parser, deaf)
    assert refusal.value.code == "timeout"
    assert output_of(parser, "say('next')") == "next"


@long
@enumerated()
@pytest.mark.parametrize(
    "program",
    [
        "os.write(answers, b'\\xff' * 8 + b'x')",  # a length without end
        "os.write(answers, (1 << 40).to_bytes(8, 'big'))",
        "os.write(answers, (4).to_bytes(8, 'big') + b'null')",
        "[os.close(n) for n in range(16)]",
        "os.write(answers, (9).to_bytes(8, 'big') + b'{\"x\": 1}\\n')",
    ],
)
def test_forged_parser_responses_cost_one_document(parser, program):
    with pytest.raises(Rejected) as refusal:
        output_of(parser, program + "\nimport time; time.sleep(600)")
    assert refusal.value.code in ("crash", "output", "timeout", "damaged")
    assert output_of(parser, "say('next')") == "next"


FORGED = """
from kbsync.index.fence.child import pack
fields = dict(title=None, tags=[], flavour='plain', page_starts=[], columns='', line_offset=0)
fields |= dict(has_lines=True, scanned_pages=[])
for text in ('forged', 'forged again'):
    os.write(answers, pack({'text': fields, 'resident': 0}, text))
"""


@pytest.mark.parametrize("then", ["", "import time; time.sleep(600)", "os.read(0, 1 << 20)"])
def test_document_can_answer_only_for_itself(parser, then):
    assert output_of(parser, f"{FORGED}{then}") == "forged"
    assert output_of(parser, "say('the next document')") == "the next document"


def test_text_of_a_document_is_not_in_the_memory_that_the_next_one_inherits(parser):
    secret = "-".join(["a", "salary", "of", "9000"])
    assert secret in output_of(parser, f"say({secret!r} * 9)")
    (pid,) = parser.pids()
    if os.geteuid() != 0:  # only root may read it
        return
    with Path(f"/proc/{pid}/mem").open("rb") as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            start, _, end = line.split()[0].partition("-")
            if line.split()[1].startswith("rw"):
                memory.seek(int(start, 16))
                assert secret.encode() not in memory.read(int(end, 16) - int(start, 16))


def test_refusal_text_from_a_document_is_shortened_and_printable(parser):
    forged = """
    from kbsync.errors import Rejected
    raise Rejected('\\x1b]0;title\\x07' + 'x' * 200_000, code='y' * 200_000)
    """
    with pytest.raises(Rejected) as refusal:
        output_of(parser, forged)
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


def test_same_user_process_cannot_read_our_environment():
    command = [sys.executable, "-c", POWERLESS, "-c", PRIVATE]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert completed.stdout.splitlines() == ["True", "False", "Max core file size 0 0"], completed.stderr
