"""A knowledge base in memory that can be slow, lie and fail: for trying things out, and for tests.

`MemoryBase` is the server side. It outlives its clients, so a test may let a client die in the middle of
a request and open another `MemoryTarget` on the same base. How the base behaves is data: `Behaviour` for
what it always does, `Fault` for what goes wrong once or a few times.
"""

from __future__ import annotations

from kbsync.targets.memory.base import MemoryBase, Observer
from kbsync.targets.memory.behaviour import FOREVER, Behaviour, Failure, Flicker, Matcher, Subject
from kbsync.targets.memory.client import DEFAULT_LIMITS
from kbsync.targets.memory.clock import ManualClock
from kbsync.targets.memory.documents import Content, Document
from kbsync.targets.memory.faults import Crash, Fault, Phase
from kbsync.targets.memory.forgetful import (
    ConfirmingMemory,
    ForgetfulMemory,
    ReadingMemory,
    ReslicingMemory,
)
from kbsync.targets.memory.journal import Effect, Request
from kbsync.targets.memory.naming import EqualNames, NameStyle
from kbsync.targets.memory.strict import ProtocolViolation
from kbsync.targets.memory.target import MemoryTarget
from kbsync.targets.memory.variants import (
    AbleMemory,
    ReembeddingMemory,
    RenamingMemory,
    RenamingReembeddingMemory,
    RenamingUpdatingMemory,
    UpdatingMemory,
    UpdatingReembeddingMemory,
)
from kbsync.targets.memory.watchdogs import keeps_serving

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
