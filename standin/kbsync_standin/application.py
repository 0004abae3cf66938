"""The base class of every service: its documents, request checks, faults and the state that tests read.

A service adds its calls, its kind of document, its refusals and the format of its responses.
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
from kbsync_standin.rules import Refused, Test, Violation, as_word, number_in, parse_body, require
from kbsync_standin.switches import changed

Json = dict[str, Any]
BaseState = Literal["present", "deleted", "recreated", "emptied"]


@dataclass(frozen=True, slots=True)
class Behaviour:
    """The switches that every service has. Durations are seconds of the stand-in's clock.

    vectorize: the shortest and longest time until a document's status is final.
    list_lag: how long the list misses a new document and still shows a deleted one.
    page_cap: larger pages are silently cut to this size; 0: no cap.
    page_beyond: whether a page after the last is empty or repeats the last page.
    extra_fields: every object has unknown fields.
    key_revoked: every request is refused.
    base: the state of the initial knowledge base: `present`; `deleted` with its documents, which return with
        `present`; `recreated` by others, empty and with another id; or `emptied` by others.
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
    """A document. `name` is the stored name, `sent_name` the name in the request.

    `base`: the id of its knowledge base. `ready_at` None: its status never becomes final. `error`: the reason
    it fails with.
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
        """Fill in the sent name and the content's digest."""
        self.sent_name = self.sent_name or self.name
        self.rewrite(self.content)

    def rewrite(self, content: bytes) -> None:
        """Replace the content."""
        self.content, self.sha256 = content, hashlib.sha256(content).hexdigest()

    @property
    def is_deleted(self) -> bool:
        """Whether the document is deleted."""
        return self.deleted_at is not None

    @property
    def text(self) -> str:
        """The text that searches read."""
        return self.content.decode("utf-8", "replace")

    def is_over(self, now: float) -> bool:
        """Return whether its status is final."""
        return self.ready_at is not None and self.ready_at <= now

    def is_searchable(self, now: float) -> bool:
        """Return whether searches may find it."""
        return self.is_over(now) and not self.error and not self.is_deleted


@dataclass(slots=True, eq=False)
class Base:
    """A knowledge base. `settings`: the settings it was created with."""

    id: str
    name: str
    description: str = ""
    created: float = 0.0
    settings: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Call:
    """A request with its operation ("": none), the ids in its path, and the fault to inject."""

    request: Request
    op: str
    ids: Mapping[str, str]
    fault: Fault

    @property
    def query(self) -> Mapping[str, str]:
        """The request's query parameters."""
        return self.request.query

    @property
    def origin(self) -> str:
        """The address at which the client reaches the service, such as `http://127.0.0.1:8080`."""
        return f"http://{self.request.headers.get('host', '127.0.0.1')}"

    def plays(self, kind: str, name: str | None = None) -> bool:
        """Return whether the request's fault is of this kind and applies to a document of this name."""
        return self.fault.kind == kind and (name is None or hits(self.fault, kind, name))

    def arg(self, name: str, default: Any = None) -> Any:
        """Return an argument of the fault, or `default`."""
        return self.fault.args.get(name, default)

    def distort(self, kind: str, row: Json, name: str) -> Json:
        """Return the row; a fault of this kind replaces the value of one field, or removes it with
        `missing`.
        """
        if not self.plays(kind):
            return row
        other_fields = {key: value for key, value in row.items() if key != name}
        return other_fields if self.arg("missing") else {**other_fields, name: self.arg("value")}

    def args_of(self, kind: str) -> Mapping[str, Any]:
        """Return the arguments of a fault of this kind; none if the request has another fault."""
        return self.fault.args if self.plays(kind) else {}

    def word(self, name: str, default: str) -> str:
        """Return an argument of the fault as a string, null as `null`."""
        return as_word(self.arg(name, default))

    def body(self, tests: Mapping[str, Test], *needed: str, status: int = 400) -> Json:
        """Parse a JSON object that has no other fields than these. Raises `Violation` with `status`."""
        kind = self.request.headers.get("content-type", "").partition(";")[0].strip().lower()
        require(kind == "application/json", f"the content type is {kind!r:.80}, not application/json", status)
        return parse_body(self.request.body, tests, needed, status)

    def page(self, size: str, usual: int, least: int = 1, most: int = 10**9) -> tuple[int, int]:
        """Return number and size of the requested page; `size` names the parameter. Raises `Violation`."""
        return number_in(self.query, "page", 1), number_in(self.query, size, usual, least, most)


NO_FAULT = Call(Request("", "", "", {}, {}), "", {}, Fault(""))
"""A call without a fault, for changes that other users make."""


class HasTimes(Protocol):
    """A row that a list can show."""

    created: float
    deleted_at: float | None


class Route(NamedTuple):
    """A route: `path` as documented, with `{word}` for each variable part; `pattern` matches the whole
    path.
    """

    method: str
    path: str
    op: str
    pattern: re.Pattern[str]
    handler: Callable[[Any, Call], Any]


H = TypeVar("H", bound=Callable[..., Any])


def route(method: str, path: str, op: str) -> Callable[[H], H]:
    """Register a method of an application as the handler of these requests, under the operation name `op`.

    The method gets the `Call`, and returns a `Response` or a value for `respond`. It may raise `Refused`.
    """

    def mark(handler: H) -> H:
        handler.__dict__.setdefault("answers", []).append((method, path, op))
        return handler

    return mark


CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORDS = re.compile(f"[{CJK}]+|[^\\W_{CJK}]+")
_FIRST_CJK = "\u3040"


def words_of(text: str) -> frozenset[str]:
    """Return the lower-case words of `text`; for Chinese, Japanese and Korean every pair of adjacent
    characters.
    """
    words: set[str] = set()
    for run in _WORDS.findall(text.lower()):
        if run[0] < _FIRST_CJK or len(run) == 1:
            words.add(run)
        else:
            words.update(run[position : position + 2] for position in range(len(run) - 1))
    return frozenset(words)


def shared_words(question: str, text: str) -> float:
    """Return the share of the question's words that the text has."""
    words = words_of(question)
    return len(words & words_of(text)) / max(1, len(words))


B = TypeVar("B", bound=Behaviour)
S = TypeVar("S", bound=Document)
L = TypeVar("L", bound=HasTimes)
T = TypeVar("T")


class Application(ABC, Generic[B, S]):
    """One account at a service, kept in memory, with one empty knowledge base at first.

    Call it from one thread at a time.

    Requests against the service's rules get the service's own refusal and are added to `violations`.
    `letters`: requests that the service sends by itself; the server takes them from there.

    Class attributes: `kinds`: the faults that it injects itself, each with one line of explanation.
    `default_key`: its API key unless another one is set. `api`: the path that follows the address in
    `base_url`. `home_id`, `home_name`: the initial base; `home_key`: the config key for its id. `prefixes`:
    the beginning of a path → the prefix that goes before it. `piece`: the pattern for one variable part of a
    path. `id_form`: the pattern of document ids. `refusals`: faults that only refuse the request → the
    refusal. `usual_failure`: the default arguments of faults that `failure` answers.
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
        """Collect the routes from the class's methods; routes with a `{word}` are tried last."""
        super().__init_subclass__()
        routes = [
            Route(method, path, op, cls._pattern(path), handler)
            for part in reversed(cls.__mro__)
            for handler in vars(part).values()
            for method, path, op in getattr(handler, "answers", ())
        ]
        cls.routes = sorted(routes, key=lambda candidate: "{" in candidate.path)

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
        """Start with `key` as the only valid API key and `vectorize` as that switch's initial value.

        `seed`: for all random choices. `clock`: real time by default. Raises `ValueError` for a wrong
        `vectorize`.
        """
        self.clock = clock or StandInClock()
        self.letters: list[Letter] = []
        self.violations: list[str] = []
        self._key = self.default_key if key is None else key
        self._seed = seed
        self._first: B = changed(self.switches(), {"vectorize": vectorize})
        self.reset()

    def reset(self) -> None:
        """Restore the initial state, switches included."""
        self.behaviour = self._first
        self.chance = random.Random(self._seed)  # noqa: S311 - tests need repeatable choices
        self.letters.clear()
        self.violations.clear()
        self._journal: list[Json] = []
        self._count = 0
        self.documents: dict[str, S] = {}
        self._withdrawn: dict[str, S] = {}
        self.bases: dict[str, Any] = {}
        self.begin()

    def begin(self) -> None:
        """Create the initial contents."""
        if self.home_id:
            self.add_home(self.home_id)

    @property
    def now(self) -> float:
        """The stand-in's time in seconds since the epoch."""
        return self.clock.now()

    def count(self) -> int:
        """Return 1, 2, 3 and so on."""
        self._count += 1
        return self._count

    # -- switches

    def set_behaviour(self, switches: Mapping[str, Any]) -> None:
        """Change switches. Raises `ValueError` and changes none if one is unknown or has a wrong value."""
        before, self.behaviour = self.behaviour, changed(self.behaviour, switches)
        if self.behaviour.base != before.base:
            self.change_base(self.behaviour.base)

    def change_base(self, state: str) -> None:
        """Change the initial base as another user would, to the state of the switch `base`.

        A deleted base returns with its documents.
        """
        ours = {
            key: document for key, document in self.documents.items() if document.base == self.home_id
        } | self._withdrawn
        # A base in any other state shows none of its earlier documents.
        others = {key: document for key, document in self.documents.items() if key not in ours}
        self.documents = others | ours if state == "present" else others
        self._withdrawn = ours if state == "deleted" else {}
        if state == "recreated":
            self.bases.pop(self.home_id, None)
            self.add_home(self.new_id())

    # -- contents

    def new_id(self) -> str:
        """Return a new id for a base or a document."""
        raise NotImplementedError

    def new_base(self, base_id: str, name: str, description: str, settings: Mapping[str, Any]) -> Any:
        """Return a new base object without adding it."""
        return Base(base_id, name, description, self.now, dict(settings))

    def add_home(self, base_id: str) -> None:
        """Add the initial base, which mirrors use."""
        self.bases[base_id] = self.new_base(base_id, self.home_name, "", {})

    def add_base(self, name: str, description: str = "", **settings: Any) -> Any:
        """Create a base for a client."""
        base = self.new_base(self.new_id(), name, description, settings)
        self.bases[base.id] = base
        self._record("base-created", base.id, name)
        return base

    def drop_base(self, base_id: str) -> None:
        """Delete a base with its documents."""
        self.empty(base_id, "deleted-with-base")
        self.bases.pop(base_id, None)

    def empty(self, base_id: str, effect: str) -> None:
        """Delete every document in a base; `effect` names the events in the journal."""
        for document in self.documents_of(base_id):
            self.delete(document, effect)

    def visible_bases(self) -> dict[str, Any]:
        """Return the bases that clients can see, oldest first."""
        is_base_deleted = self.behaviour.base == "deleted"
        return {
            key: base for key, base in self.bases.items() if not (is_base_deleted and key == self.home_id)
        }

    def present(self) -> Iterable[S]:
        """Return the documents that aren't deleted, oldest first."""
        return [document for document in self.documents.values() if not document.is_deleted]

    def documents_of(self, base_id: str) -> list[S]:
        """Return the documents of one base."""
        return [document for document in self.present() if document.base == base_id]

    def add(self, document: S, effect: str = "stored") -> S:
        """Add a document."""
        self.documents[document.id] = document
        self.record(effect, document)
        return document

    def delete(self, document: S, effect: str = "deleted") -> None:
        """Delete a document; `effect` names the event in the journal."""
        document.deleted_at = self.now
        self.record(effect, document)

    def ready_at(self, call: Call = NO_FAULT, name: str = "") -> float | None:
        """Return when a document created now becomes ready; None if the fault `stuck` applies to its name."""
        ready = self.now + self.chance.uniform(*self.behaviour.vectorize)
        return None if call.plays("stuck", name) else ready

    def record(self, effect: str, document: S, **more: Any) -> None:
        """Add an event to the journal."""
        self._record(effect, document.id, document.sent_name, document.sha256, **more)

    def _record(self, effect: str, key: str, name: str, sha256: str = "", **more: Any) -> None:
        entry = {"n": len(self._journal) + 1, "at": self.now, "effect": effect, "id": key, "name": name}
        self._journal.append({**entry, "sha256": sha256, **more})

    def catch_up(self) -> None:
        """Finish the background work that is due."""

    # -- lists and searches

    def visible(self, documents: Iterable[L]) -> list[L]:
        """Return the documents that a lagging list shows, from all that ever existed."""
        now, lag = self.now, self.behaviour.list_lag
        return [
            document
            for document in documents
            if document.created + lag <= now
            and (document.deleted_at is None or now < document.deleted_at + lag)
        ]

    def list_of(self, base_id: str, call: Call) -> list[S]:
        """Return the documents that the list of a base shows; the fault `left-out` hides some."""
        visible = self.visible(document for document in self.documents.values() if document.base == base_id)
        return [document for document in visible if not call.plays("left-out", document.name)]

    def page(self, rows: Sequence[T], number: int, size: int, *, shift: int = 0) -> Sequence[T]:
        """Return the page `number`, counted from 1, as the switches define pages. `shift` as in `page_of`."""
        size = min(size, self.behaviour.page_cap or size)
        return page_of(rows, number, size, repeats=self.behaviour.page_beyond == "repeats", shift=shift)

    def rank(self, question: str, documents: Iterable[S]) -> list[tuple[float, S]]:
        """Return the searchable documents that share words with the question, best first, each with its share
        of the words.
        """
        rows = [
            (share, document)
            for document in documents
            if document.is_searchable(self.now) and (share := shared_words(question, document.text))
        ]
        return sorted(rows, key=lambda row: -row[0])

    # -- requests

    def route_of(self, request: Request) -> tuple[Route | None, dict[str, str]]:
        """Return the route (None if unknown) and the variable parts of the path."""
        for candidate in self.routes:
            if candidate.method == request.method and (match := candidate.pattern.fullmatch(request.path)):
                return candidate, match.groupdict()
        return None, {}

    def op(self, request: Request) -> str:
        """Return the operation's name, "" for an unknown route. Called before the body is read."""
        route, _ = self.route_of(request)
        return route.op if route else ""

    def subject(self, request: Request) -> str:
        """Return the sent names of the documents that the request is about, joined with ` | `.

        It may be called more than once and with only the beginning of a body; "" if no name is known.
        """
        if self.op(request) == "upload":
            return filename_in(request.body)
        text = f"{request.raw_target} {request.body.decode('utf-8', 'replace')}"
        ids = dict.fromkeys(re.findall(self.id_form, text))
        return " | ".join(self.documents[key].sent_name for key in ids if key in self.documents)

    def answer(self, request: Request, fault: Fault | None) -> Response:
        """Do the work and return the response. `fault` is None or one of the application's own `kinds`."""
        route, ids = self.route_of(request)
        op = route.op if route else ""
        call = Call(request, op, ids, fault or Fault(""))
        try:
            return self._respond(call, route)
        except Refused as refused:
            if isinstance(refused, Violation):
                self.record_violation(request, str(refused))
            response = refused.response or self.refusal(refused, call)
            after = call.fault.args.get("retry_after")
            return response if after is None else response.having(retry_after=str(after))

    def record_violation(self, request: Request, sentence: str) -> None:
        """Record how a request breaks the rules."""
        name = self.subject(request)
        about = f" ({name})" if name else ""
        self.violations.append(f"{request.method} {request.path}{about}: {sentence}")

    def _respond(self, call: Call, route: Route | None) -> Response:
        self.catch_up()
        self.admit(call)
        if route is None:
            raise self.no_route(call)
        self.check_head(call)
        if (refusal := self.refusals.get(call.fault.kind)) is not None:
            raise refusal
        moment = self.moment_of_failure(call.fault)
        if moment == "before" or (moment and not call.fault.effect):
            return self.failure(call.fault)
        value = route.handler(self, call)
        self.catch_up()
        if moment:
            return self.failure(call.fault)
        return value if isinstance(value, Response) else self.respond(value, call)

    def has_valid_key(self, request: Request) -> bool:
        """Return whether the request has the right key and the key is still valid."""
        is_right = request.headers.get("authorization") == f"Bearer {self._key}"
        return is_right and not self.behaviour.key_revoked

    def admit(self, call: Call) -> None:
        """Check the key. Raises `Refused` if it is wrong."""
        if not self.has_valid_key(call.request):
            raise self.refusals["unauthorized"]

    def check_head(self, call: Call) -> None:
        """Check the headers other than the key."""
        if "cookie" in call.request.headers:
            self.record_violation(call.request, "a cookie was sent")

    def no_route(self, call: Call) -> Refused:
        """Return the refusal for an unknown route."""
        return Refused("Not Found", 404, 404)

    @abstractmethod
    def refusal(self, refused: Refused, call: Call) -> Response:
        """Write a refusal in the service's format."""

    def moment_of_failure(self, fault: Fault) -> str:
        """Return whether the fault replaces the response `before` or `after` the work; "" for other
        faults.
        """
        kind, _, after = fault.kind.partition("-")
        return {"": "before", "after": "after"}.get(after, "") if kind in ("error", "code") else ""

    def failure(self, fault: Fault) -> Response:
        """Return the fault's error response: a code, optionally as a string, and a message."""
        code, message = (fault.args.get(name, usual) for name, usual in self.usual_failure.items())
        body = {"code": str(code) if fault.args.get("as_string") else code, "message": message}
        return Response.json(body, int(fault.args.get("status", 200)))

    def respond(self, value: Any, call: Call) -> Response:
        """Write a result as a response; the fault `shape` replaces it by an empty object, nulls or null."""
        if call.plays("shape"):
            form = str(call.fault.args.get("form", "object"))
            return Response.json({"object": {}, "nulls": self.nulls(value), "null": None}[form])
        return Response.json(self.add_extra_fields(value))

    def nulls(self, value: Any) -> Any:
        """Return the value with a list that contains null in place of each field, or of the whole value."""
        return {key: [None] for key in value} if isinstance(value, dict) else [None]

    def add_extra_fields(self, value: Any) -> Any:
        """Return the value, with unknown fields if that switch is on."""
        is_more = self.behaviour.extra_fields and isinstance(value, dict)
        return {**value, "surprise": {"a": [1]}} if is_more else value

    # -- for tests

    def snapshot(self) -> Json:
        """Return the whole contents, including deleted documents."""
        self.catch_up()
        documents = [self.describe(document) for document in self.documents.values()]
        return {
            "documents": documents,
            "bases": [self.describe_base(base) for base in self.visible_bases().values()],
        }

    def describe(self, document: S) -> Json:
        """Describe a document for tests: its real state, not what the faults show to clients."""
        description = {key: getattr(document, key) for key in ("id", "name", "sent_name", "base", "sha256")}
        state = {"foreign": document.is_foreign, "deleted": document.is_deleted}
        return {**description, **state, "searchable": document.is_searchable(self.now)}

    def describe_base(self, base: Any) -> Json:
        """Describe a base for tests."""
        return {"id": base.id, "name": base.name, "settings": base.settings}

    def journal(self) -> list[Json]:
        """Return all events in order; a deletion by another user is `foreign-deleted`."""
        self.catch_up()
        return list(self._journal)

    def put_foreign(self, args: Json) -> Json:
        """Store or delete a document as another user.

        `{"name", "text"}` and the keys that `store_foreign` reads store one; `{"delete": id or name}` deletes
        any. Raises `ValueError`.
        """
        if "delete" in args:
            for document in self.present():
                if args["delete"] in (document.id, document.name, document.sent_name):
                    self.delete(document, "foreign-deleted")
                    return self.describe(document)
            raise ValueError(f"there is no document {args['delete']!r}")
        name, text = args.get("name"), args.get("text", "")
        if not isinstance(name, str) or not name or not isinstance(text, str):
            raise ValueError('store a document with {"name": "guide.md", "text": "…"}')
        document = self.store_foreign(name, text.encode(), args)
        document.is_foreign = True
        return self.describe(document)

    @abstractmethod
    def store_foreign(self, name: str, content: bytes, args: Mapping[str, Any]) -> S:
        """Store a document in the base as another user."""

    def config_hint(self, url: str) -> str:
        """Return the config of a mirror into the initial base, with the server at `url`."""
        home = f'{self.home_key}: "{self.home_id}"' if self.home_key else ""
        lines = (f"type: {self.name}", f"base_url: {url}{self.api}", f"api_key: {self._key}", home)
        target = "".join(f"      {line}\n" for line in lines if line)
        return f"mirrors:\n  - name: handbook\n    folder: ./handbook\n    target:\n{target}"
