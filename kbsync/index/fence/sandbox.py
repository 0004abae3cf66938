"""Restrictions that a parser's process sets on itself: some before it loads any parser, the others once it no
longer needs to start processes, before it reads a document.

Linux has three restrictions: an empty network namespace, Landlock (landlock(7), Linux 5.13), which allows
only a few paths of the file system, and seccomp(2) with classic BPF, which refuses system calls. On other
systems, only Python itself refuses such calls. Restrictions that aren't available (an old kernel, a container
that forbids namespaces) are skipped, and `raise_fences` returns those in force.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import platform
import resource
import signal
import struct
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from kbsync.permissions import keep_memory_private

_MACHINE = platform.machine()
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # include/uapi/linux/audit.h
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_SET_MODE_FILTER, _ALL_THREADS = 1, 1
_X32_BIT = 0x40000000
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | 13  # SECCOMP_RET_ERRNO | EACCES
_UNKNOWN = 0x00050000 | 38  # ENOSYS: glibc then uses the older call, whose arguments a filter can inspect

Step = tuple[int, int, int, int]
_LOAD, _EQUAL, _AT_LEAST, _HAS, _ANSWER = 0x20, 0x15, 0x35, 0x45, 0x06


def _calls(table: str) -> dict[str, int]:
    """Parse a table of the system calls on x86_64 and aarch64. Return a dict from their names to their
    numbers on this machine.
    """
    rows = [row.split() for row in table.split(",") if row.strip()]
    column = {"x86_64": 1, "aarch64": 2}.get(_MACHINE)
    return {row[0]: int(row[column]) for row in rows if row[column] != "-"} if column else {}


_OUTSIDE = _calls(
    """
    socket 41 198, io_uring_setup 425 425, execve 59 221, execveat 322 281, ptrace 101 117,
    process_vm_readv 310 270, process_vm_writev 311 271, kcmp 312 272,
    process_madvise 440 440, pidfd_open 434 434, pidfd_send_signal 424 424, pidfd_getfd 438 438,
    tkill 200 130, rt_sigqueueinfo 129 138, rt_tgsigqueueinfo 297 240, unshare 272 97, setns 308 268,
    mount 165 40, umount2 166 39, pivot_root 155 41, chroot 161 51, open_tree 428 428,
    move_mount 429 429, fsopen 430 430, open_by_handle_at 304 265, bpf 321 280, perf_event_open 298 241,
    userfaultfd 323 282, add_key 248 217, request_key 249 218, keyctl 250 219, setpriority 141 140,
    shmget 29 194, msgget 68 186, semget 64 190, mq_open 240 180,
    """
)
_CLONE_THREAD = 0x10000

_PROCESSES = _calls("fork 57 -, vfork 58 -, setsid 112 157, setpgid 109 154")
_CHANGES = _calls(
    """
    creat 85 -, truncate 76 45, ftruncate 77 46, fallocate 285 47, unlink 87 -, unlinkat 263 35,
    rmdir 84 -, rename 82 -, renameat 264 38, renameat2 316 276, link 86 -, linkat 265 37, symlink 88 -,
    symlinkat 266 36, mkdir 83 -, mkdirat 258 34, mknod 133 -, mknodat 259 33, chmod 90 -, fchmod 91 52,
    fchmodat 268 53, fchmodat2 452 452, chown 92 -, fchown 93 55, lchown 94 -, fchownat 260 54,
    utime 132 -, utimes 235 -, futimesat 261 -, utimensat 280 88, setxattr 188 5, lsetxattr 189 6,
    fsetxattr 190 7, removexattr 197 14, lremovexattr 198 15, fremovexattr 199 16,
    """
)
# Allowed or refused by their arguments, which `clone3` and `openat2` hide from a filter.
_JUDGED = _calls(
    "clone 56 220, kill 62 129, tgkill 234 131, prctl 157 167, prlimit64 302 261, open 2 -, openat 257 56"
)
_CLONE3, _OPENAT2 = _calls("clone3 435 435"), _calls("openat2 437 437")
_CHANGING_FLAGS = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


def refuse_outside() -> bool:
    """Refuse sockets, new programs, access to other processes, and risky kernel calls."""
    return _install(*_refuse_calls(_OUTSIDE), *_only("prlimit64", 0, (_EQUAL, 0)))


def refuse_processes_and_changes() -> None:
    """Refuse new processes, signals to others, and calls that let the process outlive its parent.

    Also refuse calls that create, change, move or remove files and folders. Open files stay open.
    """
    pid = os.getpid()
    refused_if_changing = ((_HAS, _CHANGING_FLAGS), _REFUSE, _ALLOW)
    _install(
        *_refuse_calls(_PROCESSES),
        *_only("clone", 0, (_HAS, _CLONE_THREAD)),
        *_only("kill", 0, (_EQUAL, pid)),
        *_only("tgkill", 0, (_EQUAL, pid)),
        *_refuse_calls(_CLONE3, _UNKNOWN),
        *_refuse_calls(_CHANGES),
        *_only("open", 1, *refused_if_changing),
        *_only("openat", 2, *refused_if_changing),
        *_only("prctl", 0, (_EQUAL, _PR_SET_PDEATHSIG), _REFUSE, _ALLOW),
        *_refuse_calls(_OPENAT2, _UNKNOWN),
    )


def _refuse_calls(calls: Mapping[str, int], action: int = _REFUSE) -> tuple[Step, ...]:
    return tuple(step for n in calls.values() for step in ((_EQUAL, 0, 1, n), (_ANSWER, 0, 0, action)))


def _only(
    call: str, argument: int, test: tuple[int, int], yes: int = _ALLOW, no: int = _REFUSE
) -> tuple[Step, ...]:
    """Return BPF instructions that test the low half of the call's argument.

    They return `yes` if the argument passes the test, otherwise `no`. All other system calls continue with
    the next rule.
    """
    if call not in _JUDGED:
        return ()
    operator, value = test
    return (
        (_EQUAL, 0, 4, _JUDGED[call]),
        (_LOAD, 0, 0, 16 + 8 * argument),  # seccomp_data.args, little-endian
        (operator, 0, 1, value),
        (_ANSWER, 0, 0, yes),
        (_ANSWER, 0, 0, no),
    )


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def _install(*rules: Step) -> bool:
    """Install the filter for all threads. Return False if the kernel or the machine doesn't support filters.

    The filter refuses system calls of other architectures, then applies the rules, and allows everything
    else. It requires PR_SET_NO_NEW_PRIVS.
    """
    if _MACHINE not in _SECCOMP:
        return False
    steps = (
        (_LOAD, 0, 0, 4),  # seccomp_data.arch
        (_EQUAL, 1, 0, _AUDIT_ARCH[_MACHINE]),
        (_ANSWER, 0, 0, _REFUSE),
        (_LOAD, 0, 0, 0),  # seccomp_data.nr
        (_AT_LEAST, 0, 1, _X32_BIT),
        (_ANSWER, 0, 0, _REFUSE),
        *rules,
        (_ANSWER, 0, 0, _ALLOW),
    )
    program = _Program(len(steps), b"".join(struct.pack("<HBBI", *step) for step in steps))
    status = _libc().syscall(_SECCOMP[_MACHINE], _SET_MODE_FILTER, _ALL_THREADS, ctypes.byref(program))
    return bool(status == 0)


_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same number on every architecture
_ASK_VERSION = 1
_PATH_BENEATH = 1

_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
_READ = _READ_FILE | _READ_FOLDER
_OF_FILES = 1 << 0 | 1 << 1 | _READ_FILE | 1 << 14  # execute, write, read, truncate
_OF_FIRST = (1 << 13) - 1
_SINCE = ((2, 1 << 13), (3, 1 << 14), (5, 1 << 15))  # moving to another folder, truncating, ioctl of devices
_TCP = 0b11  # bind, connect: since version 4
_SCOPED = 0b11  # abstract sockets and signals end at the fence: since version 6


def confine(readable: Iterable[str], writable: Iterable[str]) -> bool:
    """Restrict this thread, and those it starts, to these files and folders, including everything below them.

    Return False, without changing anything, if the kernel doesn't support this. This requires
    PR_SET_NO_NEW_PRIVS.
    """
    libc = _libc()
    version = libc.syscall(_CREATE, None, ctypes.c_size_t(0), _ASK_VERSION)
    if version < 1:
        return False
    handled = _OF_FIRST | sum(bit for since, bit in _SINCE if version >= since)
    attributes = struct.pack("=QQQ", handled, _TCP, _SCOPED)
    attributes = attributes[: 24 if version >= 6 else 16 if version >= 4 else 8]  # the struct grew
    rules = int(libc.syscall(_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0))
    if rules < 0:
        return False
    try:
        for path, access in (*((name, _READ) for name in readable), *((name, handled) for name in writable)):
            try:
                descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            except OSError:  # skip paths that are missing, or on a file system without paths
                continue
            try:
                fitting = access if Path(path).is_dir() else access & _OF_FILES
                libc.syscall(_ADD, rules, _PATH_BENEATH, struct.pack("=Qi", fitting, descriptor), 0)
            finally:
                os.close(descriptor)
        return bool(libc.syscall(_RESTRICT, rules, 0) == 0)
    finally:
        os.close(rules)


_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000

_LIBRARIES = ("/usr", "/lib", "/lib64", "/nix/store", "/etc/ld.so.cache", "/etc/localtime", "/etc/mime.types")
_KERNEL = ("/dev/null", "/dev/urandom", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat",
           "/sys/devices/system/cpu", "/sys/fs/cgroup")  # fmt: skip

_FOR_PACKAGES = ("site-packages", "dist-packages", "lib-dynload")
_NEEDED = ("kbsync", "pypdfium2", "pypdfium2_cfg", "pypdfium2_raw", "python_calamine",
           "apsw", "numpy", "tokenizers", "wordllama", "yaml")  # fmt: skip
"""The packages that the readers and the text splitter need; each may be in a different folder."""

_IS_LINUX = sys.platform == "linux"


def die_with(parent: int) -> None:
    """Make this process end when the thread that started it ends, or immediately if `parent` has already
    ended.
    """
    if _IS_LINUX:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def limit(memory_bytes: int) -> None:
    """Limit the address space and file descriptors, disable core dumps, and make this process the first to
    be killed when memory runs out.
    """
    if _IS_LINUX:
        # Make the kernel kill this process first, because it can be restarted. Not possible in every
        # container.
        with suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
        _, hard = resource.getrlimit(resource.RLIMIT_AS)
        memory_bytes = memory_bytes if hard < 0 else min(memory_bytes, hard)  # no process may raise it
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = 64 if allowed < 0 else min(64, allowed)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    keep_memory_private()


def seal() -> None:
    """From now on, refuse new processes, changes to files (a document's text stays in memory), and calls that
    would undo `die_with`.
    """
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if _IS_LINUX:
        refuse_processes_and_changes()
    sys.addaudithook(_refuse_fork)


def limit_cpu(seconds: float) -> None:
    """Limit the CPU time from now on. SIGXCPU ends the process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(usage.ru_utime + usage.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard < 0 else min(soft, hard), hard))


def raise_fences(*, forks: bool = False) -> tuple[str, ...]:
    """Isolate this process from the network, other processes, and all files except its code and its home.

    `forks`: whether it may fork children, which must not be able to inspect it. Return which of "namespace",
    "landlock", "seccomp" and "python" are in force.
    """
    fences = []
    if _IS_LINUX and _prctl(_PR_SET_NO_NEW_PRIVS, 1):
        # An empty network namespace: root may create one directly, others inside a user namespace.
        libc = _libc()
        if libc.unshare(_CLONE_NEWNET) == 0 or libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0:
            fences.append("namespace")
        # In a child, these rights to its folder in /proc would be rights to its parent's.
        own_proc = () if forks else ("/proc/self",)
        if confine((*_code(), *own_proc), [os.environ["HOME"]]):
            fences.append("landlock")
        if refuse_outside():
            fences.append("seccomp")
    sys.addaudithook(_refuse)
    return (*fences, "python")


def _code() -> Iterable[str]:
    """Return the paths of the interpreter, the parsers and their libraries, and nothing else.

    An import path may be any folder, such as a checkout, a home directory or a project. Package folders are
    allowed as a whole; in other folders, only the packages that a parser needs. To find a package, Python
    lists all import paths before it and caches the result, so it doesn't have to list any once the fences are
    up.
    """
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    installed = {path for path in sys.path if Path(path).name in _FOR_PACKAGES}
    interpreter = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    zipped = {path for path in sys.path if path.endswith(".zip")}
    interpreter.add(sysconfig.get_config_var("LIBDIR"))  # libpython, if it is a separate file
    code = {*installed, *interpreter, *zipped, *libraries} - {None, ""}
    for name in _NEEDED:
        spec = importlib.util.find_spec(name)
        for folder in (spec and spec.submodule_search_locations) or ():
            code |= {folder, f"{folder}.libs"}  # where wheels put their bundled libraries
    return {*_LIBRARIES, *_KERNEL, *code}


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event.startswith("socket.") or event in ("subprocess.Popen", "os.exec", "os.posix_spawn"):
        raise PermissionError(f"a parser may not use {event}")


def _refuse_fork(event: str, arguments: tuple[object, ...]) -> None:
    if event == "os.fork":
        raise PermissionError(f"a parser may not use {event}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> bool:
    return bool(_libc().prctl(option, ctypes.c_ulong(value), 0, 0, 0) == 0)
