"""One request of a vendor's client, from its headers to the end of its answer."""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Callable
from email.utils import formatdate
from typing import TypeVar

from kbsync_standin.application import Application
from kbsync_standin.faults import Fault, Faults
from kbsync_standin.kinds import BEFORE_BODY, TRANSPORT
from kbsync_standin.late import LateWork
from kbsync_standin.messages import Request, Response, StandInClock
from kbsync_standin.requests import Logged
from kbsync_standin.reshaping import reshaped, undone
from kbsync_standin.sending import WITHOUT_ANSWER, sender
from kbsync_standin.wire import MAX_BODY_BYTES, TooLarge, Wire, announced_bytes

PEEK_BYTES = 64 << 10
"""How much of a body is read to find its subject when a fault must be known before the rest."""

Answer = TypeVar("Answer")


class HttpDate:
    """The `Date` of an answer by the stand-in's clock, made once a second."""

    def __init__(self, clock: StandInClock) -> None:
        self._clock = clock
        self._second = -1
        self._text = ""

    def __call__(self) -> str:
        """The time now, as HTTP writes it."""
        second = int(self._clock.now())
        if second != self._second:
            self._second, self._text = second, formatdate(second, usegmt=True)
        return self._text


class Desk:
    """The application with its faults: what every exchange of one server needs."""

    def __init__(self, app: Application, faults: Faults, late: LateWork, latency: float) -> None:
        """`latency`: seconds added to each answer."""
        self.app = app
        self.faults = faults
        self.late = late
        self.latency = latency
        self.date = HttpDate(app.clock)

    def op(self, head: Request) -> str:
        """The operation asked for."""
        return self._asked(lambda: self.app.op(head), "")

    def subject(self, request: Request) -> str:
        """What the request is about."""
        return self._asked(lambda: self.app.subject(request), "")

    def subject_of_beginning(self, request: Request) -> str:
        """What a request is about whose body is cut off; "" where that cannot be made out."""
        try:
            return self.app.subject(request)
        except Exception:
            return ""

    def answer(self, request: Request, fault: Fault | None) -> Response:
        """The application's answer, 500 where it broke down."""
        broken = Response.json({"message": "the stand-in broke down; its terminal says where"}, 500)
        return self._asked(lambda: self.app.answer(request, fault), broken)

    def _asked(self, question: Callable[[], Answer], otherwise: Answer) -> Answer:
        try:
            return question()
        except Exception as error:
            self.broke_down(error)
            return otherwise

    def broke_down(self, error: Exception) -> None:
        """Show a mistake of the stand-in's own: on the terminal, and among the violations."""
        traceback.print_exception(error, file=sys.stderr)
        self.app.violations.append(f"the stand-in itself broke down: {error!r}")


class Exchange:
    """One request and what becomes of it."""

    def __init__(self, desk: Desk, wire: Wire, head: Request, entry: Logged) -> None:
        self._desk = desk
        self._wire = wire
        self._head = head
        self._entry = entry
        self._fault: Fault | None = None

    async def run(self) -> bool:
        """Read, do, answer, as the faults have it. True: another request may follow.

        Raises `Gone` or `OSError` when the client goes.
        """
        try:
            return await self._run()
        except TooLarge:
            return await self._too_large()

    async def stays_open(self) -> bool:
        """After the answer: False once the connection is to be closed without a word."""
        fault = self._fault
        if fault is None or fault.kind != "keepalive-close":
            return True
        if fault.args["on_next"]:
            await self._wire.next_bytes()
        await asyncio.sleep(fault.args["after"])
        return False

    async def _run(self) -> bool:
        if announced_bytes(self._head) > MAX_BODY_BYTES:
            raise TooLarge
        if early := self._desk.faults.any_of(BEFORE_BODY, self._entry.op):
            await self._take_early()
            if await self._broken_off():
                return False
        request = await self._whole_request()
        if not early:
            self._take(self._entry.subject)
        return await self._answer(request)

    def _take(self, subject: str) -> None:
        self._fault = self._desk.faults.take(self._entry.op, subject)
        self._entry.fault = "" if self._fault is None else self._fault.kind

    async def _take_early(self) -> None:
        """Take the fault with as little of the body as it needs to be known."""
        beginning = b""
        if self._desk.faults.asks_for_subject(self._entry.op):
            beginning = await self._wire.read(PEEK_BYTES)
        subject = self._desk.subject_of_beginning(self._head.with_body(beginning))
        self._entry.subject = subject
        self._take(subject)

    async def _broken_off(self) -> bool:
        """Play what ends the connection before the request is read."""
        match self._entry.fault:
            case "close-before":
                pass
            case "reset-connect":
                self._wire.reset()
            case "reset-sending":
                await self._wire.read(announced_bytes(self._head) // 2)
                self._wire.reset()
            case _:
                return False
        return True

    async def _whole_request(self) -> Request:
        slowly = self._fault if self._entry.fault == "slow-reading" else None
        body = await self._wire.read(bytes_per_second=slowly.args["bytes_per_second"] if slowly else None)
        request = self._head.with_body(body, self._entry.n)
        self._entry.subject = self._desk.subject(request)
        return request

    async def _answer(self, request: Request) -> bool:
        response = self._response(request)
        if self._desk.latency:
            await asyncio.sleep(self._desk.latency)
        if self._fault is None:
            return await self._send(response)
        return await self._send(reshaped(response, self._fault, self._desk.app.clock.now()))

    def _response(self, request: Request) -> Response:
        """The answer that would be right; a fault on the way may come before or after the work."""
        fault = self._fault
        if fault is None or fault.kind not in TRANSPORT:
            return self._desk.answer(request, fault)
        if not fault.effect:
            return undone(fault)
        if fault.kind == "late-effect":
            self._desk.late.owe(fault.args["after"], lambda: self._desk.answer(request, None))
            return undone(fault)
        return self._desk.answer(request, None)

    async def _send(self, response: Response) -> bool:
        kind = self._entry.fault
        self._entry.status = 0 if kind in WITHOUT_ANSWER else response.status
        args = {} if self._fault is None else self._fault.args
        return await sender(kind)(self._wire, response, self._desk.date(), args)

    async def _too_large(self) -> bool:
        refusal = Response.json({"message": f"a request has at most {MAX_BODY_BYTES} bytes"}, 413)
        self._entry.status = refusal.status
        await self._wire.write(*self._wire.rendered(refusal.having(connection="close"), self._desk.date()))
        return False
