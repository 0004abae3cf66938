"""A trivial application, which stores what is posted to /documents and returns it."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from kbsync_standin.application import Application, Behaviour, Call, Document
from kbsync_standin.faults import Fault
from kbsync_standin.messages import Request, Response, StandInClock
from kbsync_standin.rules import Refused

NOON = 1_700_000_000.0


@dataclass(frozen=True, slots=True)
class Switches(Behaviour):
    loud: bool = False


class Echo(Application[Switches, Document]):
    """`POST /documents/base` stores a body `name\ntext`; `GET`, `DELETE /documents/{name}`."""

    name, switches, default_key = "echo", Switches, "k"
    kinds: ClassVar[Mapping[str, str]] = {"shout": "the answer is in capitals"}

    def begin(self) -> None:
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
        response = self._echo(request)
        if fault is not None:
            assert fault.kind in self.kinds
            return replace(response, body=response.body.upper())
        return response

    def _echo(self, request: Request) -> Response:
        if request.path == "/boom":
            raise RuntimeError("boom")
        name = self.subject(request)
        match self.op(request):
            case "upload":
                document = self.add(Document(id=name, name=name, content=request.body, created=self.now))
                return Response.json({"code": 200, "name": name, "sha256": document.sha256})
            case "delete":
                self.delete(self.documents.pop(name))
                return Response.json({"code": 200})
            case "read" if name in self.documents:
                return Response(200, self.documents[name].content, {"Content-Type": "text/plain"})
        return Response.json({"code": 404}, 404)

    def refusal(self, refused: Refused, call: Call) -> Response:
        raise NotImplementedError

    def store_foreign(self, name: str, content: bytes, args: Mapping[str, Any]) -> Document:
        return self.add(Document(id=name, name=name, content=content, created=self.now))

    def snapshot(self) -> dict[str, Any]:
        documents = [
            {"name": document.name, "size": len(document.content)} for document in self.documents.values()
        ]
        return {"documents": documents}


def application(
    key: str = "k", seed: int = 0, vectorize: tuple[float, float] = (0, 0), clock: StandInClock | None = None
) -> Echo:
    app = Echo(key, seed, clock=clock)
    app.store_foreign("arguments", json.dumps([key, seed, vectorize]).encode(), {})
    return app


def upload(name: str = "a.md", text: str = "hello", headers: str = "") -> bytes:
    """Return the bytes of an upload as they go over the wire."""
    body = f"{name}\n{text}".encode()
    head = f"POST /documents/base HTTP/1.1\r\nhost: x\r\n{headers}content-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def send_raw(port: int, request: bytes, *, half_close: bool = False) -> bytes:
    """Return everything that the server sends on a new connection until it closes it.

    Raises `ConnectionResetError` for a reset.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        await writer.drain()
        if half_close:
            writer.write_eof()
        return await reader.read()
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


CLOSE = "connection: close\r\n"
