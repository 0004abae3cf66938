"""Runs a stand-in until a signal stops it: `python -m kbsync_standin SERVICE`."""

from __future__ import annotations

import argparse
import asyncio
import importlib
import json
import re
import signal
import sys
from typing import Any

from kbsync_standin.faults import Fault, Faults, parse_fault
from kbsync_standin.server import HOST, Server

ADDRESS_TAKEN = 1
SERVICES = ("dify", "gptbots", "lightrag", "openai", "openwebui", "ragflow", "vectors", "zhipu")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")


def read_options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line, and add the service's `app` with its switches set. Raises `SystemExit(2)` after
    a message on stderr."""
    parser = _parser()
    options = parser.parse_args(arguments)
    # Options that are absent get the stand-in's defaults.
    chosen = {"key": options.key, "vectorize": options.vectorize}
    chosen = {name: value for name, value in chosen.items() if value is not None}
    try:
        module = importlib.import_module(f"kbsync_standin.{options.service}")
        options.app = module.application(seed=options.seed, **chosen)
        if options.behaviour:
            options.app.set_behaviour(dict(options.behaviour))
        for fault in options.faults:
            Faults(options.app.kinds).validate(fault)
    except ValueError as error:
        parser.error(str(error))
    return options


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m kbsync_standin",
        description="Run a server on this machine that simulates a service; documents exist only in memory.",
        allow_abbrev=False,
    )
    parser.add_argument("service", choices=SERVICES, help="the service to simulate")
    parser.add_argument("--port", type=_port, default=0, metavar="N", help="the port; default: any free port")
    parser.add_argument("--key", metavar="KEY", help="the only API key that the server accepts")
    parser.add_argument(
        "--latency", type=_duration, default=0.0, metavar="50ms", help="delay each response by this time"
    )
    parser.add_argument(
        "--vectorize",
        type=_span,
        metavar="1s-5s",
        help="time from an upload until the document is searchable",
    )
    parser.add_argument(
        "--fault",
        type=_fault,
        action="append",
        default=[],
        dest="faults",
        metavar="JSON",
        help="inject this fault; can be repeated",
    )
    parser.add_argument(
        "--behaviour",
        type=_switch,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="set a switch; can be repeated",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed for all random choices")
    parser.add_argument("--quiet", action="store_true", help="print only the URL")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"a port is a number from 0 to 65535, not {text!r}")
    return int(text)


def _duration(text: str) -> float:
    """Parse a number of seconds. Raises `ArgumentTypeError`."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise argparse.ArgumentTypeError(f"write a time as 500ms, 2s or 15m, not {text!r}")
    return float(match[1]) * _UNITS[match[2]]


def _span(text: str) -> tuple[float, float]:
    """Parse the shortest and longest time in seconds; a single time is both. Raises `ArgumentTypeError`."""
    least, _, most = text.partition("-")
    span = _duration(least), _duration(most or least)
    if span[0] > span[1]:
        raise argparse.ArgumentTypeError(f"the shorter time must come first: {text!r}")
    return span


def _fault(text: str) -> Fault:
    try:
        return parse_fault(json.loads(text))
    except json.JSONDecodeError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON: {error}") from None
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _switch(text: str) -> tuple[str, Any]:
    """Parse `key=value`; a value that isn't JSON is a string."""
    key, sign, value = text.partition("=")
    if not key or not sign:
        raise argparse.ArgumentTypeError(f"write a switch as KEY=VALUE, not {text!r}")
    try:
        return key, json.loads(value)
    except ValueError:
        return key, value


def main(arguments: list[str] | None = None) -> int:
    """Serve, and return the exit code: 0 after a signal, 1 if the address can't be used.

    Wrong usage exits 2.
    """
    options = read_options(arguments)
    server = Server(options.app, options.port, options.latency)
    for fault in options.faults:
        server.faults.add(fault)
    return asyncio.run(_serve(server, options))


async def _serve(server: Server, options: argparse.Namespace) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    try:
        await server.start()
    except OSError as error:
        print(f"cannot listen on {HOST} port {options.port}: {error.strerror}", file=sys.stderr)
        return ADDRESS_TAKEN
    print(f"listening on {server.url}", flush=True)
    if not options.quiet:
        print(server.app.config_hint(server.url).rstrip())
        print(f"# inspect and control it: curl {server.url}/_standin", flush=True)
    await stop.wait()
    await server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
