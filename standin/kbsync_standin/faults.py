"""The faults that wait for matching requests; each applies to a given number of requests."""

from __future__ import annotations

import fnmatch
import threading
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kbsync_standin.kinds import TRANSPORT
from kbsync_standin.switches import changed


@dataclass(slots=True)
class Fault:
    """A fault to inject.

    `op` and `match` are globs for the operation and its subject (the document's name). Of the matching
    requests, the first `skip` pass unharmed, then `times` get the fault (0: all). `effect`: for kinds that
    allow both, whether the work is done before the fault.
    """

    kind: str
    op: str = "*"
    match: str = "*"
    skip: int = 0
    times: int = 1
    effect: bool = True
    args: dict[str, Any] = field(default_factory=dict)

    def fits(self, op: str, subject: str) -> bool:
        """Return whether the fault matches such a request."""
        return _matches(op, self.op) and _matches(subject, self.match)


def hits(fault: Fault, kind: str, name: str) -> bool:
    """Return whether the fault is of this kind and its argument `name`, a glob, matches this name."""
    return fault.kind == kind and fnmatch.fnmatchcase(name, str(fault.args.get("name", "*")))


def _matches(text: str, glob: str) -> bool:
    return glob in ("*", text) or fnmatch.fnmatchcase(text, glob)


class Faults:
    """The waiting faults of one server. All methods are thread-safe."""

    def __init__(self, own_kinds: Mapping[str, str]) -> None:
        """Start without faults. Raises `ValueError` if one of the service's `own_kinds` is also the
        server's.
        """
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
        """Copies of the waiting faults, with the remaining `skip` and `times`."""
        with self._lock:
            return [replace(fault) for fault in self._waiting]

    def add(self, fault: Fault) -> None:
        """Add a copy of the fault. Raises `ValueError` with a sentence if it is invalid."""
        valid_fault = self.validate(fault)
        with self._lock:
            self._waiting.append(valid_fault)

    def clear(self) -> None:
        """Remove all waiting faults; those in progress continue."""
        with self._lock:
            self._waiting.clear()

    def any_of(self, kinds: Collection[str], op: str) -> bool:
        """Return whether a fault of one of these kinds waits for `op`."""
        return any(fault.kind in kinds and _matches(op, fault.op) for fault in tuple(self._waiting))

    def needs_subject(self, op: str) -> bool:
        """Return whether a fault that waits for `op` applies to certain subjects only."""
        return any(fault.match != "*" and _matches(op, fault.op) for fault in tuple(self._waiting))

    def take(self, op: str, subject: str) -> Fault | None:
        """Return the first due fault that matches; call it once for each request.

        Every matching fault counts the request. So `skip` selects the same call, whatever other faults do
        meanwhile.
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

    def validate(self, fault: Fault) -> Fault:
        """Return a copy with the kind's default arguments filled in. Raises `ValueError` if the fault is
        invalid.
        """
        kind = TRANSPORT.get(fault.kind)
        if kind is None:
            if fault.kind not in self._own_kinds:
                kinds = ", ".join(sorted(self.kinds))
                raise ValueError(f"unknown fault kind {fault.kind!r}; the kinds are {kinds}")
            return replace(fault, args=dict(fault.args))
        if unknown := fault.args.keys() - kind.args.keys():
            accepted = f"it has {', '.join(kind.args)}" if kind.args else "it has none"
            raise ValueError(
                f"the fault {fault.kind} has no argument {', '.join(sorted(unknown))}; {accepted}"
            )
        args = {name: fault.args.get(name, arg.default) for name, arg in kind.args.items()}
        for name, arg in kind.args.items():
            if not arg.takes(args[name]):
                raise ValueError(f"the fault {fault.kind} cannot have {name}={args[name]!r}: {arg.meaning}")
        return replace(fault, args=args)


def parse_fault(value: Any) -> Fault:
    """Parse a fault from a JSON value. Raises `ValueError` with a sentence if it is invalid."""
    if not isinstance(value, dict):
        raise ValueError('a fault is an object such as {"kind": "lost-answer", "op": "upload"}')
    if "kind" not in value:
        raise ValueError("a fault needs a kind")
    try:
        return changed(Fault(""), value, label="key of a fault")
    except ValueError as error:
        raise ValueError(f"{error} (what belongs to one kind goes under args)") from None
