"""The listener's application: the web page, the API for the page and for scripts, and the routes.

It runs in its own thread and event loop, so `_run_query` sends each query to the mirrors' loop.
Imported only if the config has `http:`, because it imports Starlette.

GET requests only read. A POST puts a message in the inbox, as a command does. Other sites can make a browser
send requests, so each POST must prove that it comes from our own page, with a header value that only our page
can read.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from functools import cache, partial
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import structlog
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from kbsync.config.folders import add_mirror, folder_fault, remove_mirror
from kbsync.config.kinds import read_since
from kbsync.config.model import MirrorConfig, free_name
from kbsync.config.secrets import Secret
from kbsync.config.target import callback_secrets
from kbsync.contract.searching import Query, parse_types
from kbsync.contract.target import Target
from kbsync.core.model import Presence, Status
from kbsync.core.text import number_in, path_at
from kbsync.engine.clock import RunQuery, log_bug, run_in_loop, wait_until_open
from kbsync.engine.explain import PathExplanation, explain_path
from kbsync.engine.mirror import Mirror
from kbsync.engine.plan import CommandContext
from kbsync.engine.status import iso
from kbsync.errors import KbsyncError, StateError, Unavailable, UsageError
from kbsync.forget import read_holdings
from kbsync.index.snippet import snippet
from kbsync.installation import Installation
from kbsync.once import identities_of
from kbsync.overlaps import describe_overlaps, refuse_moved_folder
from kbsync.search import OpenMirrors, filters_in_words, hit_json, search, shortened
from kbsync.server.auth import API, ASSETS, ASSISTANTS, AccessControl
from kbsync.server.callbacks import CallbackQueue, CallbackRoute
from kbsync.server.documents import is_from_this_machine, is_vault, links_to, part_of
from kbsync.server.events import EventHub, EventStream
from kbsync.server.health import HealthRoutes, Readiness
from kbsync.server.metrics import Counters, LoopMonitor, rendered
from kbsync.server.removals import RemovalQueue, holdings_json
from kbsync.server.responses import body_of, json_answer, refusal
from kbsync.server.views import MAX_ITEMS, DocumentPage, StateReader, Views
from kbsync.source.wake import wake
from kbsync.state.approvals import DELETIONS, RENEWALS
from kbsync.state.files import NOTED
from kbsync.state.inbox import RELOAD
from kbsync.state.mirrors import MAX_PAUSE, Pause
from kbsync.state.read_only import SnapshotReader, Tx
from kbsync.threads import in_mirror_threads, searches_first

log = structlog.get_logger("kbsync")

T = TypeVar("T")

MAX_PASSAGES = 2
MAX_PASSAGE_LENGTH = 2000
MAX_EXCERPT_LENGTH = 420
"""Maximum number of passages per hit, and maximum number of characters per passage and per excerpt, in search
results."""

MAX_BODY_BYTES = 64 * 1024
BODY_SECONDS = 2.0
ORDER_SECONDS = 10.0
"""Maximum number of seconds for writing a message to the inbox, which is on disk."""

SEARCH_SECONDS = 20.0
SEARCHES_AT_ONCE = 2
TEXTS_AT_ONCE = 2
MAX_QUERY_LENGTH = 1000
MAX_HITS = 50
MAX_OFFSET = 200
MAX_CHARACTERS = 100_000_000
"""Maximum `k` and `offset` of a search, and maximum `offset` in a document's text."""

CSRF_HEADER = "x-kbsync-word"

PAGE = "page.html"
TYPES = {
    PAGE: "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}
"""All static files; the listener serves no other files."""


MakeAssistants = Callable[[OpenMirrors, RunQuery], ASGIApp]
"""Creates the application for assistants. Raises `UsageError` if a required package is missing."""


class AssistantRoute:
    """The application for assistants.

    It is created on the first request, because importing the protocol's library is slow.
    """

    def __init__(self, make: MakeAssistants | None, opened: OpenMirrors, run_query: RunQuery) -> None:
        self._make = make and partial(make, opened, run_query)
        self._app: asyncio.Task[ASGIApp] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if self._make is None:
            raise HTTPException(404, "this listener doesn't serve assistants")
        if self._app is None or (self._app.done() and self._app.exception() is not None):
            self._app = asyncio.create_task(asyncio.to_thread(self._make))
        try:
            app = await asyncio.shield(self._app)
        except UsageError as error:
            raise HTTPException(501, str(error)) from error
        await app(scope, receive, send)


class RunningMirrors:
    """The running mirrors and their open targets. Use this in the mirrors' event loop.

    `runs`: the running mirrors by name, updated as they start and end. `read`: reads the state.
    """

    will_mirror, obstacle, write_time = True, "", staticmethod(iso)

    def __init__(self, installation: Installation, runs: Mapping[str, Mirror], read: SnapshotReader) -> None:
        self.installation, self._runs, self.read = installation, runs, read

    @asynccontextmanager
    async def target(self, mirror: MirrorConfig) -> AsyncIterator[Target]:
        """Yield the mirror's open target, or one that is opened just for this response.

        Raises `KbsyncError`.
        """
        run = self._runs.get(mirror.name)
        if run is not None and run.bound is not None:
            # Use the mirror's own target, so that a search loads no model and takes no lock.
            yield run.bound.target
        elif run is not None and (run.is_paused or run.halts.shown is not None):
            # The mirror is paused or halted; the knowledge base may still be searchable.
            opening = asyncio.to_thread(self.installation.target, mirror, read_only=True)
            # A search that times out stops waiting for it.
            async with aclosing(await wait_until_open(opening, lambda late: late.aclose())) as target:
                yield target
        else:
            raise Unavailable("the knowledge base isn't open; see the mirror's status for the reason")

    async def reload_secrets(self, _names: Collection[str]) -> bool:
        """Do nothing, because the mirrors reload their secrets themselves."""
        return False


class ListenerApp:
    """The application for one run of the listener. Create it in the mirrors' event loop.

    `installation`: the config and state directory of the mirrors. `runs`: the running mirrors by name,
    updated as they start and end. `assistants` creates the application for assistants. `token` may change at
    any time; `csrf_token` differs at each start. `removals`: the daemon's removals.
    """

    def __init__(
        self,
        installation: Installation,
        runs: Mapping[str, Mirror],
        counters: Counters,
        monitor: LoopMonitor,
        assistants: MakeAssistants | None,
        token: Secret | None,
        removals: RemovalQueue,
    ) -> None:
        self.token = token
        self._removals = removals
        self._run_query: RunQuery = partial(run_in_loop, loop := asyncio.get_running_loop())
        self._runs, self._state_dir = runs, installation.state_dir
        self._searching, self._reading = asyncio.Semaphore(SEARCHES_AT_ONCE), asyncio.Semaphore(TEXTS_AT_ONCE)
        self.csrf_token = secrets.token_urlsafe(24)
        self.state_reader = StateReader(installation.state_file)
        self._mirrors = RunningMirrors(installation, runs, self.state_reader.read)
        self.views = Views(
            self.state_reader, monitor, lambda: self._run_query(counters.snapshot), installation, removals
        )
        self.hub = EventHub(self.views.frame, self.views.news)
        secrets_by_mirror = callback_secrets(installation.config.mirrors)
        self._callbacks = CallbackRoute(CallbackQueue(loop, self._hurry).hear, secrets_by_mirror)
        readiness = Readiness(runs)
        orders = {"retry": "retry", "approve": "approve", "verify": "audit"}
        routes = [
            *HealthRoutes(monitor, lambda: self._run_query(readiness.check)).routes(),
            self._callbacks.route(),
            Route("/", asset),
            Route(f"{ASSETS}{{name}}", asset),
            Route("/metrics", self.metrics),
            Route(ASSISTANTS, AssistantRoute(assistants, self._mirrors, self._run_query)),
            Route(f"{API}status", self.status),
            Route(f"{API}held", self.held),
            Route(f"{API}search", self.search),
            Route(f"{API}document", self.document),
            Route(f"{API}history", self.history),
            Route(f"{API}removal", self.removal),
            Route(f"{API}events", self.events),
            *(
                Route(f"{API}{name}", partial(self.order, verb), methods=["POST"])
                for name, verb in orders.items()
            ),
            *(
                Route(f"{API}{change.__name__}", change, methods=["POST"])
                for change in (self.pause, self.resume, self.add, self.remove)
            ),
        ]
        errors: dict[Any, Any] = {
            HTTPException: _refused,
            StateError: partial(_failed, 503),
            UsageError: partial(_failed, 400),
        }
        self.access = AccessControl(Starlette(routes=routes, exception_handlers=errors), lambda: self.token)
        """The application behind the access checks."""

    def switch_to(self, installation: Installation) -> None:
        """Show the mirrors of this installation, and accept callbacks from their services."""
        self.views.installation = self._mirrors.installation = installation
        self._callbacks.secrets = callback_secrets(installation.config.mirrors)

    # -- reads ------------------------------------------------------------------------------------

    async def metrics(self, _request: Request) -> Response:
        """Return the metrics in the Prometheus text format."""
        return Response(rendered(await self.views.figures()), media_type=CONTENT_TYPE_PLAIN_0_0_4)

    async def status(self, request: Request) -> Response:
        """Return the output of `kbsync status --json`.

        With `documents=1`, it includes a page of documents, selected by `limit`, `state` and `after`.
        """
        params, page = request.query_params, None
        if params.get("documents"):
            known = {status.word: status for status in (*NOTED, Status.SKIPPED)}
            state = params.get("state")
            if state is not None and state not in known:
                raise HTTPException(400, f"state must be one of {', '.join(known)}")
            after = _path_in(params, "after")
            page = DocumentPage(_number(params, "limit", 100, MAX_ITEMS), known.get(state or ""), after)
        if name := params.get("mirror"):
            self._check_mirror(name)
        payload = await self.views.status(page, name or None)
        return json_answer(payload, headers={CSRF_HEADER: self.csrf_token})

    async def held(self, request: Request) -> Response:
        """Return the held deletions of `mirror` or, with `kind=renewals`, the documents whose reindexing is
        held.

        Also return the version of the list, to pass to `approve`.
        """
        name, kind = self._mirror_in(request.query_params), _kind_in(request.query_params)
        return json_answer((await self.views.held(name, kind)).to_json())

    async def search(self, request: Request) -> Response:
        """Search for the query `q`. Return `k` hits after the first `offset`, and whether there are `more`.

        The hits are from `mirror`, or from all mirrors. `type` and `after` restrict the search.
        `unfinished=1`: the user is still typing. `explain=1`: explain why each hit was found.
        """
        params, name = request.query_params, request.query_params.get("mirror", "")
        text = params.get("q", "").strip()
        if not 0 < len(text) <= MAX_QUERY_LENGTH:
            raise HTTPException(400, f"the query (q) must be 1 to {MAX_QUERY_LENGTH:,} characters long")
        limit = _number(params, "k", 10, MAX_HITS)
        offset = _number(params, "offset", 0, MAX_OFFSET, least=0)
        types, after = parse_types(params.getlist("type")), params.get("after")
        query = Query(
            text,
            offset + limit + 1,
            types=types,
            after=_moment(after) if after else None,
            unfinished=params.get("unfinished") == "1",
            own=bool(name),
            explain=params.get("explain") == "1",
        )
        only = [name] if name else []
        if name:
            self._check_mirror(name)
        if self._searching.locked():
            raise HTTPException(503, "other searches are running; try again in a moment")

        with searches_first.search():
            try:
                async with self._searching, asyncio.timeout(SEARCH_SECONDS):
                    # Run it in the mirrors' loop, where mirrors start and end.
                    reply = await self._run_query(lambda: search(self._mirrors, query, only, soon=True))
            except TimeoutError as error:
                raise HTTPException(504, f"no response within {SEARCH_SECONDS:.0f} s") from error
            hits = [
                shortened(hit, MAX_PASSAGE_LENGTH, passages=MAX_PASSAGES, plain=True)
                for hit in reply.hits[offset : offset + limit]
            ]
            listed = [hit_json(hit, explain=query.explain) for hit in hits]
            words = " ".join([reply.query.text, *reply.guesses])
            for passage in (passage for fields in listed for passage in fields["passages"]):
                best = snippet(passage["text"], words, MAX_EXCERPT_LENGTH, unfinished=query.unfinished)
                first, *others = best.parts
                passage["excerpt"] = ["… " * best.starts_late + first, *others]
                passage["excerpt"][-1] += " …" * best.ends_early
            for fields, hit in zip(listed, hits, strict=True):
                fields["gone"] = hit.is_gone
            unmatched = filters_in_words(reply.query, reply.unmatched)
            notes = [f"no document matches {' and '.join(map(' '.join, filters))}" for filters in unmatched]
            notes += reply.note_lines(hint="Files says why")
            more = len(reply.hits) > offset + limit
            if is_from_this_machine(request):
                # One check for all hits of a folder, because each may take a round trip to a file server.
                folders = {hit.folder for hit in hits if hit.can_be_opened}
                checks = [asyncio.to_thread(is_vault, folder) for folder in folders]
                in_vault = dict(zip(folders, await asyncio.gather(*checks), strict=True))
                for fields, hit in zip(listed, hits, strict=True):
                    fields["links"] = None
                    if hit.can_be_opened:
                        fields["links"] = links_to(hit.folder, hit.path, in_vault=in_vault[hit.folder])
            return json_answer({"hits": listed, "notes": notes, "more": more})

    async def document(self, request: Request) -> Response:
        """Return a part of a document's extracted text, and why searches do or don't find it.

        `key`: the document's path in the mirror, encoded like `after` in `status`. The part begins at
        `offset`, ends at `before`, or contains the `passage`. Only files in the state are found.
        """
        params, name = request.query_params, self._mirror_in(request.query_params)
        path = _path_in(params, "key")
        offset = _number(params, "offset", 0, MAX_CHARACTERS, least=0)
        before = _number(params, "before", 0, MAX_CHARACTERS, least=0)
        passage = params.get("passage", "")[:MAX_PASSAGE_LENGTH]
        try:
            async with asyncio.timeout(SEARCH_SECONDS), self._reading:
                explanation = await self._run_query(partial(self._explain, name, path))
                part = await asyncio.to_thread(part_of, explanation, offset, before, passage)
        except TimeoutError as error:
            raise HTTPException(504, f"no response within {SEARCH_SECONDS:.0f} s") from error
        except KbsyncError as error:
            raise HTTPException(503, str(error)) from error
        folder = next(mirror.folder for mirror in self.views.mirrors if mirror.name == name)
        is_gone = explanation.entry is not None and explanation.entry.presence is Presence.GONE
        can_open = is_from_this_machine(request) and not is_gone
        links = None
        if can_open:
            links = links_to(folder, path, in_vault=await asyncio.to_thread(is_vault, folder))
        return json_answer({**part, "abs_path": str(folder / path), "links": links})

    async def history(self, request: Request) -> Response:
        """Return the newest `limit` events of `mirror` or of all mirrors.

        `key`: return only the events about this file or folder.
        """
        params, name = request.query_params, request.query_params.get("mirror", "")
        if name:
            self._check_mirror(name)
        names = [name] if name else [mirror.name for mirror in self.views.mirrors]
        limit = _number(params, "limit", 100, MAX_ITEMS)
        return json_answer(await self.views.history(names, _path_in(params, "key"), limit))

    async def removal(self, request: Request) -> Response:
        """Return how many documents the removal of the `mirror` would delete, and the knowledge bases that
        contain its documents.
        """
        name = self._mirror_in(request.query_params)
        installation = self._mirrors.installation
        holdings = await self.state_reader.read(lambda tx: read_holdings(tx, installation, name))
        return json_answer(holdings_json(name, holdings))

    async def events(self, _request: Request) -> EventStream:
        """Return the event stream."""
        client = self.hub.join()
        if client is None:
            raise HTTPException(503, "too many pages are open; close one of them")
        return EventStream(self.hub, client, {CSRF_HEADER: self.csrf_token})

    # -- actions ------------------------------------------------------------------------------

    async def order(self, verb: str, request: Request) -> Response:
        """Put the message `verb` for a mirror into the inbox.

        The body names the `mirror`. For a retry, it may have `paths` (default: all failed documents), or
        `may_succeed` for documents that may succeed without a change. For an approval, it has the `version`
        and `kind` of the held list that the user saw.
        """
        payload = await self._payload_of(request)
        mirror, paths, kind = self._mirror_in(payload), payload.get("paths"), _kind_in(payload)
        if paths is not None and not (
            isinstance(paths, list) and all(isinstance(path, str) for path in paths)
        ):
            raise HTTPException(400, "paths must be a list of strings")
        args: dict[str, Any] = {}
        if verb == "retry":
            if paths is None and payload.get("may_succeed") is True:
                paths = await self.views.retryable(mirror)
            args["paths"] = paths
        elif verb == "approve":
            # Approve exactly what the user saw (promise 5): a changed list is refused.
            held, version = await self.views.held(mirror, kind), str(payload.get("version", ""))
            if not held.count or not hmac.compare_digest(held.version.encode(), os.fsencode(version)):
                raise HTTPException(409, "the list has changed since you last saw it; review it again")
            args |= {"holds": list(held.holds), "by": "page"}
        await self._in_time(self._run_query(partial(self._post, verb, mirror, args)))
        return _accepted(verb, mirror)

    async def pause(self, request: Request) -> Response:
        """Pause the `mirror`, for `seconds` or until `resume`.

        The pause is in effect when the response arrives.
        """
        payload = await self._payload_of(request)
        mirror, seconds = self._mirror_in(payload), payload.get("seconds")
        # JSON's true is an int in Python.
        is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
        if seconds is not None and not (is_number and 0 < seconds <= MAX_PAUSE):
            raise HTTPException(400, f"seconds must be a number up to {MAX_PAUSE:.0f}")

        def begin(tx: Tx, number: int, now: float) -> None:
            tx.pauses.begin(number, Pause(now, None if seconds is None else now + seconds))

        await self._in_time(self._run_query(partial(self._write, mirror, begin)))
        return _accepted("pause", mirror, status=200)

    async def resume(self, request: Request) -> Response:
        """End the `mirror`'s pause."""
        mirror = self._mirror_in(await self._payload_of(request))

        def end(tx: Tx, number: int, now: float) -> None:
            tx.pauses.end(number, now, self._runs[mirror].settings.quiet_hours)

        await self._in_time(self._run_query(partial(self._write, mirror, end)))
        return _accepted("resume", mirror, status=200)

    async def add(self, request: Request) -> Response:
        """Add `folder` to the config, like `kbsync add`. `name`: the mirror's name (default: the name of the
        folder).
        """
        payload = await self._payload_of(request)
        typed, name = payload.get("folder"), payload.get("name") or None
        if not isinstance(typed, str) or not typed.strip() or not isinstance(name, str | None):
            raise HTTPException(400, 'the body must contain a folder: {"folder": "/…"}')
        mirror, notes = await self._edit_config(partial(self._add, typed.strip(), name))
        return _accepted("add", mirror, notes=notes)

    async def remove(self, request: Request) -> Response:
        """Remove the `mirror` from the config, like `kbsync remove`.

        `documents`: `keep` (the default) or `delete`. The daemon deletes the documents after this response,
        and then removes the mirror.
        """
        payload = await self._payload_of(request)
        mirror, documents = self._mirror_in(payload), payload.get("documents", "keep")
        if documents not in ("keep", "delete"):
            raise HTTPException(400, "`documents` must be `keep` or `delete`")
        installation = self._mirrors.installation
        deletes = documents == "delete"

        def edit(config_path: Path) -> None:
            self._removals.check(mirror, installation)
            # If the config can't be edited, nothing may be deleted.
            remove_mirror(config_path, os.environ, mirror, installation.command_line, writes=not deletes)

        async def begin() -> None:
            self._removals.request(mirror, installation)

        if deletes:
            await self._with_config(edit)
            await self._in_time(self._run_query(begin))
        else:
            await self._edit_config(edit)
        return _accepted("remove", mirror)

    def _add(self, typed: str, name: str | None, config_path: Path) -> tuple[str, list[str]]:
        """Add the mirror. Return its name, and notes on other mirrors with the same files.

        This reads the disk, so it may block. Raises `UsageError`.
        """
        expanded = os.path.expanduser(typed)  # noqa: PTH111 (an unknown ~user is a name)
        # A user of the page doesn't know the daemon's working directory.
        if not expanded.startswith("/"):
            raise UsageError(f"{typed} is not a full path; a full path begins with / or ~/")
        if fault := folder_fault(expanded):
            raise UsageError(fault)
        folder = Path(os.path.normpath(expanded))
        refuse_moved_folder(self._mirrors.installation, folder)
        installation = self._mirrors.installation
        name = name or free_name(folder, installation.config.mirrors)
        state_dir, other_name = installation.state_dir, "choose another name"
        config = add_mirror(
            config_path, os.environ, folder, name, state_dir=state_dir, other_name=other_name, settings={}
        )
        return name, list(describe_overlaps(config, name))

    async def _edit_config(self, edit: Callable[[Path], T]) -> T:
        """Edit the config, then make the daemon reload it."""
        result = await self._with_config(edit)
        await self._in_time(self._run_query(partial(self._post, RELOAD, None, {})))
        return result

    async def _with_config(self, edit: Callable[[Path], T]) -> T:
        """Call `edit` with the config's path."""
        config_path = self._mirrors.installation.config.path
        if config_path is None:
            why = "kbsync was started with --folder, so there is no config to change"
            raise HTTPException(409, why)
        return await self._in_time(asyncio.to_thread(edit, config_path))

    async def _in_time(self, work: Awaitable[T]) -> T:
        """Wait for a change to take effect. Raises `HTTPException` if it takes too long or is refused."""
        try:
            async with asyncio.timeout(ORDER_SECONDS):
                return await work
        except TimeoutError as error:
            why = f"no confirmation within {ORDER_SECONDS:.0f} s; check the status before retrying"
            raise HTTPException(503, why) from error
        except UsageError as error:
            raise HTTPException(409, str(error)) from error

    async def _payload_of(self, request: Request) -> dict[str, Any]:
        """Return the body of a request from our own page.

        Refuse requests that a browser may have sent on behalf of another site's page.
        """
        headers = request.headers
        site, origin = headers.get("sec-fetch-site"), headers.get("origin")
        if site not in (None, "same-origin"):
            raise HTTPException(403, "the request comes from another site")
        # The browser itself reports that the request comes from our own page. A proxy may set `Host` to its
        # own name.
        hosts = (headers.get("host"), headers.get("x-forwarded-host"))
        if origin is not None and site is None and origin.partition("://")[2] not in hosts:
            why = "the request comes from another origin; a proxy must forward Host or set X-Forwarded-Host"
            raise HTTPException(403, why)
        if not hmac.compare_digest(headers.get(CSRF_HEADER, "").encode(), self.csrf_token.encode()):
            raise HTTPException(
                403, f"the header {CSRF_HEADER} must have the value that GET /api/status returns"
            )
        # A form on another site can send any other type without a preflight request (CORS).
        if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
            raise HTTPException(403, "the body must be application/json")
        try:
            payload = json.loads(await body_of(request, MAX_BODY_BYTES, BODY_SECONDS))
            # File names may contain bytes that aren't Unicode, but no other lone surrogates.
            os.fsencode(json.dumps(payload, ensure_ascii=False))
        except (ValueError, RecursionError) as error:
            raise HTTPException(400, "the body is not JSON") from error
        if not isinstance(payload, dict):
            raise HTTPException(400, "the body is not a JSON object")
        return payload

    def _mirror_in(self, fields: Mapping[str, Any]) -> str:
        """Return the `mirror` named in the query string or the body."""
        mirror = fields.get("mirror")
        if not isinstance(mirror, str):
            raise HTTPException(400, "`mirror` is missing")
        self._check_mirror(mirror)
        return mirror

    def _check_mirror(self, name: str) -> None:
        if not any(mirror.name == name for mirror in self.views.mirrors):
            raise HTTPException(404, "there is no mirror with this name")

    # -- in the mirrors' loop ---------------------------------------------------------------------------

    async def _explain(self, name: str, path: str) -> PathExplanation:
        """Explain why searches do or don't find a file in the state.

        Raises `KbsyncError`, or `HTTPException` for any other path.
        """

        def is_known(tx: Tx) -> bool:
            record = tx.mirrors.named(name)
            return record is not None and tx.entries.get(record.id, path) is not None

        if not await self.state_reader.read(is_known):
            raise HTTPException(404, "the mirror has no such file")
        installation, run = self._mirrors.installation, self._runs.get(name)
        if run is None:
            raise Unavailable("the mirror isn't running right now; try again")
        configured, has_config = identities_of(installation.config), installation.config.path is not None
        context = CommandContext(configured, installation.command_line, at_work=True, has_config=has_config)
        async with self._mirrors.target(installation.mirror(name)) as target:
            read = self.state_reader.read
            work = explain_path(run.settings, target, read, run.clock, path, context=context, text=True)
            return await in_mirror_threads(name, work)

    async def _post(self, verb: str, mirror: str | None, args: Mapping[str, Any]) -> None:
        """Put a message for a mirror or for the daemon into the inbox. Raises `StateError`."""
        await self._write(mirror, lambda tx, _number, now: tx.inbox.post(verb, mirror, args, now))

    async def _write(self, mirror: str | None, change: Callable[[Tx, int, float], object]) -> None:
        """Call `change` with the mirror's id (any mirror's id if `mirror` is None) and the time, then wake
        the daemon.

        Raises `StateError`.
        """
        run = next(iter(self._runs.values()), None) if mirror is None else self._runs.get(mirror)
        if run is None:
            raise StateError("the mirror isn't running right now; try again")
        await run.store.write(lambda tx: change(tx, run.id, run.clock.wall()))
        await asyncio.to_thread(wake, self._state_dir)

    async def _hurry(self, mirror: str, ids: Collection[str]) -> None:
        """Schedule an early poll of the documents named in a callback.

        If that fails, the usual polling covers them.
        """
        run = self._runs.get(mirror)
        if run is None or run.bound is None:
            return
        try:
            await run.bound.hurry(ids)
        except StateError:
            # The worker hits the same error and logs it.
            return
        except Exception as error:
            log_bug("callback.failed", error, mirror=mirror)


@cache
def content(name: str) -> bytes:
    """Return the content of a static file, which is one of `TYPES`."""
    return files("kbsync.server").joinpath("static", name).read_bytes()


async def asset(request: Request) -> Response:
    """Serve the web page or one of its files. These files contain no user data, so no token is needed."""
    name = request.path_params.get("name", PAGE)
    if name not in TYPES:
        return PlainTextResponse("not found\n", 404)
    return Response(content(name), media_type=TYPES[name])


def _accepted(verb: str, mirror: str, *, status: int = 202, notes: Sequence[str] = ()) -> Response:
    """Log a user's action and confirm it. Status 202 means that the daemon will carry it out later."""
    log.info("order.taken", mirror=mirror, verb=verb)
    return json_answer({"asked": verb, "mirror": mirror, **({"notes": notes} if notes else {})}, status)


def _kind_in(params: Mapping[str, Any]) -> str:
    kind = str(params.get("kind", DELETIONS))
    if kind not in (DELETIONS, RENEWALS):
        raise HTTPException(400, f"kind must be {DELETIONS} or {RENEWALS}")
    return kind


def _number(params: Mapping[str, str], name: str, usual: int, highest: int, *, least: int = 1) -> int:
    text = params.get(name, str(usual))
    number = number_in(text) if text.isascii() else None
    if number is None or not least <= number <= highest:
        raise HTTPException(400, f"{name} must be a number from {least} to {highest}")
    return number


def _path_in(params: Mapping[str, str], name: str) -> str:
    try:
        return path_at(params.get(name, ""))
    except ValueError as error:
        problem = f"{name} must be a base64url-encoded path, such as a page's `next`"
        raise HTTPException(400, problem) from error


def _moment(text: str) -> float:
    try:
        return read_since(text)
    except ValueError as error:
        raise HTTPException(400, f"after: {error}") from error


async def _refused(_request: Request, error: HTTPException) -> Response:
    return json_answer({"error": error.detail}, error.status_code, dict(error.headers or {}))


async def _failed(status: int, _request: Request, error: Exception) -> Response:
    return refusal(str(error), status)
