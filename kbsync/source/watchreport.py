"""How a folder is watched, in words and numbers for people."""

from __future__ import annotations

import enum
from dataclasses import dataclass


class Mode(enum.StrEnum):
    """Where hints come from: the kernel, or nowhere but the rescan."""

    NATIVE = "native"
    POLLING = "polling"


@dataclass(frozen=True, slots=True)
class WatchReport:
    """How a folder is watched. `why` is a sentence and `cure` a command, both empty in native mode.

    `directories` is what the caller said, `watches` how many the kernel watches (None: unknown or none),
    `seconds` what starting took, `advice` a warning with its cure or empty.
    """

    folder: str
    mode: Mode
    why: str = ""
    cure: str = ""
    advice: str = ""
    directories: int = 0
    watches: int | None = None
    seconds: float = 0.0
