"""A run of `kbsync mcp`, which serves its client and also mirrors, unless another kbsync process already
does.

Whichever process holds the state's lock does the mirroring. This process takes the lock when it is free and
releases it at the end; it can serve without the lock. So several assistants may each start such a process for
the same folder, with or without a daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import signal
from collections import deque
from collections.abc import AsyncIterable, Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any

import anyio
import structlog
from mcp.server.stdio import stdio_server
from mcp.shared.message import SessionMessage
from pydantic import ValidationError

from kbsync.cli.commands.mcp.command import assistant_app
from kbsync.cli.commands.mcp.invalid_messages import response_to_invalid
from kbsync.cli.context import prepare, reload
from kbsync.cli.exit_codes import Code, code_of, sentence_of
from kbsync.core.text import replace_surrogates
from kbsync.engine.clock import log_bug, pause_after
from kbsync.errors import KbsyncError, LockedError, describe_with_fix
from kbsync.once import receiving
from kbsync.signals import ENDING, HardEnd, Signals
from kbsync.state import lock
from kbsync.threads import Threads
from kbsync.upgrade import guard_imports

if TYPE_CHECKING:
    from anyio.streams.memory import MemoryObjectSendStream
    from mcp.server.lowlevel import Server

    from kbsync.cli.commands.mcp.open_mirrors import OpenInstallation
    from kbsync.daemon import Daemon

log = structlog.get_logger("kbsync")

CHECK_LOCK_EVERY = 5.0
READ_CONFIG_EVERY = 30.0
"""Seconds between checks of the config and its key files, because an assistant doesn't send SIGHUP."""

UNREAD_LONGEST = 5.0
"""Seconds to wait until a client that has closed stdin reads the remaining responses."""

FREE_FOR = 4
"""Number of consecutive checks that must find the lock free before this process takes it, because a daemon
may be restarting.
"""


def serve(open_mirrors: OpenInstallation, answering: Coroutine[Any, Any, None]) -> None:
    """Serve and mirror until the client disconnects or a signal arrives, then end the process."""
    guard_imports()
    with HardEnd() as end, Signals(ENDING, lambda _number: end.arm(Code.MIRRORED)) as signals:
        asyncio.run(_run(open_mirrors, answering, signals, end))


async def _run(
    open_mirrors: OpenInstallation, answering: Coroutine[Any, Any, None], signals: Signals, end: HardEnd
) -> None:
    stop = asyncio.Event()
    # A mirror with a hanging folder or base can't delay responses about other mirrors.
    asyncio.get_running_loop().set_default_executor(Threads())
    with receiving(signals, lambda _number: stop.set()):
        client, stopped = asyncio.create_task(answering), asyncio.create_task(stop.wait())
        mirroring = Mirroring(open_mirrors)
        keeping = asyncio.create_task(mirroring.keep())
        following = asyncio.create_task(mirroring.follow_config())
        await asyncio.wait({client, stopped}, return_when=asyncio.FIRST_COMPLETED)
        error = client.exception() if client.done() else None
        code = code_of(error) if isinstance(error, Exception) else None
        if error is not None and code is None:
            log.error("answering.failed", exc_info=error)
        # End the process here even if threads are running: one may wait forever for a line from stdin.
        end.arm(code or (Code.MIRRORED if error is None else Code.BROKEN))
        following.cancel()
        await mirroring.end(keeping)
        await open_mirrors.aclose()
    if error is not None and code is not None:
        raise error
    end.now()


class Mirroring:
    """Mirrors like the daemon while no other process holds the state's lock."""

    def __init__(self, open_mirrors: OpenInstallation) -> None:
        self._open_mirrors = open_mirrors
        self._daemon: Daemon | None = None

    async def keep(self) -> None:
        """Mirror until `end` is called."""
        open_mirrors = self._open_mirrors
        free_checks, failures, complaint = FREE_FOR, 0, ""  # don't wait at the start
        while True:
            if free_checks >= FREE_FOR:
                open_mirrors.will_mirror = True
                try:
                    await self._mirror()
                    return
                except LockedError:
                    open_mirrors.obstacle = complaint = ""
                    failures = free_checks = 0
                except Exception as error:
                    if code_of(error) is None:
                        failures += 1
                        again_in = CHECK_LOCK_EVERY + pause_after(failures)
                        open_mirrors.obstacle = log_bug("mirroring.failed", error, again_in=again_in)
                    else:
                        open_mirrors.obstacle = sentence_of(error)
                        if open_mirrors.obstacle != complaint:
                            complaint = open_mirrors.obstacle
                            log.error("mirroring.refused", reason=complaint)
                open_mirrors.will_mirror = False
                if failures:
                    await asyncio.sleep(pause_after(failures))
            state_dir = open_mirrors.installation.state_dir
            last_taken = lock.taken_at(state_dir)
            await asyncio.sleep(CHECK_LOCK_EVERY)
            # A daemon in a restart loop may hold the lock only between two checks.
            has_run = lock.is_held(state_dir) or lock.taken_at(state_dir) != last_taken
            free_checks = 0 if has_run else free_checks + 1

    async def follow_config(self) -> None:
        """Follow changes to the config until canceled. A config with errors is ignored."""
        open_mirrors, complaint, last = self._open_mirrors, "", self._open_mirrors.installation.config
        while True:
            await asyncio.sleep(READ_CONFIG_EVERY)
            try:
                config = await open_mirrors.config_now()
            except (KbsyncError, OSError) as error:
                if (reason := describe_with_fix(error)) != complaint:
                    log.error("config.refused", reason=reason)
                complaint = reason
                continue
            complaint = ""
            if config in (open_mirrors.installation.config, last):
                continue
            last = config
            if self._daemon is not None:
                self._daemon.read_config()
            else:
                open_mirrors.switch_to(config)

    async def _mirror(self) -> None:
        """Mirror until stopped.

        Raises `LockedError` if another process is mirroring, or another `KbsyncError` on failure.
        """
        open_mirrors = self._open_mirrors
        # Check before importing the daemon's modules, which takes a while.
        prepare(open_mirrors.installation)
        from kbsync.daemon import Daemon

        self._daemon = Daemon(
            open_mirrors.installation,
            reload,
            on_config=open_mirrors.switch_to,
            assistants=assistant_app,
            prepare=prepare,
        )
        open_mirrors.obstacle = ""
        try:
            await self._daemon.run()
        finally:
            self._daemon = None

    async def end(self, keeping: asyncio.Task[None]) -> None:
        """Record the finished work, and close the state."""
        if self._daemon is None:
            keeping.cancel()
        else:
            self._daemon.stop()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping


class _Lines(io.TextIOWrapper):
    """The lines of JSON that a client sends.

    `unanswered`: the lines that were read and not yet handled, in order.
    """

    def __init__(self, stream: io.BufferedReader) -> None:
        super().__init__(stream, encoding="utf-8", errors="replace")
        self.unanswered: deque[str] = deque()

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
        """Return the next line of the stream, without lone surrogates."""
        line = replace_surrogates(super().readline(-1 if size is None else size))
        self.unanswered.append(line)
        return line


async def _forward_messages(
    incoming: AsyncIterable[SessionMessage | Exception],
    lines: _Lines,
    messages: MemoryObjectSendStream[SessionMessage | Exception],
    respond: Callable[[SessionMessage], Awaitable[None]],
) -> None:
    """Forward the client's messages to the server, and answer invalid ones with an error. The mcp package
    drops them.

    After the last line, this ends the process even if the client doesn't read the remaining responses.
    """
    async with messages:
        async for item in incoming:
            response = response_to_invalid(lines.unanswered.popleft())
            if response is not None:
                await respond(SessionMessage(response))
            elif not isinstance(item, ValidationError):  # it is one if the line is blank
                await messages.send(item)
    # Nothing else ends the thread that writes to a full pipe.
    asyncio.get_running_loop().call_later(UNREAD_LONGEST, signal.raise_signal, signal.SIGTERM)


async def answer_stdio(server: Server[Any]) -> None:
    """Serve the client on stdin and stdout until it closes them."""
    disconnects = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError)
    with contextlib.suppress(*disconnects):
        lines = _Lines(os.fdopen(os.dup(0), "rb", closefd=False))
        # No child process may read the client's lines.
        empty = os.open(os.devnull, os.O_RDONLY)
        os.dup2(empty, 0)
        os.close(empty)
        try:
            async with (
                stdio_server(anyio.wrap_file(lines)) as (incoming, outgoing),
                anyio.create_task_group() as tasks,
            ):
                sender, messages = anyio.create_memory_object_stream[SessionMessage | Exception]()
                tasks.start_soon(_forward_messages, incoming, lines, sender, outgoing.send)
                await server.run(messages, outgoing, server.create_initialization_options())
        except BaseExceptionGroup as group:
            _, others = group.split(disconnects)
            if others is not None:
                raise others from None
