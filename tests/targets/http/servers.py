"""Small servers on a real socket; the test's script handles each connection."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
Script = Callable[[Reader, Writer], Awaitable[None]]


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


class Cut(Exception):
    """The client disconnected before its request was complete."""


async def read_request(reader: Reader) -> Seen:
    """Read the next complete request; raises Cut."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        method, target, _ = head[0].split(" ")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
        return Seen(method, target, headers, await reader.readexactly(int(headers.get("content-length", 0))))
    except (asyncio.IncompleteReadError, ConnectionError):
        raise Cut from None


def response_bytes(status: int = 200, body: Any = None, headers: Mapping[str, str] | None = None) -> bytes:
    """Return a response with its length; a body that isn't bytes becomes JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body or {"code": 200}).encode()
    lines = {"Content-Length": str(len(content)), **(headers or {})}
    head = [f"HTTP/1.1 {status} -", *(f"{name}: {value}" for name, value in lines.items()), "", ""]
    return "\r\n".join(head).encode() + content


def reset(writer: Writer) -> None:
    """End the connection with RST."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class ScriptedServer:
    """`requests` are the complete requests, `cut_count` counts the incomplete ones.

    `met` and `closed` count connections.
    """

    def __init__(self, script: Script) -> None:
        self._script = script
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.requests: list[Seen] = []
        self.cut_count = 0
        self.met = 0
        self.closed = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def meet(self, reader: Reader, writer: Writer) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.met += 1
        try:
            await self._played(reader, writer)
        except (asyncio.CancelledError, ConnectionError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _played(self, reader: Reader, writer: Writer) -> None:
        try:
            await self._script(reader, writer)
        except Cut:
            self.cut_count += 1
        writer.close()
        await writer.wait_closed()
        self.closed += 1

    async def end(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        while self._tasks:
            await asyncio.sleep(0)


@asynccontextmanager
async def serving(script: Script, context: ssl.SSLContext | None = None) -> AsyncIterator[ScriptedServer]:
    """Run a server whose connections follow `script`."""
    server = ScriptedServer(script)
    listening = await asyncio.start_server(server.meet, "127.0.0.1", 0, ssl=context)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        await server.end()


@asynccontextmanager
async def answering(
    *responses: bytes, keep: bool = True, context: ssl.SSLContext | None = None
) -> AsyncIterator[ScriptedServer]:
    """Run a server that sends these responses in order, one for each request; the last one repeats."""
    remaining = list(responses)

    async def script(reader: Reader, writer: Writer) -> None:
        while True:
            server.requests.append(await read_request(reader))
            writer.write(remaining.pop(0) if len(remaining) > 1 else remaining[0])
            await writer.drain()
            if not keep:
                return

    async with serving(script, context) as server:
        yield server
