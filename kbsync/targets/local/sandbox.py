"""What a parser may not do, set by the worker on itself before it loads any parser.

Linux only; elsewhere nothing but the refusal inside Python is in force. What cannot be had (an old
kernel, a container that forbids namespaces) is left out, and `raise_fences` says what was.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import resource
import signal
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

from kbsync.secrecy import keep_memory_private
from kbsync.targets.local.landlock import confine
from kbsync.targets.local.syscalls import refuse_changes, refuse_outside

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000

_LIBRARIES = ("/usr", "/lib", "/lib64", "/nix/store", "/etc/ld.so.cache", "/etc/localtime", "/etc/mime.types")
_KERNEL = ("/dev/null", "/dev/urandom", "/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/stat",
           "/sys/devices/system/cpu", "/sys/fs/cgroup")  # fmt: skip

_FOR_PACKAGES = ("site-packages", "dist-packages", "lib-dynload")
_NEEDED = ("kbsync", "kreuzberg")
"""Packages that the readers import; each may lie in a folder of its own."""

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
    _, allowed = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = 64 if allowed < 0 else min(64, allowed)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    keep_memory_private()


def forbid_writing() -> None:
    """From now on no file can grow or be touched: what is read of a document stays in memory."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    if _IS_LINUX:
        refuse_changes()


def limit_cpu(seconds: float) -> None:
    """Bound the CPU time from now on; SIGXCPU ends the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard < 0 else min(soft, hard), hard))


def raise_fences() -> tuple[str, ...]:
    """Cut this process off the network, from other processes and from all files but its code and its home.

    Says by which of "namespace", "landlock", "seccomp" and "python".
    """
    fences = []
    if _IS_LINUX and _prctl(_PR_SET_NO_NEW_PRIVS, 1):
        if _unshare():
            fences.append("namespace")
        if confine(_code(), [os.environ["HOME"]]):
            fences.append("landlock")
        if refuse_outside():
            fences.append("seccomp")
    sys.addaudithook(_refuse)
    return (*fences, "python")


def _code() -> Iterable[str]:
    """Where the interpreter, the parsers and their libraries lie, and nothing beside them.

    A path of imports may be anything: a checkout, a home, the folder that somebody works in. Only folders
    that are made for packages are opened whole; elsewhere each package that a parser needs, by itself.
    To find one lists every folder before it, which is remembered: once the fences are up they are not listed.
    """
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(":")
    installed = {path for path in sys.path if Path(path).name in _FOR_PACKAGES}
    own = {sysconfig.get_path(each) for each in ("stdlib", "platstdlib", "purelib", "platlib")}
    zipped = {path for path in sys.path if path.endswith(".zip")}
    own.add(sysconfig.get_config_var("LIBDIR"))  # libpython, where it is a file of its own
    code = {*installed, *own, *zipped, *libraries} - {None, ""}
    return {*_LIBRARIES, *_KERNEL, *code, *_packages()}


def _packages() -> Iterator[str]:
    """The folders of what the readers import, found and not imported."""
    for name in _NEEDED:
        found = importlib.util.find_spec(name)
        if found is not None:
            for place in found.submodule_search_locations or ():
                yield from (place, f"{place}.libs")  # where wheels put the libraries that they bring along


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event.startswith("socket.") or event in ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.fork"):
        raise PermissionError(f"a parser may not use {event}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, value: int) -> bool:
    return bool(_libc().prctl(option, ctypes.c_ulong(value), 0, 0, 0) == 0)


def _unshare() -> bool:
    """An empty network namespace: root may have one as it is, others inside a user namespace."""
    libc = _libc()
    return bool(libc.unshare(_CLONE_NEWNET) == 0 or libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) == 0)
