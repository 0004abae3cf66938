"""What the applications of most services have in common, and what these hold.

Routes and what answers them, who is let in, which faults are played and how a refusal is written: each
service has its own.
"""

from __future__ import annotations

import random
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from kbsync_standin.faults import Fault
from kbsync_standin.messages import Letter, Request, Response, StandInClock
from kbsync_standin.rules import Breach, Refused
from kbsync_standin.switches import changed

B = TypeVar("B", bound=Any)

Routes = Sequence[tuple[str, re.Pattern[str], str]]
"""Method, path and operation."""


def compiled(routes: Iterable[tuple[str, str, str]], before: str = "", piece: str = "[^/]+") -> Routes:
    """`before` stands before each path, a `piece` wherever a path has a name such as `{file}`."""
    return [
        (method, re.compile(before + re.sub(r"\{(\w+)\}", rf"(?P<\1>{piece})", path)), op)
        for method, path, op in routes
    ]


def shared_words(question: str, text: str) -> float:
    """Which part of the question's words is in the text."""
    words = set(re.findall(r"\w+", question.lower()))
    return len(words & set(re.findall(r"\w+", text.lower()))) / max(1, len(words))


def misshapen(fault: Fault, nulls: Any) -> Any:
    """The answer that a fault of the kind `shape` gives: an empty object, `nulls` or null."""
    return {"object": {}, "nulls": nulls, "null": None}[str(fault.args.get("form", "object"))]


class Holdings(ABC, Generic[B]):
    """What a service holds: one empty base, and what comes to that.

    `behaviour`: its switches. `journal`: effects in order. `violations`: what was done against its rules.
    """

    def __init__(self, seed: int, behaviour: B, clock: StandInClock) -> None:
        self.behaviour, self.clock, self._seed = behaviour, clock, seed
        self.violations: list[str] = []
        self.journal: list[dict[str, Any]] = []
        self.reset()

    def reset(self) -> None:
        """As at first, but for the switches."""
        self._chance = random.Random(self._seed)  # noqa: S311
        self.journal.clear()
        self._begin()

    @abstractmethod
    def _begin(self) -> None:
        """Hold what is there at first and nothing else."""

    def turn(self, switches: Mapping[str, Any]) -> None:
        """Raises `ValueError` for an unknown switch or a wrong value."""
        before, self.behaviour = self.behaviour, changed(self.behaviour, switches)
        self._turned(before)

    @abstractmethod
    def _turned(self, before: B) -> None:
        """Others do to the base what the switch `base` says."""

    @abstractmethod
    def present(self) -> Iterable[Any]:
        """Documents that are there, with `id` and `name`."""

    @abstractmethod
    def delete(self, one: Any, effect: str = "deleted") -> None:
        """One of those, from now on; `effect`: its word in the journal."""


class ServiceApplication(ABC):
    """A service as the server asks for it (`messages.Vendor`).

    `default_key`: the key it takes where none is given. `api`: what `base_url` has behind the address.
    `home`: the line of the config that names the base which is there at first.
    """

    name: str
    kinds: Mapping[str, str]
    routes: Routes
    default_key: str
    api = ""
    home = ""

    def __init__(
        self,
        key: str | None = None,
        seed: int = 0,
        vectorize: tuple[float, float] = (0.0, 0.0),
        clock: StandInClock | None = None,
    ) -> None:
        """`key`: the only one it takes. `seed`: of everything left to chance. `vectorize`: least and most
        seconds from an upload until the document can be searched. `clock`: real time by default."""
        self.clock = clock or StandInClock()
        self.letters: list[Letter] = []
        self._key = self.default_key if key is None else key
        self._held = self._open(seed, vectorize)

    @abstractmethod
    def _open(self, seed: int, vectorize: tuple[float, float]) -> Holdings[Any]:
        """What it holds at first."""

    @property
    def behaviour(self) -> Any:
        """How it always is."""
        return self._held.behaviour

    @property
    def violations(self) -> list[str]:
        """What was done against its rules."""
        return self._held.violations

    def routed(self, request: Request) -> tuple[str, dict[str, str]]:
        """The operation, "" for an unknown route, and the named pieces of the path."""
        for method, pattern, op in self.routes:
            if method == request.method and (found := pattern.fullmatch(request.path)):
                return op, found.groupdict()
        return "", {}

    def op(self, request: Request) -> str:
        """The operation's name, "" for an unknown route."""
        return self.routed(request)[0]

    @abstractmethod
    def subject(self, request: Request) -> str:
        """The names of the documents that it is about, joined with ` | `."""

    def answer(self, request: Request, fault: Fault | None) -> Response:
        """What the service would answer."""
        (op, pieces), fault = self.routed(request), fault or Fault("")
        if "cookie" in request.headers:
            self.violations.append("a cookie was sent")
        try:
            return self._answered(op, pieces, request, fault)
        except Refused as refused:
            if isinstance(refused, Breach):
                self.violations.append(f"{op}: {refused}")
            return self._refused(refused, fault)

    @abstractmethod
    def _answered(self, op: str, pieces: Mapping[str, str], request: Request, fault: Fault) -> Response:
        """The same. Raises `Refused`."""

    @abstractmethod
    def _refused(self, refused: Refused, fault: Fault) -> Response:
        """How the service says it."""

    def _is_known(self, request: Request) -> bool:
        """The key is the right one, and still taken."""
        is_right = request.headers.get("authorization") == f"Bearer {self._key}"
        return is_right and not self.behaviour.key_revoked

    def set_behaviour(self, switches: Mapping[str, Any]) -> None:
        """Raises `ValueError` for an unknown switch or a wrong value."""
        self._held.turn(switches)

    @abstractmethod
    def snapshot(self) -> dict[str, Any]:
        """Everything it holds, for tests."""

    def journal(self) -> list[dict[str, Any]]:
        """Effects in order; what others delete is `foreign-deleted`."""
        return list(self._held.journal)

    def reset(self) -> None:
        """One empty base again."""
        self._held.reset()

    def put_foreign(self, args: dict[str, Any]) -> dict[str, Any]:
        """`{"name", "text"}` and what `_store_foreign` knows stores a document of somebody else's,
        `{"delete": id or name}` deletes any. Raises `ValueError`."""
        if "delete" in args:
            for one in self._held.present():
                if args["delete"] in (one.id, one.name):
                    self._held.delete(one, "foreign-deleted")
                    return {"id": one.id}
            raise ValueError(f"there is no document {args['delete']!r}")
        name, text = args.get("name"), args.get("text", "")
        if not isinstance(name, str) or not name or not isinstance(text, str):
            raise ValueError('somebody else stores {"name": "guide.md", "text": "…"}')
        return {"id": self._store_foreign(name, text.encode(), args)}

    @abstractmethod
    def _store_foreign(self, name: str, content: bytes, args: Mapping[str, Any]) -> str:
        """A document of somebody else's in the base; its id."""

    def config_hint(self, url: str) -> str:
        """A mirror into the base that is here."""
        lines = (f"type: {self.name}", f"base_url: {url}{self.api}", f"api_key: {self._key}", self.home)
        target = "".join(f"      {line}\n" for line in lines if line)
        return f"mirrors:\n  - name: handbook\n    folder: ./handbook\n    target:\n{target}"
