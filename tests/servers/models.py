"""A small server with OpenAI's model API, for real servers that need embeddings and chat.

A vector is the hashed bag of a text's words: texts that share words are near each other. `python -m
tests.servers.models PORT` serves until it is ended. `/control` sets all faults together:

    POST /control {"fail": 2, "status": 429}     the next two requests for embeddings fail
                  {"fail_if": "word"}            each request with the word in it fails
                  {"delay": 0.5}                 seconds before each response
                  {"chat": "text"}               the text of a chat's answer
    DELETE /control                              no more faults
    GET /requests                                the requested paths, the oldest first
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

DIMENSIONS = 384
EMBEDDING, CHAT = "fake-embed", "fake-chat"
KEY = "sk-models"

END_OF_EXTRACTION = "<|COMPLETE|>"
"""The text that ends LightRAG's extraction of entities; alone: there are none."""


@dataclass
class Orders:
    """The faults that a test ordered. `fail`: the number of embedding requests to fail from now on."""

    fail: int = 0
    status: int = 500
    fail_if: str = ""
    delay: float = 0.0
    chat: str = ""


@dataclass
class Models(ThreadingHTTPServer):
    """The server. The backlog is long because Open WebUI opens a connection for each chunk of a document, all
    at once.
    """

    port: int = 0
    orders: Orders = field(default_factory=Orders)
    requests: deque[str] = field(default_factory=lambda: deque(maxlen=10_000))
    request_queue_size = 1024
    daemon_threads = True

    def __post_init__(self) -> None:
        super().__init__(("127.0.0.1", self.port), _Conversation)

    @property
    def url(self) -> str:
        """The address for OpenAI's clients, with the version."""
        return f"http://127.0.0.1:{self.server_port}/v1"


@contextmanager
def serving() -> Iterator[str]:
    """Serve on a free port in a thread; yield the address, with `/v1`."""
    server = Models()
    thread = threading.Thread(target=server.serve_forever, name="models", daemon=True)
    thread.start()
    try:
        yield server.url
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def vector(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """Return a vector of length 1. Each word adds or subtracts 1 at the position of its hash."""
    values = [0.0] * dimensions
    for word in re.findall(r"\w+", text.lower()):
        number = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8], "big")
        values[number % dimensions] += 1.0 if number >> 63 else -1.0
    if not any(values):
        values[0] = 1.0
    length = math.sqrt(sum(value * value for value in values))
    return [value / length for value in values]


class _Conversation(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: otherwise each response waits 40 ms for an acknowledgement
    server: Models

    def log_message(self, *_: Any) -> None:
        """Print nothing; the path is recorded."""

    def do_GET(self) -> None:
        match self._path():
            case "/requests":
                self._respond(200, list(self.server.requests))
            case "/v1/models":
                models = [
                    {"id": name, "object": "model", "created": 1, "owned_by": "tests"}
                    for name in (EMBEDDING, CHAT)
                ]
                self._respond(200, {"object": "list", "data": models})
            case path:
                self._refuse(404, f"there is no {path}")

    def do_DELETE(self) -> None:
        self.server.orders = Orders()
        self._respond(200, asdict(self.server.orders))

    def do_POST(self) -> None:
        try:
            request = json.loads(self._body())
        except ValueError:
            self._refuse(400, "the body is not JSON")
            return
        path, orders = self._path(), self.server.orders
        if path == "/control":
            self.server.orders = Orders(**request)
            self._respond(200, asdict(self.server.orders))
            return
        self.server.requests.append(path)
        time.sleep(orders.delay)
        match path:
            case "/v1/embeddings":
                self._embed(request)
            case "/v1/chat/completions":
                self._chat(request)
            case _:
                self._refuse(404, f"there is no {path}")

    def _embed(self, request: dict[str, Any]) -> None:
        texts = [request["input"]] if isinstance(request["input"], str) else request["input"]
        orders = self.server.orders
        if orders.fail > 0 or (orders.fail_if and any(orders.fail_if in str(text) for text in texts)):
            orders.fail = max(0, orders.fail - 1)
            self._refuse(orders.status, "this failure was asked for")
            return
        vectors = [vector(str(text), int(request.get("dimensions") or DIMENSIONS)) for text in texts]
        rows = [
            {
                "object": "embedding",
                "index": number,
                "embedding": _encode(row_vector, request.get("encoding_format")),
            }
            for number, row_vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
        self._respond(200, {"object": "list", "model": request.get("model"), "data": rows, "usage": usage})

    def _chat(self, request: dict[str, Any]) -> None:
        messages = str(request["messages"])
        text = self.server.orders.chat or (
            END_OF_EXTRACTION if END_OF_EXTRACTION in messages else f"You said: {messages}"
        )
        about = {"id": "chat-1", "created": 1, "model": request.get("model")}
        if not request.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
            usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
            self._respond(200, {**about, "object": "chat.completion", "choices": [choice], "usage": usage})
            return
        middle = len(text) // 2
        pieces: list[tuple[dict[str, str], str | None]] = [
            ({"role": "assistant", "content": text[:middle]}, None),
            ({"content": text[middle:]}, None),
            ({}, "stop"),
        ]
        events = [
            {
                **about,
                "object": "chat.completion.chunk",
                "choices": [{"index": 0, "delta": delta, "finish_reason": end}],
            }
            for delta, end in pieces
        ]
        lines = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        self._send(200, "text/event-stream", lines.encode())

    def _path(self) -> str:
        return self.path.partition("?")[0]

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)

    def _refuse(self, status: int, message: str) -> None:
        self._respond(status, {"error": {"message": message, "type": "server_error", "code": None}})

    def _respond(self, status: int, content: Any) -> None:
        self._send(status, "application/json", json.dumps(content).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _encode(numbers: list[float], encoding: str | None) -> list[float] | str:
    if encoding != "base64":
        return numbers
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


if __name__ == "__main__":
    Models(int(sys.argv[1])).serve_forever()
