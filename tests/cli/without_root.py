"""Runs kbsync without root's right to read and write everything, and with shorter time limits (see `hasty`).

Usage: python -m tests.cli.without_root ARGUMENTS (kbsync's own)
"""

from __future__ import annotations

import ctypes
import os
import sys

from kbsync.__main__ import main
from tests.cli.impatient import hurry

PR_CAPBSET_DROP = 24  # <linux/prctl.h>
VERSION_3 = 0x20080522  # <linux/capability.h>
RIGHTS = (1, 2)
"""CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH (<linux/capability.h>): without them modes restrict root too."""


def drop_rights() -> None:
    """Drop them for this process and its children."""
    libc = ctypes.CDLL(None, use_errno=True)
    header, sets = (ctypes.c_uint32 * 2)(VERSION_3, 0), (ctypes.c_uint32 * 6)()
    failed = any(libc.prctl(PR_CAPBSET_DROP, right, 0, 0, 0) for right in RIGHTS)
    failed = failed or libc.capget(header, sets)
    for number in range(3):  # effective, permitted, inheritable
        sets[number] &= ~sum(1 << right for right in RIGHTS)
    if failed or libc.capset(header, sets):
        sys.exit("the rights of root could not be dropped")


if __name__ == "__main__":
    if os.geteuid() == 0:
        drop_rights()
    hurry()
    sys.exit(main())
