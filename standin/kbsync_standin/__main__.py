"""`python -m kbsync_standin VENDOR`: serve a stand-in until it is told to stop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from kbsync_standin.options import Options, kinds_table, read_options
from kbsync_standin.server import Server

ADDRESS_TAKEN = 1


def main(arguments: list[str] | None = None) -> int:
    """The exit code: 0 when told to stop, 1 when the address cannot be had. Wrong usage exits 2."""
    options = read_options(arguments)
    if options.list_faults:
        return _told(kinds_table(options.app))
    server = Server(options.app, options.host, options.port, options.latency)
    for fault in options.faults:
        server.faults.add(fault)
    return asyncio.run(_serve(server, options))


def _told(text: str) -> int:
    """0, also when the reader has seen enough: `| head`."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # lest its end complains
    return 0


async def _serve(server: Server, options: Options) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await server.start()
    except OSError as error:
        print(f"cannot listen on {options.host} port {options.port}: {error.strerror}", file=sys.stderr)
        return ADDRESS_TAKEN
    print(f"listening on {server.url}", flush=True)
    if not options.quiet:
        print(_how_to_use(server), flush=True)
    await stop.wait()
    await server.stop()
    return 0


def _how_to_use(server: Server) -> str:
    hint = server.app.config_hint(server.url).rstrip()
    return f"{hint}\n# to see and to change what it does: curl {server.url}/_standin"


if __name__ == "__main__":
    sys.exit(main())
