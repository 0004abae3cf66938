"""Tells a person by a command or a POST that a mirror halted, works again, or that documents failed.

Many failures are one notice, and none comes too often. No mirror waits for this, delivery is bounded in time,
and no log has anything of a notice or of the address it goes to.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from kbsync import __version__
from kbsync.config.model import NotifyConfig, Occasion
from kbsync.core.text import printable
from kbsync.engine.journal import Happened
from kbsync.engine.mirror import MirrorRun
from kbsync.engine.status import halt_shown, iso
from kbsync.errors import StateError
from kbsync.state.mirrors import Halt

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True, slots=True)
class FailedDocument:
    """A document in quarantine. `path` relative to the folder."""

    path: str
    reason: str

    def to_json(self) -> dict[str, str]:
        """An item of `documents`."""
        return {"path": printable(self.path), "reason": printable(self.reason)}


@dataclass(frozen=True, slots=True)
class Notice:
    """One thing to tell of one mirror. `at`: when it happened (of several documents the last), epoch seconds.

    `reason`: of the halt, or of the one that is over, which has neither `detail` nor `cure`. `count`: how
    many went into quarantine since the last notice of them, `documents` the first of these.
    """

    event: Occasion
    mirror: str
    at: float
    reason: str = ""
    detail: str = ""
    cure: str = ""
    count: int = 0
    documents: tuple[FailedDocument, ...] = ()

    @property
    def text(self) -> str:
        """All of it in a sentence, for whatever shows one line."""
        match self.event:
            case "halted":
                cure = f"; cure: {self.cure}" if self.cure else ""
                said = f"{self.reason}: {self.detail}{cure}"
            case "recovered":
                said = f"works again ({self.reason} is over)"
            case "quarantined":
                noun = "document" if self.count == 1 else "documents"
                first = "".join(f", first {each.path}: {each.reason}" for each in self.documents[:1])
                said = f"{self.count:,} {noun} failed{first}; cure: {self.cure}"
        return printable(f"{self.mirror}: {said}")

    def to_json(self) -> Mapping[str, Any]:
        """What is sent."""
        head = {
            "version": __version__,
            "event": self.event,
            "mirror": self.mirror,
            "at": iso(self.at),
            "text": self.text,
        }
        if self.event == "quarantined":
            items = [each.to_json() for each in self.documents]
            return {**head, "cure": self.cure, "count": self.count, "documents": items}
        words = {"reason": self.reason, "detail": self.detail, "cure": self.cure}
        return {**head, **{key: printable(word) for key, word in words.items()}}


# -- what there is to tell: times are monotonic seconds, `at` is in epoch seconds ---------------------------

GATHER = 5.0
"""Seconds from the first failure to its notice: a pass may have many."""

EVERY, SELDOM = 60.0, 3600.0
"""Seconds between two notices of one mirror and kind; up to the latter where they cannot be delivered."""

NAMED = 20
"""Documents a notice names; it counts the others."""


@dataclass(slots=True)
class _Pacer:
    """When the next notice of one kind may go."""

    not_before: float = float("-inf")
    failures: int = 0

    def went(self, now: float, *, well: bool) -> None:
        self.failures = 0 if well else self.failures + 1
        self.not_before = now + min(SELDOM, EVERY * 2.0**self.failures)


@dataclass(slots=True)
class _MirrorNotices:
    """One mirror. `shown`: its halt as it is, `told`: as it was told last.

    `shown_at`: since when it is so, `failed_at`: when the last document failed, both in epoch seconds.
    """

    cure: str = ""
    shown: Halt | None = None
    shown_at: float = 0.0
    told: Halt | None = None
    halts: _Pacer = field(default_factory=_Pacer)
    documents: list[FailedDocument] = field(default_factory=list)
    count: int = 0
    failed_at: float = 0.0
    failures: _Pacer = field(default_factory=_Pacer)


class PendingNotices:
    """What was seen of the mirrors of one daemon, and what of it is still to be told."""

    def __init__(self) -> None:
        self._mirrors: defaultdict[str, _MirrorNotices] = defaultdict(_MirrorNotices)

    def keep_only(self, mirrors: Collection[str]) -> None:
        """The others are not there any more."""
        for name in self._mirrors.keys() - set(mirrors):
            del self._mirrors[name]

    def halt_seen(self, mirror: str, halt: Halt | None, at: float) -> None:
        """How the mirror stands `at` these epoch seconds; the same again is no news."""
        news = self._mirrors[mirror]
        if _differ(news.shown, halt):
            news.shown_at = at
        news.shown = halt

    def failed(self, mirror: str, document: FailedDocument, cure: str, now: float, at: float) -> None:
        """A document went into quarantine, `at` epoch seconds. `cure`: what tries all of them again."""
        news = self._mirrors[mirror]
        news.cure, news.failed_at = cure, at
        news.count += 1
        if news.count == 1:
            news.failures.not_before = max(news.failures.not_before, now + GATHER)
        if len(news.documents) < NAMED:
            news.documents.append(document)

    def due(self, now: float, on: Collection[Occasion]) -> list[Notice]:
        """What may be told now, of the occasions asked for."""
        return [notice for notice in self._due(now) if notice.event in on]

    def told(self, notice: Notice, now: float, *, well: bool) -> None:
        """The notice was sent; where that did not go `well` it comes again, ever later."""
        news = self._mirrors[notice.mirror]
        if notice.event == "quarantined":
            news.failures.went(now, well=well)
            if well:
                news.count -= notice.count
                news.documents = news.documents[len(notice.documents) :]
            return
        news.halts.went(now, well=well)
        if well:
            is_halt = notice.event == "halted"
            news.told = Halt(notice.reason, notice.detail, notice.cure) if is_halt else None

    def _due(self, now: float) -> Iterator[Notice]:
        for name, news in self._mirrors.items():
            if _differ(news.shown, news.told) and now >= news.halts.not_before:
                at, halt = news.shown_at, news.shown
                if halt is not None:
                    yield Notice("halted", name, at, halt.reason, halt.detail, halt.cure)
                elif news.told is not None:
                    # Only the reason: the detail would tell a person to do what is done.
                    yield Notice("recovered", name, at, news.told.reason)
            if news.count and now >= news.failures.not_before:
                documents = tuple(news.documents)
                yield Notice("quarantined", name, news.failed_at, "", "", news.cure, news.count, documents)


def _differ(one: Halt | None, other: Halt | None) -> bool:
    """Another number of documents in the detail of the same halt is no news."""
    return (one.reason if one else "") != (other.reason if other else "")


LIMIT = 10.0
"""Seconds for a command or a request, all in all."""

AT_ONCE = 2.0
"""Seconds for a command to be gone that was killed."""


class Undelivered(Exception):
    """Whoever was to be told was not; `str()` says why, and repeats neither arguments nor address."""


def body_of(notice: Notice) -> bytes:
    """One JSON document on one line."""
    return (json.dumps(notice.to_json(), ensure_ascii=False) + "\n").encode("utf-8", "replace")


async def run_command(command: Sequence[str], body: bytes, limit: float = LIMIT) -> None:
    """Run a command with `body` on stdin, in a process group of its own that ends with the time.

    Raises `Undelivered` where it cannot be run, takes longer than `limit` seconds or exits with a failure.
    """
    try:
        process = await _begun(command)
    except OSError as error:
        raise Undelivered(f"it cannot be run: {(error.strerror or str(error)).lower()}") from None
    try:
        async with asyncio.timeout(limit):
            await process.communicate(body)
    except TimeoutError:
        raise Undelivered(f"it took longer than {limit:g} s and was ended") from None
    finally:
        if process.returncode is None:
            await _end_group(process)
    if process.returncode:
        kind = "exit code" if process.returncode > 0 else "signal"
        raise Undelivered(f"it ended with {kind} {abs(process.returncode)}")


async def _begun(command: Sequence[str]) -> asyncio.subprocess.Process:
    """Whoever is cancelled while it begins still ends it: what it began itself is ended by nobody else."""
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    beginning = asyncio.create_task(
        asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=nothing, stderr=nothing, start_new_session=True
        )
    )
    try:
        return await asyncio.shield(beginning)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            await _end_group(await beginning)
        raise


async def _end_group(process: asyncio.subprocess.Process) -> None:
    """The command and whatever it began, unless they became another user's; nobody waits long for that."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), AT_ONCE)


async def post_notice(url: str, body: bytes, limit: float = LIMIT) -> None:
    """POST `body` to an address. Raises `Undelivered` for anything but a status of 200 to 299 in time."""
    import httpx

    try:
        async with asyncio.timeout(limit):
            client = await asyncio.to_thread(_client, limit)
            async with client, client.stream("POST", url, content=body, headers=HEADERS) as answer:
                status = answer.status_code
    except (TimeoutError, httpx.TimeoutException):
        raise Undelivered(f"no answer within {limit:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
        raise Undelivered(f"it cannot be reached ({type(error).__name__})") from None
    if not 200 <= status < 300:
        raise Undelivered(f"it answered {status}")


def _client(limit: float) -> httpx.AsyncClient:
    """Made in a thread: reading the usual authorities takes a while. Follows nothing, keeps nothing."""
    import httpx

    from kbsync.targets.http import connection  # its loggers tell no addresses

    try:
        return httpx.AsyncClient(timeout=limit, follow_redirects=False, auth=connection.NO_AUTH)
    except (ImportError, ValueError, httpx.InvalidURL):  # of SOCKS it knows nothing without another package
        raise Undelivered(
            "the proxy of the environment (ALL_PROXY and the like) cannot be used: "
            "it has to be an address that begins with http:// or https://"
        ) from None


HEADERS = {"Content-Type": "application/json", "User-Agent": f"kbsync/{__version__}"}


log = structlog.get_logger("kbsync")

LOOK_EVERY = 2.0
"""Seconds between two looks at the mirrors; a halt that was over before is none to tell of."""

Sleep = Callable[[float], Awaitable[None]]


class Notifications:
    """Tells whom the config names. `runs`: the mirrors at work by name, as they come and go.

    `steady` and `wall` are clocks in seconds, `sleep` waits by `steady`.
    """

    def __init__(
        self,
        runs: Mapping[str, MirrorRun],
        *,
        steady: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._runs = runs
        self._steady, self._wall, self._sleep = steady, wall, sleep
        self._config: NotifyConfig | None = None
        self._digest = PendingNotices()
        self._silent: set[str] = set()
        self._changed = asyncio.Event()

    def turn_to(self, config: NotifyConfig | None) -> None:
        """Tell as this says, from now on."""
        if config != self._config:
            self._config = config
            self._silent.clear()
            self._changed.set()

    def heard(self, mirror: str, event: Happened) -> None:
        """A document is finished; at work only while somebody is to be told."""
        run = self._runs.get(mirror)
        if self._config is not None and run is not None and event.event == "document.failed":
            cure = run.site.cure(f"retry --mirror {mirror}")
            mishap = FailedDocument(event.path, event.reason)
            self._digest.failed(mirror, mishap, cure, self._steady(), self._wall())

    async def keep(self) -> None:
        """Look and tell, until cancelled; a command that runs then is ended."""
        while True:
            if self._config is None:
                self._changed.clear()
                await self._changed.wait()
            await self._sleep(LOOK_EVERY)
            try:
                await self.look()
            except Exception:
                if "kbsync" not in self._silent:
                    log.exception(
                        "notify.failed", via="kbsync", detail="an error of kbsync itself; it goes on"
                    )
                self._silent.add("kbsync")

    async def look(self) -> None:
        """See how the mirrors stand, and tell what is due."""
        config = self._config
        if config is None:
            return
        self._digest.keep_only(list(self._runs))
        for name, run in list(self._runs.items()):
            if run.told is not None or run.has_compared:  # before, it is what an earlier process knew
                with contextlib.suppress(StateError):  # the log has it
                    halt = await run.store.read(partial(halt_shown, run=run))
                    self._digest.halt_seen(name, halt, self._wall())
        for notice in self._digest.due(self._steady(), config.on):
            well = await self._deliver(config, notice)
            self._digest.told(notice, self._steady(), well=well)

    async def _deliver(self, config: NotifyConfig, notice: Notice) -> bool:
        """Both ways at once; one that worked is enough."""
        body = body_of(notice)
        ways: list[tuple[str, Awaitable[None]]] = []
        if config.command is not None:
            ways.append(("command", run_command(config.command, body)))
        if config.url is not None:
            ways.append(("url", post_notice(config.url.reveal(), body)))
        return any(await asyncio.gather(*(self._tried(way, work) for way, work in ways)))

    async def _tried(self, way: str, work: Awaitable[None]) -> bool:
        """Told once, until it works again. No way's trouble is the other's, whatever it is."""
        try:
            await work
        except Exception as error:
            if way not in self._silent:
                # Of an error that nobody foresaw only its kind: its words may have an address in them.
                unforeseen = f"an error of kbsync itself, {type(error).__name__}"
                detail = str(error) if isinstance(error, Undelivered) else unforeseen
                log.error("notify.failed", via=way, detail=detail)
            self._silent.add(way)
            return False
        if way in self._silent:
            log.info("notify.resumed", via=way)
        self._silent.discard(way)
        return True
