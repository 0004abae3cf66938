"""What a parser may not do, set by the worker on itself before it loads any parser.

Linux only; elsewhere nothing but the refusal inside Python is in force. What cannot be had (an old
kernel, a container that forbids namespaces) is left out, and `close_network` says what was.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import signal
import struct
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_SECCOMP = 22
_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_MODE_FILTER = 2
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000

# include/uapi/linux/audit.h and the syscall tables of each architecture.
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_FORBIDDEN = {
    # socket, execve, execveat, ptrace, process_vm_readv, process_vm_writev, io_uring_setup (has sockets)
    "x86_64": (41, 59, 322, 101, 310, 311, 425),
    "aarch64": (198, 221, 281, 117, 270, 271, 425),
}
_X32_BIT = 0x40000000
_ALLOW = 0x7FFF0000
_REFUSE = 0x00050000 | 13  # SECCOMP_RET_ERRNO | EACCES

_IS_LINUX = sys.platform == "linux"


def die_with(parent: int) -> None:
    """End this process when the thread that started it ends; at once if `parent` is gone already."""
    if _IS_LINUX:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def limit(memory_bytes: int) -> None:
    """Bound address space and descriptors; allow no core dump."""
    if _IS_LINUX:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))


def forbid_writing() -> None:
    """From now on no file can grow: what is read of a document stays in memory."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def limit_cpu(seconds: float) -> None:
    """Bound the CPU time from now on; SIGXCPU ends the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard < 0 else min(soft, hard), hard))


def close_network() -> tuple[str, ...]:
    """Cut this process off the network; says by which of "namespace", "seccomp" and "python"."""
    fences = []
    if _IS_LINUX and _unshare():
        fences.append("namespace")
    if _IS_LINUX and _filter_syscalls():
        fences.append("seccomp")
    sys.addaudithook(_refuse)
    return (*fences, "python")


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event.startswith("socket.") or event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork"):
        raise PermissionError(f"a parser may not use {event}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int, pointer: object = 0) -> bool:
    return bool(_libc().prctl(option, ctypes.c_ulong(value), pointer, 0, 0) == 0)


def _unshare() -> bool:
    """An empty network namespace: root may have one as it is, others inside a user namespace."""
    libc = _libc()
    return bool(libc.unshare(_CLONE_NEWNET) == 0 or libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0)


class _Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def _filter_syscalls() -> bool:
    machine = platform.machine()
    if machine not in _FORBIDDEN or not _prctl(_PR_SET_NO_NEW_PRIVS, 1):
        return False
    code = _program(_AUDIT_ARCH[machine], _FORBIDDEN[machine])
    program = _Program(len(code) // 8, code)
    return _prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(program))


def _program(architecture: int, forbidden: tuple[int, ...]) -> bytes:
    """Classic BPF: refuse another architecture's calls and the forbidden ones, allow the rest."""
    load, equal, at_least, answer = 0x20, 0x15, 0x35, 0x06
    to_refuse = len(forbidden) + 1  # instructions between the architecture test and the refusal
    steps = [
        (load, 0, 0, 4),  # seccomp_data.arch
        (equal, 0, to_refuse + 2, architecture),
        (load, 0, 0, 0),  # seccomp_data.nr
        (at_least, to_refuse, 0, _X32_BIT),
        *((equal, len(forbidden) - n, 0, number) for n, number in enumerate(forbidden)),
        (answer, 0, 0, _ALLOW),
        (answer, 0, 0, _REFUSE),
    ]
    return b"".join(struct.pack("<HBBI", *step) for step in steps)
