"""Runs a command in as much of a unit's sandbox as is possible without systemd.

Usage: python tests/docs/as_unit.py UNIT COMMAND... (the system calls it may make, no capabilities, no new
privileges, no memory that is both written and executed)
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

LIBRARY = "libseccomp.so.2"

PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_MDWE, REFUSE_EXEC_GAIN = 24, 38, 65, 1  # <linux/prctl.h>
ALLOW, REFUSE_EPERM = 0x7FFF0000, 0x00050001  # <seccomp.h>
CAPABILITIES = 41


def settings(unit: Path, name: str) -> list[str]:
    """Return the values of every line with this name."""
    return re.findall(rf"^{name}=(.*)$", unit.read_text(), re.MULTILINE)


@cache
def members(name: str) -> frozenset[str]:
    """Return the system calls of a set such as `@process`, or the one call of this name."""
    if not name.startswith("@"):
        return frozenset([name])
    completed = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], capture_output=True, text=True, check=True
    )
    lines = [line.strip() for line in completed.stdout.splitlines()[1:]]
    return frozenset().union(*(members(line) for line in lines if line and not line.startswith("#")))


def allowed(unit: Path) -> set[str]:
    """Return the calls that `SystemCallFilter=` allows by systemd.exec(5), the first line being a list of
    them.
    """
    matching = set(members("@default"))
    for line in settings(unit, "SystemCallFilter"):
        calls = frozenset().union(*map(members, line.removeprefix("~").split()))
        matching = matching - calls if line.startswith("~") else matching | calls
    return matching


def keep_to(calls: set[str]) -> None:
    """Let every other system call fail with EPERM from now on."""
    library = ctypes.CDLL(LIBRARY)
    library.seccomp_init.restype = ctypes.c_void_p
    # Like the units: `SystemCallErrorNumber=EPERM`.
    context = ctypes.c_void_p(library.seccomp_init(REFUSE_EPERM))
    for call in calls:
        number = library.seccomp_syscall_resolve_name(call.encode())
        # A set contains calls of all architectures; those missing on this one have no number.
        if number >= 0:
            library.seccomp_rule_add_array(context, ALLOW, number, 0, None)
    if library.seccomp_load(context) != 0:
        sys.exit("the filter could not be loaded")


def main() -> None:
    unit = Path(sys.argv[1])
    libc = ctypes.CDLL(None)
    # Read this before loading the filter: `systemd-analyze` needs calls that the unit doesn't have.
    calls = allowed(unit)
    # Only root has capabilities to lose, and only root may drop them.
    if os.geteuid() == 0:
        for right in range(CAPABILITIES):
            libc.prctl(PR_CAPBSET_DROP, right, 0, 0, 0)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if settings(unit, "MemoryDenyWriteExecute") == ["yes"]:
        libc.prctl(PR_SET_MDWE, REFUSE_EXEC_GAIN, 0, 0, 0)  # since Linux 6.3
    keep_to(calls)
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
