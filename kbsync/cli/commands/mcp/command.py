"""`kbsync mcp`: answers an assistant, and mirrors meanwhile unless another kbsync does.

Whoever holds the lock of the state mirrors. This process takes it when nobody has it, and lets it go at its
end; answering never depends on it. So several assistants may each start one of these for the same folder,
beside a daemon or without.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import click

from kbsync.cli.context import again, choose, prepare
from kbsync.cli.exit_codes import Code, code_of, sentence_of
from kbsync.cli.options import Choices, examples, shared_options
from kbsync.cli.output import tell
from kbsync.errors import LockedError, UsageError
from kbsync.signals import ENDING, HardEnd, Signals

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

    from kbsync.cli.commands.mcp.library import Library
    from kbsync.daemon import Daemon

LOOK_EVERY = 5.0
FREE_FOR = 4
"""Looks in a row that have to find the lock free before it is taken over: a daemon may be restarting."""


@click.command(
    epilog=examples(
        "kbsync mcp --folder ~/notes           an assistant starts this, and talks over stdin and stdout",
        "kbsync mcp --folder ~/notes --http 127.0.0.1:9754",
        "KBSYNC_MCP_TOKEN=… kbsync mcp --http 0.0.0.0:9754",
    )
)
@click.option("--http", metavar="ADDRESS", help="Serve over HTTP at host:port instead of stdin and stdout.")
@shared_options
def command(choices: Choices, http: str | None) -> int:
    """Let an assistant search what is mirrored, by the Model Context Protocol (MCP).

    Mirrors the folder meanwhile, unless another kbsync does. Over HTTP, clients on other machines need a
    token: $KBSYNC_MCP_TOKEN, or http.token of the config.
    """
    installation = choose(choices, here=True)
    try:
        from kbsync.cli.commands.mcp.protocol import server_of
    except ModuleNotFoundError as error:
        from kbsync import install_command

        raise UsageError(
            "kbsync mcp needs the package mcp; install it beside kbsync: " + install_command("mcp")
        ) from error
    from kbsync import logs
    from kbsync.cli.commands.mcp.library import Library

    level = choices.log_level or ("warning" if choices.quiet else installation.config.log_level or "info")
    logs.configure(style=choices.log_format, level=level)
    library = Library(installation)
    server = server_of(library)
    if http is None:
        answering = _answer_stdio(server)
        if sys.stdin.isatty() and not choices.quiet:
            tell("an assistant starts this, and talks to it over stdin and stdout: see docs/mcp.md")
    else:
        from kbsync.cli.commands.mcp.http import endpoint_at, listening, serve

        endpoint = endpoint_at(http, installation.config, os.environ)
        answering = serve(server, endpoint, listening(endpoint))
        if not choices.quiet:
            tell(f"serving {endpoint.url}")

    with HardEnd() as end, Signals(ENDING, lambda _number: end.arm(Code.MIRRORED)) as signals:
        asyncio.run(_run(library, answering, signals, end))
    return Code.MIRRORED


async def _run(
    library: Library, answering: Coroutine[Any, Any, None], signals: Signals, end: HardEnd
) -> None:
    """Answer and mirror, until the client is gone or a signal comes. Ends the process."""
    from kbsync.once import receiving

    stop = asyncio.Event()
    with receiving(signals, lambda _number: stop.set()):
        client, stopped = asyncio.create_task(answering), asyncio.create_task(stop.wait())
        mirroring = Mirroring(library)
        keeping = asyncio.create_task(mirroring.keep())
        await asyncio.wait({client, stopped}, return_when=asyncio.FIRST_COMPLETED)
        # From here on it ends, whatever its threads do: one may wait for a line of stdin for ever.
        end.arm(Code.MIRRORED)
        await mirroring.end(keeping)
        await library.aclose()
    if client.done():
        client.result()
    end.now()


class Mirroring:
    """Mirrors as the daemon does, whenever no other kbsync holds the state."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._daemon: Daemon | None = None

    async def keep(self) -> None:
        """Until `end`."""
        import structlog

        from kbsync.state import lock

        log, library = structlog.get_logger("kbsync"), self._library
        free = FREE_FOR  # at the start there is nothing to wait for
        while True:
            if free >= FREE_FOR:
                library.will_mirror = True
                try:
                    await self._mirror()
                    return
                except LockedError:
                    library.trouble = ""
                except Exception as error:
                    if code_of(error) is None:
                        log.exception("mcp.mirroring_failed")
                    elif (trouble := sentence_of(error)) != library.trouble:
                        log.error("mcp.mirroring_refused", reason=trouble)
                    library.trouble = sentence_of(error)
                library.will_mirror = False
            await asyncio.sleep(LOOK_EVERY)
            free = 0 if lock.is_held(library.installation.state_dir) else free + 1

    async def _mirror(self) -> None:
        """Raises `LockedError` where another kbsync does, and other `KbsyncError` where it cannot be done."""
        library = self._library
        # Before what a daemon needs is loaded, which takes a while.
        prepare(library.installation)
        from kbsync.daemon import Daemon

        self._daemon = Daemon(
            library.installation, lambda: again(library.installation), on_config=library.turn_to
        )
        library.trouble = ""
        try:
            await self._daemon.run()
        finally:
            self._daemon = None

    async def end(self, keeping: asyncio.Task[None]) -> None:
        """Let go of the state; what was done is recorded."""
        if self._daemon is None:
            keeping.cancel()
        else:
            self._daemon.stop()
        with contextlib.suppress(asyncio.CancelledError):
            await keeping


async def _answer_stdio(server: Server[Any]) -> None:
    """Answer the client at the other end of stdin and stdout, until it closes them."""
    import anyio
    from mcp.server.stdio import stdio_server

    gone = (OSError, anyio.BrokenResourceError, anyio.ClosedResourceError)
    with contextlib.suppress(*gone):
        try:
            async with stdio_server() as (incoming, outgoing):
                await server.run(incoming, outgoing, server.create_initialization_options())
        except BaseExceptionGroup as group:
            _, others = group.split(gone)
            if others is not None:
                raise others from None
