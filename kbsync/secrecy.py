"""Keeps what is ours from other users and processes: memory, environment, folders."""

from __future__ import annotations

import ctypes
import resource
import sys
from pathlib import Path

_PR_SET_DUMPABLE = 4
_PROBE = "/proc/self/fdinfo/2"


def keep_memory_private() -> None:
    """Let no other process of this user read our memory or environment, and no crash write it to a disk.

    On Linux: prctl(2), PR_SET_DUMPABLE. Root may still look.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux" and _be_dumpable(False) and not _sees_itself():
        _be_dumpable(True)


def _be_dumpable(wanted: bool) -> bool:
    return bool(ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, ctypes.c_ulong(wanted), 0, 0, 0) == 0)


def _sees_itself() -> bool:
    """Kernels before 5.14 hide from such a process which mount its own files came through."""
    try:
        with open(_PROBE, "rb"):
            return True
    except PermissionError:
        return False
    except OSError:
        return True  # no such descriptor, or no /proc: nothing that we could spoil


def make_private_folder(path: Path) -> None:
    """Make a folder, and those above it that are missing, 0700 whatever the umask. Raises OSError."""
    missing = [place for place in (path, *path.parents) if not place.is_dir()]
    for place in reversed(missing):
        place.mkdir(mode=0o700, exist_ok=True)
