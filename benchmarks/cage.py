"""A memory limit of the kernel for a process and all that it starts: a control group of version 1 or 2."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
LIMITS = {GROUPS / "memory": "memory.limit_in_bytes", GROUPS: "memory.max"}
"""Where groups are made, and the file of a group that takes its limit."""


class Cage:
    """What counts is the processes' memory, and the page cache they fill, which gives way."""

    def __init__(self, group: Path) -> None:
        self._group = group

    @property
    def entrance(self) -> list[str]:
        """What stands before a command that is to run in it."""
        return ["sh", "-c", 'echo $$ > "$0"; exec "$@"', str(self._group / "cgroup.procs")]

    @property
    def killed(self) -> int:
        """How many processes were ended for want of memory."""
        for name in ("memory.oom_control", "memory.events"):
            with suppress(FileNotFoundError):
                lines = (self._group / name).read_text().splitlines()
                return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
        return 0


@contextmanager
def caged(mib: float) -> Iterator[Cage | None]:
    """A cage of so many MiB; None, and a line that says so, where groups cannot be made."""
    for above, limit in LIMITS.items():
        group = above / f"kbsync-bench-{os.getpid()}"
        try:
            group.mkdir()
            (group / limit).write_text(str(int(mib * 2**20)))
        except OSError:
            with suppress(OSError):
                group.rmdir()
            continue
        try:
            yield Cage(group)
        finally:
            group.rmdir()
        return
    print("(memory is only looked at, not limited: no control groups can be made here)")
    yield None
