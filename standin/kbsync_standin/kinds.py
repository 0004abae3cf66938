"""The description of a fault kind, and the kinds that the server injects for every service."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kbsync_standin.rules import is_flag, is_measure, is_string, or_none


@dataclass(frozen=True, slots=True)
class Arg:
    """An argument of a kind: its meaning, the test for its value, and its default."""

    meaning: str
    takes: Callable[[Any], bool] = lambda value: True
    default: Any = None


class Kind:
    """A kind of fault: what happens, and its arguments."""

    def __init__(self, what: str, **args: Arg) -> None:
        self.what, self.args = what, args

    @property
    def line(self) -> str:
        """One line of explanation."""
        args = "; ".join(f"{name}: {arg.meaning}" for name, arg in self.args.items())
        return self.what + (f" [args: {args}]" if args else "")


def is_status(value: Any) -> bool:
    """Return whether the value is an HTTP status that a response can have."""
    return isinstance(value, int) and 200 <= value <= 599


def _is_amount(value: Any) -> bool:
    return is_measure(value) and value > 0


_MAX_BYTES = 16 << 30
_REDIRECTS = (301, 302, 303, 307, 308)
_SILENCE = Arg("closed after this time (default: when the server stops)", or_none(is_measure))

TRANSPORT: Mapping[str, Kind] = {
    "close-before": Kind("the connection is closed before the request is read; nothing is done"),
    "lost-answer": Kind("the connection is closed without any response"),
    "cut-headers": Kind("the connection is closed in the middle of the headers"),
    "cut-body": Kind("the connection is closed after half of the promised body"),
    "reset-connect": Kind("a TCP reset as soon as the request begins to arrive; nothing is done"),
    "reset-sending": Kind("half of the request's body is read, then comes a TCP reset; nothing is done"),
    "reset-reading": Kind("a TCP reset in the middle of the answer"),
    "hang": Kind("the request is read and never answered", seconds=_SILENCE),
    "drip": Kind(
        "the answer comes one byte at a time", every=Arg("seconds between two bytes (1)", is_measure, 1.0)
    ),
    "headers-then-silence": Kind("the headers of the answer come, its body does not", seconds=_SILENCE),
    "late-answer": Kind(
        "the work is done at once, the answer comes late",
        seconds=Arg("until the answer (30)", is_measure, 30.0),
    ),
    "late-effect": Kind(
        "no answer; the work is done later, on the stand-in's clock",
        after=Arg("seconds until the work is done (20)", is_measure, 20.0),
        hang=Arg("true: silence instead of a closed connection", is_flag, False),
    ),
    "slow-reading": Kind(
        "the request's body is read slowly",
        bytes_per_second=Arg("how slowly, above 0 (1000)", _is_amount, 1000.0),
    ),
    "status": Kind(
        "an HTTP status instead of the answer",
        status=Arg("which, from 200 to 599 (500)", is_status, 500),
        body=Arg(
            "text, or a value to be sent as JSON", lambda value: isinstance(value, str | dict | list | None)
        ),
        retry_after=Arg(
            '`Retry-After`: seconds, "date" (30 s ahead), "huge", any text',
            lambda value: value is None or isinstance(value, str) or is_measure(value),
        ),
    ),
    "redirect": Kind(
        "a redirection instead of the answer",
        to=Arg("the `Location` (needed)", is_string),
        status=Arg("301, 302, 303, 307 or 308 (307)", lambda value: value in _REDIRECTS, 307),
    ),
    "truncated-json": Kind("half of the answer's body, complete as far as HTTP can tell"),
    "empty": Kind("200 without a body"),
    "html": Kind("200 with an HTML error page"),
    "bom": Kind("the answer's body begins with a byte order mark"),
    "wrong-type": Kind("the response has the type text/plain"),
    "gzip": Kind("the response is compressed even without a request for it"),
    "no-date": Kind("the answer lacks its `Date`"),
    "very-large-body": Kind(
        "the answer is padded with blanks",
        bytes=Arg(
            "to this length, at most 16 GiB (64 MiB)",
            lambda value: isinstance(value, int) and is_measure(value) and value <= _MAX_BYTES,
            64 << 20,
        ),
    ),
    "http10": Kind("an HTTP/1.0 answer without a length, ended by closing the connection"),
    "connection-close": Kind("the answer says `Connection: close`, and the connection is closed"),
    "keepalive-close": Kind(
        "after the answer the connection is closed without notice",
        on_next=Arg("true: only when the next request begins to arrive", is_flag, False),
        after=Arg("seconds until then (0)", is_measure, 0.0),
    ),
}

_SHARED: Mapping[str, str] = {
    "unauthorized": "the refusal of an unknown key",
    "rate-limited": "too many requests, nothing done [args: retry_after: the header]",
    "code": "a code in place of the answer, nothing done [args: code, message; status: of HTTP (200); "
    "as_string: true: the code is a string]",
    "code-after": "the same, after the work was done [args: as code]",
    "no-id": "the answer has no id for the document (upload)",
    "other-name": "the document is stored under another name, with (1) added (upload)",
    "fails": "matching documents fail to be indexed [args: name: glob (*)]",
    "stuck": "matching documents are never indexed [args: name: glob (*)]",
    "odd-status": "documents have another status [args: value; missing: true: no such field]",
    "left-out": "matching documents are left out (list) [args: name: glob (*)]",
    "keeps-document": "the deletion is confirmed, the document stays (delete)",
    "shape": "the answer has another shape [args: form: object (an empty one), nulls (in lists), null]",
    "nothing-found": "the search finds nothing",
}


def shared_kinds(names: str) -> dict[str, str]:
    """Return kinds that several services inject, each with one line of explanation. `names`: with spaces
    between them.
    """
    return {name: _SHARED[name] for name in names.split()}


BEFORE_BODY = frozenset({"close-before", "reset-connect", "reset-sending", "slow-reading"})
"""The kinds that have to be chosen before the request's body is read."""
