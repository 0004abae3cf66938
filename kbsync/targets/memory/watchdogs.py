"""Observers that see a promise broken the moment it breaks."""

from __future__ import annotations

from kbsync.targets.memory.base import MemoryBase, Observer


def keeps_serving(*paths: str) -> Observer:
    """An observer that fails when one of `paths`, once searchable, is searchable no longer.

    Put it into `MemoryBase.observers`; take it out before the file is deleted on purpose.
    """
    served: set[str] = set()

    def look(base: MemoryBase) -> None:
        now = {path for path in paths if base.served(path)}
        if lost := served - now:
            raise base.violation(f"no longer searchable: {sorted(lost)}, after {base.effects[-1]}")
        served.update(now)

    return look
