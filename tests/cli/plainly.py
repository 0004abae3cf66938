"""kbsync without root's right to read and write everything, and with less patience (see `hasty`).

Usage: python tests/cli/plainly.py ARGUMENTS (kbsync's own)
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

PR_CAPBSET_DROP = 24  # <linux/prctl.h>
RIGHTS = (1, 2)
"""CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH (<linux/capability.h>): what modes forbid, root may not either."""

if __name__ == "__main__":
    libc = ctypes.CDLL(None, use_errno=True)
    if os.geteuid() == 0 and any(libc.prctl(PR_CAPBSET_DROP, right, 0, 0, 0) for right in RIGHTS):
        sys.exit("the rights of root could not be dropped")
    os.execv(sys.executable, [sys.executable, str(Path(__file__).with_name("hasty.py")), *sys.argv[1:]])
