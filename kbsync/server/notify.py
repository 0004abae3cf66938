"""Sends notifications, by a command or a POST, when a mirror halts, when it resumes, and when documents fail.

One notification covers many failures, and the rate of notifications is limited. No mirror waits for a
delivery, which has a time limit. The log never contains a notification's content or URL.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import field
from functools import partial
from importlib import import_module
from typing import Any

import structlog

from kbsync import __version__
from kbsync.config.model import NotifyConfig, Occasion
from kbsync.core.text import format_count, printable
from kbsync.dataclass import dataclass
from kbsync.engine.journal import DocumentEvent
from kbsync.engine.mirror import Mirror
from kbsync.engine.status import find_halt, halt_json, halt_sentence, halt_words, iso
from kbsync.errors import Halted, StateError, UsageError, system_reason
from kbsync.state.mirrors import Halt

NO_HALT = Halt("", "", "")

GATHER = 5.0
"""Seconds from the first failure to its notification, so that one notification can cover many failures."""

EVERY, SELDOM = 60.0, 3600.0
"""Minimum seconds between notifications of the same kind about a mirror, and maximum seconds between
retries while delivery is failing."""

NAMED = 20
"""Maximum number of failed documents that a notification lists; any further ones are only counted."""

LOOK_EVERY = 2.0
"""Seconds between checks of the mirrors; shorter halts aren't reported."""

LIMIT = 10.0
"""Maximum duration of a command or a request, in seconds."""

KILL_SECONDS = 2.0
"""Seconds to wait for a killed command to end."""

log = structlog.get_logger("kbsync")


@dataclass(frozen=True, slots=True)
class FailedDocument:
    """A quarantined document. `path` is relative to the mirror's folder."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Notice:
    """One notification about one mirror.

    `at`: when it happened, or last happened, in epoch seconds. `halt`: the halt that began, or the one that
    ended (then only its reason is set). `count`: the number of documents that failed since the last
    notification. `documents`: the first of them. `fix`: the command that retries them, or empty if no retry
    can succeed before the file changes.
    """

    event: Occasion
    mirror: str
    at: float
    halt: Halt = NO_HALT
    count: int = 0
    documents: tuple[FailedDocument, ...] = ()
    fix: str = ""

    def to_json(self) -> Mapping[str, Any]:
        """Return the JSON to send. Its field `text` summarizes everything in one sentence."""
        halt = self.halt
        match self.event:
            case "halted":
                text = halt_sentence(halt)
            case "recovered":
                text = f"works again (was halted: {halt_words(halt.reason, halt.detail)})"
            case "quarantined":
                text = f"{format_count(self.count, 'document')} failed"
                if self.documents:
                    text += f", first {self.documents[0].path}: {self.documents[0].reason}"
                then = f"fix: {self.fix}" if self.fix else "kbsync will try again when a file changes"
                text = f"{text}; {then}"
        head = {"version": __version__, "event": self.event, "mirror": self.mirror, "at": iso(self.at)}
        head["text"] = printable(f"{self.mirror}: {text}")
        if self.event == "quarantined":
            items = [
                {"path": printable(document.path), "reason": printable(document.reason)}
                for document in self.documents
            ]
            return {**head, "cure": self.fix, "count": self.count, "documents": items}
        return {**head, **{key: printable(word) for key, word in halt_json(halt).items()}}


@dataclass(slots=True)
class _Pace:
    """Limits the rate of notifications of one kind. Times are in monotonic seconds."""

    not_before: float = float("-inf")
    failures: int = 0

    def sent(self, now: float, *, well: bool) -> None:
        self.failures = 0 if well else self.failures + 1
        self.not_before = now + min(SELDOM, EVERY * 2.0**self.failures)


@dataclass(slots=True)
class _MirrorNotices:
    """The pending notifications about one mirror: its current halt, the last halt that was `notified`, and
    its failures.

    `unreported`: the last halt that this process didn't report, because its end may still be reported.
    `shown_at` (when the halt began) and `failed_at` (when a document last failed) are in epoch seconds.
    """

    shown: Halt = NO_HALT
    shown_at: float = 0.0
    notified: Halt = NO_HALT
    unreported: Halt = NO_HALT
    halts: _Pace = field(default_factory=_Pace)
    documents: list[FailedDocument] = field(default_factory=list)
    count: int = 0
    failed_at: float = 0.0
    fix: str = ""
    failures: _Pace = field(default_factory=_Pace)


class PendingNotices:
    """Determines from the state of the mirrors which notifications a daemon still has to send."""

    def __init__(self) -> None:
        self._mirrors: defaultdict[str, _MirrorNotices] = defaultdict(_MirrorNotices)

    def keep_only(self, mirrors: Collection[str]) -> None:
        """Keep only these mirrors, because all other mirrors were removed."""
        for name in self._mirrors.keys() - set(mirrors):
            del self._mirrors[name]

    def record_halt(self, mirror: str, halt: Halt | None, at: float) -> None:
        """Record a halt of the mirror. `at`: when it began, in epoch seconds."""
        news, halt = self._mirrors[mirror], halt or NO_HALT
        # Compare only the reason: a different number of documents in the detail isn't a change.
        if news.shown.reason != halt.reason:
            news.shown_at = at
        news.shown = halt

    def record_earlier_halt(self, mirror: str, halt: Halt) -> None:
        """Record a halt that an earlier process may have reported, so that its end is reported."""
        self._mirrors[mirror].unreported = halt

    def failed(self, mirror: str, document: FailedDocument, fix: str, now: float, at: float) -> None:
        """Record that a document was quarantined.

        `at`: when, in epoch seconds. `fix`: the command that retries all such documents, or empty if a retry
        can't help this one.
        """
        news = self._mirrors[mirror]
        news.fix, news.failed_at = fix or news.fix, at
        news.count += 1
        if news.count == 1:
            news.failures.not_before = max(news.failures.not_before, now + GATHER)
        if len(news.documents) < NAMED:
            news.documents.append(document)

    def due(self, now: float, on: Collection[Occasion]) -> Iterator[Notice]:
        """Yield the notifications to send at `now` (monotonic seconds) for the configured events."""
        for name, news in self._mirrors.items():
            if news.shown.reason and "halted" not in on:
                news.unreported = news.shown
            ended = news.notified if news.notified.reason else news.unreported
            is_due = now >= news.halts.not_before
            if is_due and news.shown.reason:
                if news.shown.reason != news.notified.reason and "halted" in on:
                    yield Notice("halted", name, news.shown_at, news.shown)
            elif is_due and ended.reason and "recovered" in on:
                # The detail and the fix would ask for something that the user has already done.
                yield Notice("recovered", name, news.shown_at, Halt(ended.reason, "", ""))
            elif is_due:
                # The next halt is news, even if its reason is the same.
                news.notified = news.unreported = NO_HALT
            if news.count and now >= news.failures.not_before and "quarantined" in on:
                documents = tuple(news.documents)
                yield Notice("quarantined", name, news.failed_at, NO_HALT, news.count, documents, news.fix)

    def record_delivery(self, notice: Notice, now: float, *, well: bool) -> None:
        """Record that a notification was delivered, or that it must be sent again after a pause.

        Each pause is longer than the previous one, up to a limit.
        """
        news = self._mirrors[notice.mirror]
        if notice.event == "quarantined":
            news.failures.sent(now, well=well)
            if well:
                news.count -= notice.count
                news.documents = news.documents[len(notice.documents) :]
                news.fix = news.fix if news.count else ""
            return
        news.halts.sent(now, well=well)
        if well:
            news.notified = notice.halt if notice.event == "halted" else NO_HALT
            news.unreported = NO_HALT


class Undelivered(Exception):
    """Raised if a notification can't be delivered. `str()` says why, without arguments or URL."""


async def run_command(command: Sequence[str], body: bytes, limit: float = LIMIT) -> None:
    """Run a command with `body` on stdin, in its own process group, which is killed at the time limit.

    Raises `Undelivered` if the command can't be started, takes longer than `limit` seconds or fails.
    """
    pipe, nothing = asyncio.subprocess.PIPE, asyncio.subprocess.DEVNULL
    starting = asyncio.create_task(
        asyncio.create_subprocess_exec(
            *command, stdin=pipe, stdout=nothing, stderr=nothing, env=os.environ, start_new_session=True
        )
    )
    try:
        # Shielded, because a command whose start is canceled halfway would keep running.
        process = await asyncio.shield(starting)
    except asyncio.CancelledError:
        with contextlib.suppress(OSError):
            await _end_group(await starting)
        raise
    except OSError as error:
        raise Undelivered(f"the command cannot be run: {system_reason(error)}") from None
    if sys.version_info < (3, 11, 4) and process.stdin is not None:
        # If nobody reads the pipe, asyncio would log an error, with a traceback.
        closing = asyncio.create_task(process.stdin.wait_closed())
        closing.add_done_callback(lambda task: task.cancelled() or task.exception())
    try:
        async with asyncio.timeout(limit):
            await process.communicate(body)
    except TimeoutError:
        raise Undelivered(f"the command ran for more than {limit:g} s and was killed") from None
    finally:
        if process.returncode is None:
            await _end_group(process)
    if process.returncode:
        kind = "exit code" if process.returncode > 0 else "signal"
        raise Undelivered(f"it exited with {kind} {abs(process.returncode)}")


async def _end_group(process: asyncio.subprocess.Process) -> None:
    """Kill the command and its child processes, except for those that have switched to another user."""
    with contextlib.suppress(OSError):
        os.killpg(process.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), KILL_SECONDS)


async def post_notice(url: str, body: bytes, limit: float = LIMIT) -> None:
    """POST `body` to a URL, with its username and password, if any, as basic authentication.

    Raises `Undelivered` unless a response with status 200 to 299 arrives in time.
    """
    import httpx

    from kbsync.targets.http import connection  # this module prevents httpx from logging URLs
    from kbsync.targets.http.errors import what_happened
    from kbsync.targets.http.rules import REDIRECT

    times = connection.Timeouts(limit, limit, limit, limit)

    def make_client() -> httpx.AsyncClient:
        endpoint = connection.Endpoint(url, timeouts=times)
        return connection.connections(endpoint, connection.trusted(endpoint), None)

    headers = {"Content-Type": "application/json", "User-Agent": f"kbsync/{__version__}"}
    try:
        async with asyncio.timeout(limit):
            # Use a thread, because creating the client reads all CA certificates.
            client = await asyncio.to_thread(make_client)
            posting = client.stream("POST", url, content=body, headers=headers)
            async with client, posting as answer:
                status = answer.status_code
    except connection.UnusableProxyError:
        raise Undelivered(
            "the proxy from the environment (ALL_PROXY or similar) cannot be used: its URL must begin with "
            "http:// or https://"
        ) from None
    except UsageError as error:  # SSL_CERT_FILE
        raise Undelivered(str(error)) from None
    except (TimeoutError, httpx.TimeoutException):
        raise Undelivered(f"no response within {limit:g} s") from None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError, OSError) as error:
        raise Undelivered(f"it {what_happened(error, times)}") from None
    if status in REDIRECT:
        raise Undelivered(f"it redirects ({status}); set notify.url to the final URL")
    if not 200 <= status < 300:
        raise Undelivered(f"it returned {status}")


def body_of(notice: Notice) -> bytes:
    """Return the notification as a JSON document on one line."""
    return (json.dumps(notice.to_json(), ensure_ascii=False) + "\n").encode("utf-8", "replace")


class Notifications:
    """Sends notifications as configured.

    `runs`: the running mirrors by name, updated as they start and end. `steady` and `wall` are clocks in
    seconds.
    """

    def __init__(
        self,
        runs: Mapping[str, Mirror],
        *,
        steady: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._runs = runs
        self._steady, self._wall = steady, wall
        self._config: NotifyConfig | None = None
        self._pending = PendingNotices()
        self._failing: set[str] = set()
        """The routes (command or POST) whose last delivery failed. kbsync logs a failure only once until the
        route works again."""
        self._changed = asyncio.Event()

    def switch_to(self, config: NotifyConfig | None) -> None:
        """Use this config's settings from now on."""
        if config != self._config:
            self._config = config
            self._failing.clear()
            self._changed.set()
            if config is not None and config.url is not None:
                # Import this now: an upgrade halts mirrors, and then replaced modules can't be imported.
                with contextlib.suppress(Halted):
                    import_module("kbsync.targets.http.rules")

    def record_document(self, mirror: str, event: DocumentEvent) -> None:
        """Record a finished document if notifications are configured."""
        run = self._runs.get(mirror)
        if self._config is not None and run is not None and event.event == "document.failed":
            fix = run.context.command_line(f"retry --mirror {mirror}") if event.may_succeed else ""
            document = FailedDocument(event.path, event.upload.reason)
            self._pending.failed(mirror, document, fix, self._steady(), self._wall())

    async def keep(self) -> None:
        """Check the mirrors and send notifications until canceled.

        On cancellation, also kill a running command.
        """
        while True:
            if self._config is None:
                self._changed.clear()
                await self._changed.wait()
            await asyncio.sleep(LOOK_EVERY)
            await self.poll()

    async def poll(self) -> None:
        """Check the mirrors, and send the notifications that are due."""
        config = self._config
        if config is None:
            return
        self._pending.keep_only(list(self._runs))
        for name, run in list(self._runs.items()):
            # Earlier, the state may still have the halt of a previous process.
            if run.halts.is_current or run.halts.write_error or run.has_compared:
                if run.halts.inherited is not None:
                    self._pending.record_earlier_halt(name, run.halts.inherited)
                    run.halts.inherited = None
                with contextlib.suppress(StateError):  # the mirror itself logs the error
                    halt = await run.store.read(partial(find_halt, mirror=run))
                    self._pending.record_halt(name, halt, self._wall())
        for notice in list(self._pending.due(self._steady(), config.on)):
            well = await self._deliver(config, notice)
            self._pending.record_delivery(notice, self._steady(), well=well)

    async def _deliver(self, config: NotifyConfig, notice: Notice) -> bool:
        """Deliver a notification by command and by POST at the same time. One success is enough."""
        body = body_of(notice)
        channels: list[tuple[str, Awaitable[None]]] = []
        if config.command is not None:
            channels.append(("command", run_command(config.command, body)))
        if config.url is not None:
            channels.append(("url", post_notice(config.url.reveal(), body)))
        outcomes = await asyncio.gather(*(work for _, work in channels), return_exceptions=True)
        for (channel, _), error in zip(channels, outcomes, strict=True):
            if isinstance(error, BaseException):
                if channel not in self._failing:
                    # Log only the type of an unexpected error: its message may contain a URL.
                    unforeseen = f"an error in kbsync itself, {type(error).__name__}"
                    detail = str(error) if isinstance(error, Undelivered | Halted) else unforeseen
                    log.error("notify.failed", via=channel, detail=detail)
                self._failing.add(channel)
            elif channel in self._failing:
                log.info("notify.resumed", via=channel)
                self._failing.discard(channel)
        return any(error is None for error in outcomes)
