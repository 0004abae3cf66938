"""Keeps faults until matching requests arrive, each for a given number of requests."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from kbsync_standin.kinds import TRANSPORT


@dataclass(slots=True)
class Fault:
    """Something that goes wrong.

    `op` and `match` are globs on the operation and its subject (the document's name). Of the requests
    that fit, the first `skip` are let through, then `times` are hit (0: all). `effect`: the work is done
    before the fault, where the kind leaves a choice.
    """

    kind: str
    op: str = "*"
    match: str = "*"
    skip: int = 0
    times: int = 1
    effect: bool = True
    args: dict[str, Any] = field(default_factory=dict)

    def fits(self, op: str, subject: str) -> bool:
        """Return whether the fault applies to such a request."""
        return _matches(op, self.op) and _matches(subject, self.match)


def hits(fault: Fault, kind: str, name: str) -> bool:
    """A fault of this kind is played, on a document of this name: the argument `name` is a glob."""
    return fault.kind == kind and fnmatch.fnmatchcase(name, str(fault.args.get("name", "*")))


def _matches(word: str, glob: str) -> bool:
    return glob in ("*", word) or fnmatch.fnmatchcase(word, glob)


class Faults:
    """The faults of one server. May be used from several threads."""

    def __init__(self, own_kinds: Mapping[str, str]) -> None:
        """`own_kinds`: what the vendor plays. Raises `ValueError` where one is the server's too."""
        if both := own_kinds.keys() & TRANSPORT.keys():
            raise ValueError(f"these fault kinds are the server's own: {', '.join(sorted(both))}")
        self._own_kinds = own_kinds
        self._waiting: list[Fault] = []
        self._lock = threading.Lock()

    @property
    def kinds(self) -> dict[str, str]:
        """Return every kind of fault with one line of explanation."""
        return {name: kind.line for name, kind in TRANSPORT.items()} | dict(self._own_kinds)

    @property
    def all(self) -> list[Fault]:
        """Copies of those still waiting, with what is left of `skip` and `times`."""
        with self._lock:
            return [replace(fault) for fault in self._waiting]

    def add(self, fault: Fault) -> None:
        """Play a copy of it from now on. Raises `ValueError` with a sentence where it cannot be played."""
        checked = self.checked(fault)
        with self._lock:
            self._waiting.append(checked)

    def clear(self) -> None:
        """Remove all waiting faults; those in progress continue."""
        with self._lock:
            self._waiting.clear()

    def any_of(self, kinds: Collection[str], op: str) -> bool:
        """One of these kinds waits for `op`."""
        return any(fault.kind in kinds and _matches(op, fault.op) for fault in tuple(self._waiting))

    def asks_for_subject(self, op: str) -> bool:
        """One that waits for `op` is meant for certain subjects only."""
        return any(fault.match != "*" and _matches(op, fault.op) for fault in tuple(self._waiting))

    def take(self, op: str, subject: str) -> Fault | None:
        """The first that fits and is due; to be asked once for each request.

        A request is counted by every fault that it fits, so `skip` says which call is hit, whatever
        other faults do meanwhile.
        """
        if not self._waiting:
            return None
        with self._lock:
            fitting = [fault for fault in self._waiting if fault.fits(op, subject)]
            due = next((fault for fault in fitting if fault.skip == 0), None)
            for fault in fitting:
                fault.skip = max(0, fault.skip - 1)
            if due is not None and due.times == 1:
                self._waiting = [other for other in self._waiting if other is not due]
            elif due is not None and due.times:
                due.times -= 1
            return due

    def checked(self, fault: Fault) -> Fault:
        """A copy with all arguments of its kind. Raises `ValueError` where it cannot be played."""
        kind = TRANSPORT.get(fault.kind)
        if kind is None:
            if fault.kind not in self._own_kinds:
                there_are = ", ".join(sorted(self.kinds))
                raise ValueError(f"there is no fault kind {fault.kind!r}; there are {there_are}")
            return replace(fault, args=dict(fault.args))
        if unknown := fault.args.keys() - kind.args.keys():
            known = f"it has {', '.join(kind.args)}" if kind.args else "it has none"
            raise ValueError(f"the fault {fault.kind} has no argument {', '.join(sorted(unknown))}; {known}")
        args = {name: fault.args.get(name, arg.default) for name, arg in kind.args.items()}
        for name, arg in kind.args.items():
            if not arg.takes(args[name]):
                raise ValueError(f"the fault {fault.kind} cannot have {name}={args[name]!r}: {arg.meaning}")
        return replace(fault, args=args)


_TYPES: dict[str, type] = {
    "kind": str,
    "op": str,
    "match": str,
    "skip": int,
    "times": int,
    "effect": bool,
    "args": dict,
}
_WORDS = {str: "a string", int: "a whole number from 0 on", bool: "true or false", dict: "an object"}


def parsed(value: Any) -> Fault:
    """The fault that a JSON value describes. Raises `ValueError` with a sentence where it does not."""
    if not isinstance(value, dict):
        raise ValueError('a fault is an object such as {"kind": "lost-answer", "op": "upload"}')
    if unknown := value.keys() - {field.name for field in fields(Fault)}:
        raise ValueError(
            f"a fault has no key {', '.join(sorted(unknown))}; it has {', '.join(_TYPES)} "
            "(what belongs to one kind goes under args)"
        )
    if "kind" not in value:
        raise ValueError("a fault needs a kind")
    for key, given in value.items():
        wanted = _TYPES[key]
        fits = isinstance(given, wanted) and (wanted is bool or not isinstance(given, bool))
        if not fits or (wanted is int and given < 0):
            raise ValueError(f"a fault's {key} is {_WORDS[wanted]}, not {given!r}")
    return Fault(**value)
