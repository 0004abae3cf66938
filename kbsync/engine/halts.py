"""Why a mirror may halt, in the contract's words, where the engine itself says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kbsync.state.mirrors import Halt

TARGET_DOWN = "target-down"
FOLDER_MISSING = "folder-missing"
"""Or a mount point without its mount, or not to be read."""
CREDENTIALS = "credentials"
"""A key is refused, or the account it belongs to."""
BAD_CONFIG = "config"
"""What the config names was there when it was read, or was not looked at then, and cannot be used."""
FAILING = "failing"
TARGET_STUCK = "target-stuck"
"""It accepts documents, and none ever gets done."""
PASSING = (TARGET_DOWN, FAILING)
"""Halts that need nobody: what is wrong passes, or is tried again anyway."""

RELEASED = ("target-rejects", TARGET_STUCK)
"""Halts over documents, which a pass alone does not take up again: a person has to release them."""


def going_on(halt: Halt, name: str, write: Callable[[str], str], *, at_work: bool) -> Halt:
    """The halt of mirror `name` with the command that goes on once its cause is gone.

    That depends on who reads it, not on who wrote it down. A kbsync that is `at_work` is told to try at once,
    and no second one may run. Where none is, `retry` would leave a word for nobody: a pass goes on.
    """
    retry, once = f"retry --mirror {name}", f"--once --mirror {name}"
    begins = halt.cure.startswith((f"kbsync {retry}", f"kbsync {once}"))
    if halt.reason in RELEASED or not begins:
        return halt
    return replace(halt, cure=write(retry if at_work else once))  # with the options of who reads it
