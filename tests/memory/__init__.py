"""A knowledge base in memory that can be slow, lie and fail: for trying things out, and for tests.

`MemoryBase` is the server side. It outlives its clients, so a test may let a client die in the middle of
a request and open another `MemoryTarget` on the same base. How the base behaves is data: `Behaviour` for
what it always does, `Fault` for what goes wrong once or a few times.
"""

from __future__ import annotations

from tests.memory.base import Content, Document, Effect, MemoryBase, Observer, Request, keeps_serving
from tests.memory.behaviour import (
    FOREVER,
    Behaviour,
    Crash,
    EqualNames,
    Failure,
    Fault,
    Flicker,
    ManualClock,
    Matcher,
    NameStyle,
    Phase,
    Subject,
)
from tests.memory.rules import ProtocolViolation
from tests.memory.target import DEFAULT_LIMITS, MemoryTarget
from tests.memory.variants import (
    AbleMemory,
    ConfirmingMemory,
    ForgetfulMemory,
    ReadingMemory,
    ReembeddingMemory,
    RenamingMemory,
    RenamingReembeddingMemory,
    RenamingUpdatingMemory,
    ReslicingMemory,
    UpdatingMemory,
    UpdatingReembeddingMemory,
)

__all__ = [
    "DEFAULT_LIMITS",
    "FOREVER",
    "AbleMemory",
    "Behaviour",
    "ConfirmingMemory",
    "Content",
    "Crash",
    "Document",
    "Effect",
    "EqualNames",
    "Failure",
    "Fault",
    "Flicker",
    "ForgetfulMemory",
    "ManualClock",
    "Matcher",
    "MemoryBase",
    "MemoryTarget",
    "NameStyle",
    "Observer",
    "Phase",
    "ProtocolViolation",
    "ReadingMemory",
    "ReembeddingMemory",
    "RenamingMemory",
    "RenamingReembeddingMemory",
    "RenamingUpdatingMemory",
    "Request",
    "ReslicingMemory",
    "Subject",
    "UpdatingMemory",
    "UpdatingReembeddingMemory",
    "keeps_serving",
]
