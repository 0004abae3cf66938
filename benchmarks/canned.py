"""An embedding service that returns precomputed vectors after a fixed delay.

Usage: python benchmarks/canned.py DIMENSIONS SECONDS

It prints its port; `GET /requests` returns the request counts. It speaks vLLM's protocol, with vectors as
base64, and works so little that callers wait only for the delay. (The stand-in computes vectors from words,
which takes longer than the work to be measured.)
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import sys
from functools import cache
from random import Random


class Canned:
    """The counts of requests and texts."""

    def __init__(self, dimensions: int, seconds: float) -> None:
        self._seconds = seconds
        self._texts = list[int]()
        chance = Random(1)
        numbers = [[chance.gauss(0.0, 1.0) for _ in range(dimensions)] for _ in range(16)]
        self._vectors = [
            base64.b64encode(struct.pack(f"<{dimensions}f", *vector)).decode() for vector in numbers
        ]
        self._response_for = cache(self._build_response)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends."""
        loop = asyncio.get_running_loop()
        while head := await reader.readuntil(b"\r\n\r\n"):
            due = loop.time() + self._seconds
            length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line[:15] == _LENGTH), 0)
            body = await reader.readexactly(length)
            if head.startswith(b"GET"):
                content = json.dumps({"requests": len(self._texts), "texts": sum(self._texts)}).encode()
            else:
                count = len(json.loads(body)["input"])
                self._texts.append(count)
                content = self._response_for(count)
                await asyncio.sleep(max(0.0, due - loop.time()))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ")
            writer.write(b"%d\r\n\r\n%b" % (len(content), content))

    def _build_response(self, count: int) -> bytes:
        rows = [{"index": n, "embedding": self._vectors[n % len(self._vectors)]} for n in range(count)]
        return json.dumps({"object": "list", "data": rows}).encode()


_LENGTH = b"content-length:"


async def main() -> None:
    """Serve until the process is killed."""
    canned = Canned(int(sys.argv[1]), float(sys.argv[2]))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await canned.serve(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**24)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
