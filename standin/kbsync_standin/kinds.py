"""The kinds of fault that the server plays itself: what can go wrong on the way, whatever the vendor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

NUMBER = (int, float)
FOR_EVER = None
MAX_ANSWER_BYTES = 16 << 30


@dataclass(frozen=True, slots=True)
class Arg:
    """An argument of a kind: the types it may have, its value when not given, and what it means."""

    types: tuple[type, ...]
    default: Any
    meaning: str
    required: bool = False

    def takes(self, value: Any) -> bool:
        """`value` can be used; numbers are finite and not negative."""
        if value is None:
            return self.default is None and not self.required
        if isinstance(value, bool):
            return bool in self.types
        return isinstance(value, self.types) and _is_measure(value)


def _is_measure(value: Any) -> bool:
    return not isinstance(value, NUMBER) or (math.isfinite(value) and value >= 0)


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault: what happens, and its arguments."""

    what: str
    args: Mapping[str, Arg] = field(default_factory=dict)

    @property
    def line(self) -> str:
        """One line of explanation."""
        if not self.args:
            return self.what
        return f"{self.what} [args: {'; '.join(f'{name}: {arg.meaning}' for name, arg in self.args.items())}]"


_SILENCE = {"seconds": Arg(NUMBER, FOR_EVER, "closed after so long (default: when the server stops)")}

TRANSPORT: Mapping[str, Kind] = {
    "close-before": Kind("the connection is closed, the request unread; nothing is done"),
    "lost-answer": Kind("the connection is closed without a byte of an answer"),
    "cut-headers": Kind("the connection is closed in the middle of the headers"),
    "cut-body": Kind("the connection is closed after half of the promised body"),
    "reset-connect": Kind("a TCP reset as soon as the request begins to arrive; nothing is done"),
    "reset-sending": Kind("half of the request's body is read, then comes a TCP reset; nothing is done"),
    "reset-reading": Kind("a TCP reset in the middle of the answer"),
    "hang": Kind("the request is read and never answered", _SILENCE),
    "drip": Kind(
        "the answer comes one byte at a time",
        {"every": Arg(NUMBER, 1.0, "seconds between two bytes (1)")},
    ),
    "headers-then-silence": Kind("the headers of the answer come, its body does not", _SILENCE),
    "late-answer": Kind(
        "the work is done at once, the answer comes late",
        {"seconds": Arg(NUMBER, 30.0, "until the answer (30)")},
    ),
    "late-effect": Kind(
        "no answer; the work is done later, on the stand-in's clock",
        {
            "after": Arg(NUMBER, 20.0, "seconds until the work is done (20)"),
            "hang": Arg((bool,), False, "true: silence instead of a closed connection"),
        },
    ),
    "slow-reading": Kind(
        "the request's body is read slowly",
        {"bytes_per_second": Arg(NUMBER, 1000.0, "how slowly (1000)")},
    ),
    "status": Kind(
        "an HTTP status instead of the answer",
        {
            "status": Arg((int,), 500, "which (500)"),
            "body": Arg((str, dict, list), None, "text, or a value to be sent as JSON"),
            "retry_after": Arg(
                (int, float, str), None, '`Retry-After`: seconds, "date" (30 s ahead), "huge", any text'
            ),
        },
    ),
    "redirect": Kind(
        "a redirection instead of the answer",
        {
            "to": Arg((str,), None, "the `Location` (needed)", required=True),
            "status": Arg((int,), 307, "301, 302, 303, 307 or 308 (307)"),
        },
    ),
    "truncated-json": Kind("half of the answer's body, complete as far as HTTP can tell"),
    "empty": Kind("200 without a body"),
    "html": Kind("200 with an HTML error page"),
    "bom": Kind("the answer's body begins with a byte order mark"),
    "wrong-type": Kind("the answer is called text/plain"),
    "gzip": Kind("the answer is compressed, asked for or not"),
    "no-date": Kind("the answer lacks its `Date`"),
    "very-large-body": Kind(
        "the answer is padded with blanks",
        {"bytes": Arg((int,), 64 << 20, "to this length (64 MiB)")},
    ),
    "http10": Kind("an HTTP/1.0 answer without a length, ended by closing the connection"),
    "connection-close": Kind("the answer says `Connection: close`, and the connection is closed"),
    "keepalive-close": Kind(
        "after the answer the connection is closed without a word",
        {
            "on_next": Arg((bool,), False, "true: only when the next request begins to arrive"),
            "after": Arg(NUMBER, 0.0, "seconds until then (0)"),
        },
    ),
}

BEFORE_BODY = frozenset({"close-before", "reset-connect", "reset-sending", "slow-reading"})
"""Kinds that have to be known before the request's body is read."""


def with_defaults(kind: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a transport kind, complete. Raises `ValueError` where `given` does not fit."""
    args = TRANSPORT[kind].args
    if unknown := given.keys() - args.keys():
        known = f"it has {', '.join(args)}" if args else "it has none"
        raise ValueError(f"the fault {kind} has no argument {', '.join(sorted(unknown))}; {known}")
    complete = {name: given.get(name, arg.default) for name, arg in args.items()}
    for name, arg in args.items():
        if not arg.takes(complete[name]):
            raise ValueError(f"the fault {kind} cannot have {name}={complete[name]!r}: {arg.meaning}")
    _check_meaning(kind, complete)
    return complete


def _check_meaning(kind: str, args: Mapping[str, Any]) -> None:
    if kind == "status" and not 200 <= args["status"] <= 599:
        raise ValueError(f"the fault status has a status from 200 to 599, not {args['status']}")
    if kind == "redirect" and args["status"] not in (301, 302, 303, 307, 308):
        raise ValueError(f"the fault redirect has a status 301, 302, 303, 307 or 308, not {args['status']}")
    if kind == "slow-reading" and args["bytes_per_second"] <= 0:
        raise ValueError("the fault slow-reading needs bytes_per_second above 0")
    if kind == "very-large-body" and args["bytes"] > MAX_ANSWER_BYTES:
        raise ValueError(f"the fault very-large-body sends at most {MAX_ANSWER_BYTES} bytes")
