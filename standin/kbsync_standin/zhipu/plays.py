"""What a fault means for the one request that took it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kbsync_standin.faults import Fault
from kbsync_standin.zhipu.faults import CATALOGUE, word


@dataclass(frozen=True, slots=True)
class Play:
    """The fault played in one request; `kind` "" for none. `effect`: the work is done.

    `args` are of the types that the kind wants.
    """

    kind: str = ""
    effect: bool = True
    args: Mapping[str, Any] = field(default_factory=dict)

    def arg(self, name: str, default: Any) -> Any:
        """An argument, or `default`."""
        return self.args.get(name, default)

    def word(self, name: str, default: str) -> str:
        """An argument as a word, null as `null`."""
        return word(self.args.get(name, default))

    def seconds(self, name: str, default: float) -> float:
        """An argument as a number of seconds."""
        return float(self.args.get(name, default))

    def whole(self, name: str, default: int) -> int:
        """An argument as a whole number."""
        return int(self.args.get(name, default))

    def names(self, name: str) -> tuple[str, ...]:
        """An argument that is a list of words."""
        return tuple(self.args.get(name, ()))


NO_PLAY = Play()


def play_of(fault: Fault | None) -> Play:
    """What `fault` means; one that is not ours means nothing, and so do arguments it cannot have."""
    kind = CATALOGUE.get(fault.kind) if fault else None
    if fault is None or kind is None:
        return NO_PLAY
    known = kind.args
    good = {name: value for name, value in fault.args.items() if name in known and known[name].takes(value)}
    return Play(fault.kind, fault.effect, good)


def misuse(fault: Fault | None, op: str) -> str:
    """A sentence on a fault that cannot mean what its author thinks; "" if there is none."""
    kind = CATALOGUE.get(fault.kind) if fault else None
    if fault is None or kind is None:
        return ""
    if kind.ops and op not in kind.ops:
        ops = ", ".join(kind.ops)
        return f"fault {fault.kind}: was taken by {op or 'an unknown route'}, has a meaning for {ops}"
    for name, value in fault.args.items():
        if name not in kind.args:
            return f"fault {fault.kind}: has no argument {name}; it has {', '.join(kind.args) or 'none'}"
        if not kind.args[name].takes(value):
            return f"fault {fault.kind}: {name} cannot be {value!r}: {kind.args[name].meaning}"
    return ""
