"""A kernel memory limit for a process and its children: a control group of version 1 or 2."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")
LIMITS = {GROUPS / "memory": "memory.limit_in_bytes", GROUPS: "memory.max"}
"""The folders for control groups, and the name of each version's limit file."""


class Cage:
    """A control group. It counts the processes' memory and their page cache, which the kernel can drop."""

    def __init__(self, group: Path) -> None:
        self._group = group

    @property
    def entrance(self) -> list[str]:
        """The command prefix that runs a command inside it."""
        return ["sh", "-c", 'echo $$ > "$0"; exec "$@"', str(self._group / "cgroup.procs")]

    @property
    def killed(self) -> int:
        """The number of processes killed for lack of memory."""
        for name in ("memory.oom_control", "memory.events"):
            with suppress(FileNotFoundError):
                lines = (self._group / name).read_text().splitlines()
                return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
        return 0


@contextmanager
def caged(mib: float) -> Iterator[Cage | None]:
    """Create a group with a limit in MiB; if that isn't possible, print it and yield None."""
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
