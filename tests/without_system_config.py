"""Runs kbsync as on a machine without a system-wide config.

Usage: python -m tests.without_system_config ARGUMENTS (kbsync's own)
"""

from __future__ import annotations

import sys
from pathlib import Path

from kbsync.__main__ import main
from kbsync.config import places


def remove_system_config() -> None:
    places.SYSTEM_CONFIG = Path("/nonexistent/etc/kbsync/config.yaml")


if __name__ == "__main__":
    remove_system_config()
    sys.exit(main())
