"""A trivial application: it keeps what is posted to /documents and gives it back."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from kbsync_standin.faults import Fault
from kbsync_standin.messages import Letter, Request, Response, StandInClock

NOON = 1_700_000_000.0


@dataclass(frozen=True)
class Switches:
    loud: bool = False


class Echo:
    """`POST /documents/base` stores a body `name\\ntext`; `GET`, `DELETE /documents/{name}`."""

    name = "echo"
    kinds: Mapping[str, str] = {"shout": "the answer is in capitals"}

    def __init__(self, clock: StandInClock | None = None) -> None:
        self.behaviour = Switches()
        self.clock = clock or StandInClock()
        self.violations: list[str] = []
        self.letters: list[Letter] = []
        self.documents: dict[str, bytes] = {}
        self.effects: list[dict[str, Any]] = []
        self.requests: list[Request] = []

    def op(self, request: Request) -> str:
        ops = {"POST": "upload", "GET": "read", "HEAD": "read", "DELETE": "delete"}
        return ops.get(request.method, "") if request.path.startswith("/documents/") else ""

    def subject(self, request: Request) -> str:
        if self.op(request) == "upload":
            return request.body.partition(b"\n")[0].decode()
        return request.path.rpartition("/")[2]

    def answer(self, request: Request, fault: Fault | None) -> Response:
        self.requests.append(request)
        response = self._answer(request)
        if fault is not None:
            assert fault.kind in self.kinds
            return replace(response, body=response.body.upper())
        return response

    def _answer(self, request: Request) -> Response:
        if request.path == "/boom":
            raise RuntimeError("boom")
        name = self.subject(request)
        match self.op(request):
            case "upload":
                self.documents[name] = request.body
                return Response.json({"code": 200, "name": name, "sha256": self._effect("stored", name)})
            case "delete":
                self._effect("deleted", name)
                del self.documents[name]
                return Response.json({"code": 200})
            case "read" if name in self.documents:
                return Response(200, self.documents[name], {"Content-Type": "text/plain"})
        return Response.json({"code": 404}, 404)

    def _effect(self, effect: str, name: str) -> str:
        digest = hashlib.sha256(self.documents[name]).hexdigest()
        self.effects.append({"effect": effect, "name": name, "sha256": digest})
        return digest

    def set_behaviour(self, switches: Mapping[str, Any]) -> None:
        if unknown := switches.keys() - {"loud"}:
            raise ValueError(f"there is no switch {', '.join(unknown)}")
        if not isinstance(switches["loud"], bool):
            raise ValueError("loud is true or false")
        self.behaviour = replace(self.behaviour, **switches)

    def snapshot(self) -> dict[str, Any]:
        return {"documents": [{"name": name, "size": len(body)} for name, body in self.documents.items()]}

    def journal(self) -> list[dict[str, Any]]:
        return self.effects

    def reset(self) -> None:
        self.documents.clear()
        self.effects.clear()

    def put_foreign(self, args: dict[str, Any]) -> dict[str, Any]:
        if "name" not in args:
            raise ValueError("a document needs a name")
        self.documents[args["name"]] = args.get("text", "").encode()
        return {"name": args["name"]}

    def config_hint(self, url: str) -> str:
        return f"target:\n  base_url: {url}\n"


def application(
    key: str = "k", seed: int = 0, vectorize: tuple[float, float] = (0, 0), clock: StandInClock | None = None
) -> Echo:
    app = Echo(clock)
    app.documents["arguments"] = json.dumps([key, seed, vectorize]).encode()
    return app


def upload(name: str = "a.md", text: str = "hello", headers: str = "") -> bytes:
    """The bytes of an upload as they go over the wire."""
    body = f"{name}\n{text}".encode()
    head = f"POST /documents/base HTTP/1.1\r\nhost: x\r\n{headers}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def spoken(port: int, sent: bytes, *, half_close: bool = False) -> bytes:
    """Everything that comes back on a fresh connection until the server closes it.

    Raises `ConnectionResetError` for a reset.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(sent)
        await writer.drain()
        if half_close:
            writer.write_eof()
        return await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


CLOSE = "connection: close\r\n"
