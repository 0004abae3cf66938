"""The application class of every service: what all of them hold, check, play and show.

A service adds its calls, its documents, its refusals, and how its answers are written.
"""

from __future__ import annotations

import hashlib
import random
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Protocol, TypeVar

from kbsync_standin.faults import Fault, hits
from kbsync_standin.forms import filename_in
from kbsync_standin.listing import page_of
from kbsync_standin.messages import Letter, Request, Response, StandInClock
from kbsync_standin.rules import Breach, Refused, Rules, Test, as_word, number_in
from kbsync_standin.switches import changed

Json = dict[str, Any]
BaseState = Literal["present", "deleted", "recreated", "emptied"]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The switches of every service: how it always is. Durations are seconds of the stand-in's clock.

    vectorize: least and most seconds until a document's status is final.
    list_lag: so long the list lacks a new document and still has a deleted one.
    page_cap: a larger page is silently cut to it; 0: no cap.
    page_beyond: what a page after the last shows: nothing, or the last page again.
    extra_fields: unknown fields in every object.
    key_revoked: no request is let in.
    base: the knowledge base that is there from the start is `present`; `deleted` with all in it (and back
        with `present`); `recreated` by others under another id, empty; or `emptied` by others.
    """

    vectorize: tuple[float, float] = (0.0, 0.0)
    list_lag: float = 0.0
    page_cap: int = 0
    page_beyond: Literal["empty", "repeats"] = "empty"
    extra_fields: bool = False
    key_revoked: bool = False
    base: BaseState = "present"


@dataclass(slots=True, kw_only=True, eq=False)
class Document:
    """A document. `name` is the one kept, `sent_name` the one that came.

    `base`: the id of its knowledge base. `ready_at` None: its status is never final. `error`: it fails then.
    """

    id: str
    name: str
    content: bytes
    created: float
    base: str = ""
    sent_name: str = ""
    ready_at: float | None = None
    error: str = ""
    is_foreign: bool = False
    deleted_at: float | None = None
    sha256: str = ""

    def __post_init__(self) -> None:
        """Equal names, and the digest of the content."""
        self.sent_name = self.sent_name or self.name
        self.rewrite(self.content)

    def rewrite(self, content: bytes) -> None:
        """Another content."""
        self.content, self.sha256 = content, hashlib.sha256(content).hexdigest()

    @property
    def is_deleted(self) -> bool:
        """It is there no more."""
        return self.deleted_at is not None

    @property
    def text(self) -> str:
        """What a search looks into."""
        return self.content.decode("utf-8", "replace")

    def is_over(self, now: float) -> bool:
        """Its status is final."""
        return self.ready_at is not None and self.ready_at <= now


@dataclass(slots=True, eq=False)
class Base:
    """A knowledge base. `settings`: with which it was made."""

    id: str
    name: str
    description: str = ""
    created: float = 0.0
    settings: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """A request: its operation ("": none), the ids in its path, and the fault that is played in it."""

    request: Request
    op: str
    ids: Mapping[str, str]
    fault: Fault

    @property
    def query(self) -> Mapping[str, str]:
        """Its parameters."""
        return self.request.query

    @property
    def origin(self) -> str:
        """Where the client reaches the service, such as `http://127.0.0.1:8080`."""
        return f"http://{self.request.headers.get('host', '127.0.0.1')}"

    def plays(self, kind: str, name: str | None = None) -> bool:
        """A fault of this kind is played, on a document of this name."""
        return self.fault.kind == kind and (name is None or hits(self.fault, kind, name))

    def arg(self, name: str, default: Any = None) -> Any:
        """An argument of the fault, or `default`."""
        return self.fault.args.get(name, default)

    def distort(self, kind: str, row: Json, name: str) -> Json:
        """The row; a fault of this kind has another `value` of its field, or with `missing` none."""
        if not self.plays(kind):
            return row
        rest = {key: value for key, value in row.items() if key != name}
        return rest if self.arg("missing") else {**rest, name: self.arg("value")}

    def word(self, name: str, default: str) -> str:
        """The same as a word, null as `null`."""
        return as_word(self.arg(name, default))

    def body(self, tests: Mapping[str, Test], *needed: str, status: int = 400) -> Json:
        """A JSON object of no fields but these. Raises `Breach`, with `status`."""
        return Rules().body(self.request.body, tests, needed, status)

    def page(self, size: str, usual: int, least: int = 1, most: int = 10**9) -> tuple[int, int]:
        """Number and size of the page that is asked for; `size`: the parameter. Raises `Breach`."""
        return number_in(self.query, "page", 1), number_in(self.query, size, usual, least, most)


UNPLAYED = Call(Request(0, "", "", "", {}, {}), "", {}, Fault(""))
"""In which no fault is played: what others do."""


class HasTimes(Protocol):
    """What can be in a list."""

    created: float
    deleted_at: float | None


class Route(NamedTuple):
    """`path` as documented, `{word}` being a piece that varies; `pattern`: of the whole path."""

    method: str
    path: str
    op: str
    pattern: re.Pattern[str]
    handler: Callable[[Any, Call], Any]


H = TypeVar("H", bound=Callable[..., Any])


def route(method: str, path: str, op: str) -> Callable[[H], H]:
    """Let a method of an application answer such requests, as the operation `op`.

    It gets the `Call`, and returns a `Response` or what `respond` makes one of. Raises `Refused`.
    """

    def mark(handler: H) -> H:
        handler.__dict__.setdefault("answers", []).append((method, path, op))
        return handler

    return mark


def shared_words(question: str, text: str) -> float:
    """Which part of the question's words is in the text."""
    words = set(re.findall(r"\w+", question.lower()))
    return len(words & set(re.findall(r"\w+", text.lower()))) / max(1, len(words))


B = TypeVar("B", bound=Behaviour)
S = TypeVar("S", bound=Document)
L = TypeVar("L", bound=HasTimes)
T = TypeVar("T")


class Application(ABC, Generic[B, S]):
    """One account at a service, in memory, with one empty knowledge base at first. Asked by one thread at a
    time.

    What a client does against the rules of the service is answered as the service would, and noted in
    `violations`. `letters`: what the service sends by itself, to be taken from there.

    Of the class: `kinds`: faults it plays itself, each with one line of explanation. `default_key`: the key
    it takes where none is given. `api`: what `base_url` has behind the address. `home_id`, `home_name`: the
    base that is there at first, `home_key` its key in a config. `prefixes`: how paths begin → what comes
    before them. `piece`: a piece of a path that varies. `id_form`: of documents. `refusals`: what a fault is
    refused with, nothing done. `usual_failure`: what `failure` says where the fault does not.
    """

    name: ClassVar[str]
    kinds: ClassVar[Mapping[str, str]]
    switches: ClassVar[type[Any]] = Behaviour
    default_key: ClassVar[str]
    api: ClassVar[str] = ""
    home_id: ClassVar[str] = ""
    home_name: ClassVar[str] = "handbook"
    home_key: ClassVar[str] = ""
    prefixes: ClassVar[Mapping[str, str]] = {"": ""}
    piece: ClassVar[str] = "[^/]+"
    id_form: ClassVar[str] = r"(?!)"
    refusals: ClassVar[Mapping[str, Refused]] = {}
    usual_failure: ClassVar[Mapping[str, Any]] = {"code": 500, "message": ""}
    routes: ClassVar[Sequence[Route]] = ()

    behaviour: B

    def __init_subclass__(cls) -> None:
        """Its routes are those of its methods; one with a `{word}` is tried last."""
        super().__init_subclass__()
        routes = [
            Route(method, path, op, cls._pattern(path), handler)
            for part in reversed(cls.__mro__)
            for handler in vars(part).values()
            for method, path, op in getattr(handler, "answers", ())
        ]
        cls.routes = sorted(routes, key=lambda one: "{" in one.path)

    @classmethod
    def _pattern(cls, path: str) -> re.Pattern[str]:
        before = next(before for begins, before in cls.prefixes.items() if path.startswith(begins))
        return re.compile(before + re.sub(r"\{(\w+)\}", rf"(?P<\1>{cls.piece})", path))

    def __init__(
        self,
        key: str | None = None,
        seed: int = 0,
        vectorize: tuple[float, float] = (0.0, 0.0),
        clock: StandInClock | None = None,
    ) -> None:
        """`key`: the only one it takes. `seed`: of everything left to chance. `vectorize`: the switch, at
        first. `clock`: real time by default. Raises `ValueError` for a wrong `vectorize`."""
        self.clock = clock or StandInClock()
        self.letters: list[Letter] = []
        self.violations: list[str] = []
        self._key = self.default_key if key is None else key
        self._seed = seed
        self._first: B = self._changed(self.switches(), {"vectorize": vectorize})
        self.reset()

    def reset(self) -> None:
        """As at the start, switches included."""
        self.behaviour = self._first
        self.chance = random.Random(self._seed)  # noqa: S311 - what it decides has to be repeatable
        self.letters.clear()
        self.violations.clear()
        self._journal: list[Json] = []
        self._count = 0
        self.documents: dict[str, S] = {}
        self._withdrawn: dict[str, S] = {}
        self.bases: dict[str, Any] = {}
        self.begin()

    def begin(self) -> None:
        """Hold what is there at first."""
        if self.home_id:
            self.add_home(self.home_id)

    @property
    def now(self) -> float:
        """Seconds since the epoch by the stand-in's clock."""
        return self.clock.now()

    def count(self) -> int:
        """1, 2, 3 and so on."""
        self._count += 1
        return self._count

    # -- switches

    def _changed(self, behaviour: B, switches: Mapping[str, Any]) -> B:
        """Raises `ValueError` for an unknown switch or a wrong value."""
        return changed(behaviour, switches)

    def set_behaviour(self, switches: Mapping[str, Any]) -> None:
        """Change switches. Raises `ValueError` for an unknown one or a wrong value; then none is changed."""
        before, self.behaviour = self.behaviour, self._changed(self.behaviour, switches)
        if self.behaviour.base != before.base:
            self.change_base(self.behaviour.base)

    def change_base(self, state: str) -> None:
        """Others do to the base that is there from the start what the switch `base` says.

        One that is deleted comes back with its documents.
        """
        ours = {key: one for key, one in self.documents.items() if one.base == self.home_id} | self._withdrawn
        # Without them it is as if none of its documents had ever been there.
        others = {key: one for key, one in self.documents.items() if key not in ours}
        self.documents = others | ours if state == "present" else others
        self._withdrawn = ours if state == "deleted" else {}
        if state == "recreated":
            self.bases.pop(self.home_id, None)
            self.add_home(self.new_id())

    # -- what it holds

    def new_id(self) -> str:
        """Of a base or a document."""
        raise NotImplementedError

    def new_base(self, base_id: str, name: str, description: str, settings: Mapping[str, Any]) -> Any:
        """A base that is not there yet."""
        return Base(base_id, name, description, self.now, dict(settings))

    def add_home(self, base_id: str) -> None:
        """The base that mirrors go into."""
        self.bases[base_id] = self.new_base(base_id, self.home_name, "", {})

    def make_base(self, name: str, description: str = "", **settings: Any) -> Any:
        """One more, which a client makes."""
        made = self.new_base(self.new_id(), name, description, settings)
        self.bases[made.id] = made
        self._record("base-made", made.id, name)
        return made

    def visible_bases(self) -> dict[str, Any]:
        """Those that can be seen, the oldest first."""
        is_gone = self.behaviour.base == "deleted"
        return {key: one for key, one in self.bases.items() if not (is_gone and key == self.home_id)}

    def present(self) -> Iterable[S]:
        """Documents that were not deleted, the oldest first."""
        return [one for one in self.documents.values() if not one.is_deleted]

    def documents_of(self, base_id: str) -> list[S]:
        """Those of one base."""
        return [one for one in self.present() if one.base == base_id]

    def add(self, one: S, effect: str = "stored") -> S:
        """A new document."""
        self.documents[one.id] = one
        self.record(effect, one)
        return one

    def delete(self, one: S, effect: str = "deleted") -> None:
        """A document that is there; `effect`: its word in the journal."""
        one.deleted_at = self.now
        self.record(effect, one)

    def ready_at(self, call: Call = UNPLAYED, name: str = "") -> float | None:
        """When a document that is made now is ready; None where the fault `stuck` is played on its name."""
        ready = self.now + self.chance.uniform(*self.behaviour.vectorize)
        return None if call.plays("stuck", name) else ready

    def record(self, effect: str, one: S, **more: Any) -> None:
        """Into the journal."""
        self._record(effect, one.id, one.sent_name, one.sha256, **more)

    def _record(self, effect: str, key: str, name: str, sha256: str = "", **more: Any) -> None:
        entry = {"n": len(self._journal) + 1, "at": self.now, "effect": effect, "id": key, "name": name}
        self._journal.append({**entry, "sha256": sha256, **more})

    def catch_up(self) -> None:
        """What is done in the background by now."""

    # -- lists and searches

    def visible(self, documents: Iterable[L]) -> list[L]:
        """Of all that ever were, those that a list shows which lags behind."""
        now, lag = self.now, self.behaviour.list_lag
        return [
            one
            for one in documents
            if one.created + lag <= now and (one.deleted_at is None or now < one.deleted_at + lag)
        ]

    def page(self, rows: Sequence[T], number: int, size: int, *, shift: int = 0) -> Sequence[T]:
        """The page `number` of these, from 1 on, as the switches have it. `shift` as in `page_of`."""
        size = min(size, self.behaviour.page_cap or size)
        return page_of(rows, number, size, repeats=self.behaviour.page_beyond == "repeats", shift=shift)

    def rank(self, question: str, documents: Iterable[S]) -> list[tuple[float, S]]:
        """Those that share words with the question, the best first, each with which part of its words."""
        rows = [(share, one) for one in documents if (share := shared_words(question, one.text))]
        return sorted(rows, key=lambda row: -row[0])

    # -- requests

    def route_of(self, request: Request) -> tuple[Route | None, dict[str, str]]:
        """The route, None for an unknown one, and the pieces of the path that vary."""
        for one in self.routes:
            if one.method == request.method and (match := one.pattern.fullmatch(request.path)):
                return one, match.groupdict()
        return None, {}

    def op(self, request: Request) -> str:
        """The operation's name, "" for an unknown route. Asked before the body is read."""
        known, _ = self.route_of(request)
        return known.op if known else ""

    def subject(self, request: Request) -> str:
        """The names of the documents that it is about, as they were sent, joined with ` | `.

        May be asked with the beginning of a body only, and more than once: "" for what cannot be made out.
        """
        if self.op(request) == "upload":
            return filename_in(request.body)
        text = f"{request.raw_target} {request.body.decode('utf-8', 'replace')}"
        ids = dict.fromkeys(re.findall(self.id_form, text))
        return " | ".join(self.documents[one].sent_name for one in ids if one in self.documents)

    def answer(self, request: Request, fault: Fault | None) -> Response:
        """Do the work and answer. `fault` is None or of one of its own `kinds`, to be played."""
        known, ids = self.route_of(request)
        op = known.op if known else ""
        call = Call(request, op, ids, self.check_fault(fault or Fault(""), op))
        try:
            return self._answered(call, known)
        except Refused as refused:
            if isinstance(refused, Breach):
                self.record_violation(request, str(refused))
            answer = refused.response or self.refusal(refused, call)
            after = call.fault.args.get("retry_after")
            return answer if after is None else answer.having(retry_after=str(after))

    def check_fault(self, fault: Fault, op: str) -> Fault:
        """The fault that is played in a request of this operation."""
        return fault

    def record_violation(self, request: Request, sentence: str) -> None:
        """Note what a request has against the rules."""
        name = self.subject(request)
        about = f" ({name})" if name else ""
        self.violations.append(f"{request.method} {request.path}{about}: {sentence}")

    def _answered(self, call: Call, known: Route | None) -> Response:
        self.catch_up()
        self.admit(call)
        if known is None:
            raise self.no_route(call)
        self.check_head(call)
        if (refusal := self.refusals.get(call.fault.kind)) is not None:
            raise refusal
        if self.moment_of_failure(call.fault) == "before":
            return self.failure(call.fault)
        value = known.handler(self, call)
        self.catch_up()
        if self.moment_of_failure(call.fault) == "after":
            return self.failure(call.fault)
        return value if isinstance(value, Response) else self.respond(value, call)

    def is_known(self, request: Request) -> bool:
        """The key is the right one, and still taken."""
        is_right = request.headers.get("authorization") == f"Bearer {self._key}"
        return is_right and not self.behaviour.key_revoked

    def admit(self, call: Call) -> None:
        """Raises `Refused` for a key that is not known."""
        if not self.is_known(call.request):
            raise self.refusals["unauthorized"]

    def check_head(self, call: Call) -> None:
        """Beside the key."""
        if "cookie" in call.request.headers:
            self.record_violation(call.request, "a cookie was sent")

    def no_route(self, call: Call) -> Refused:
        """What an unknown route is answered with."""
        return Refused("Not Found", 404, 404)

    @abstractmethod
    def refusal(self, refused: Refused, call: Call) -> Response:
        """How the service says it."""

    def moment_of_failure(self, fault: Fault) -> str:
        """`before` or `after` the work the fault answers with an error; "" for another fault."""
        kind, _, after = fault.kind.partition("-")
        return {"": "before", "after": "after"}.get(after, "") if kind in ("error", "code") else ""

    def failure(self, fault: Fault) -> Response:
        """The error that a fault answers with: a code, which may be written as a text."""
        code, message = (fault.args.get(name, usual) for name, usual in self.usual_failure.items())
        body = {"code": str(code) if fault.args.get("as_string") else code, "message": message}
        return Response.json(body, int(fault.args.get("status", 200)))

    def respond(self, value: Any, call: Call) -> Response:
        """The answer; a fault of the kind `shape` has an empty object, nulls or null of it."""
        if call.plays("shape"):
            form = str(call.fault.args.get("form", "object"))
            return Response.json({"object": {}, "nulls": self.nulls(value), "null": None}[form])
        return Response.json(self.add_extra_fields(value))

    def nulls(self, value: Any) -> Any:
        """Each of its fields is a list with null in it, or all of it is."""
        return {key: [None] for key in value} if isinstance(value, dict) else [None]

    def add_extra_fields(self, value: Any) -> Any:
        """With unknown fields where the switch says so."""
        is_more = self.behaviour.extra_fields and isinstance(value, dict)
        return {**value, "surprise": {"a": [1]}} if is_more else value

    # -- for tests

    def snapshot(self) -> Json:
        """Everything it holds, deleted documents too."""
        self.catch_up()
        documents = [self.describe(one) for one in self.documents.values()]
        return {
            "documents": documents,
            "bases": [self.describe_base(one) for one in self.visible_bases().values()],
        }

    def describe(self, one: S) -> Json:
        """A document as tests see it: what is really there, whatever clients are told."""
        told = {key: getattr(one, key) for key in ("id", "name", "sent_name", "base", "sha256")}
        return {**told, "foreign": one.is_foreign, "deleted": one.is_deleted}

    def describe_base(self, one: Any) -> Json:
        """The same of a base."""
        return {"id": one.id, "name": one.name, "settings": one.settings}

    def journal(self) -> list[Json]:
        """Effects in order: what became of what, and when; what others delete is `foreign-deleted`."""
        self.catch_up()
        return list(self._journal)

    def put_foreign(self, args: Json) -> Json:
        """`{"name", "text"}` and what `store_foreign` knows stores a document of somebody else's,
        `{"delete": id or name}` deletes any. Raises `ValueError`."""
        if "delete" in args:
            for one in self.present():
                if args["delete"] in (one.id, one.name, one.sent_name):
                    self.delete(one, "foreign-deleted")
                    return self.describe(one)
            raise ValueError(f"there is no document {args['delete']!r}")
        name, text = args.get("name"), args.get("text", "")
        if not isinstance(name, str) or not name or not isinstance(text, str):
            raise ValueError('somebody else stores {"name": "guide.md", "text": "…"}')
        one = self.store_foreign(name, text.encode(), args)
        one.is_foreign = True
        return self.describe(one)

    @abstractmethod
    def store_foreign(self, name: str, content: bytes, args: Mapping[str, Any]) -> S:
        """A document of somebody else's in the base."""

    def config_hint(self, url: str) -> str:
        """The config of a mirror into the base that is here, at the server under `url`."""
        home = f'{self.home_key}: "{self.home_id}"' if self.home_key else ""
        lines = (f"type: {self.name}", f"base_url: {url}{self.api}", f"api_key: {self._key}", home)
        target = "".join(f"      {line}\n" for line in lines if line)
        return f"mirrors:\n  - name: handbook\n    folder: ./handbook\n    target:\n{target}"
