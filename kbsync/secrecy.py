"""Keeps what this process has in memory to itself: no core dump, no debugger, no look into its environment.

Linux only: prctl(2), PR_SET_DUMPABLE. Costs nothing; root may still look.
"""

from __future__ import annotations

import ctypes
import resource
import sys

_PR_SET_DUMPABLE = 4
_PROBE = "/proc/self/fdinfo/2"


def keep_memory_private() -> None:
    """Let no other process of this user read our memory or environment, and no crash write it to a disk."""
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
