"""How a client of a base in memory makes its requests: what is checked, and where faults strike."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

from kbsync.contract.mirroring import Outgoing
from kbsync.core.model import Limits
from kbsync.errors import NotOffered, TargetError
from kbsync.targets.memory.base import MemoryBase
from kbsync.targets.memory.behaviour import Subject, is_meant
from kbsync.targets.memory.faults import Fault, Phase, pick
from kbsync.targets.memory.journal import Request
from kbsync.targets.memory.strict import wrong_ids, wrongs

T = TypeVar("T")

DEFAULT_LIMITS = Limits(
    extensions=frozenset({"csv", "docx", "html", "md", "pdf", "rst", "txt"}),
    names=frozenset({"LICENSE", "README"}),
    max_bytes=10 * 1024 * 1024,
)


class Client:
    """A client of `base`. It keeps no state: another one on the same base sees the same.

    `clock` dates the requests; it is the base's own unless another is given.
    """

    def __init__(
        self,
        base: MemoryBase,
        *,
        limits: Limits = DEFAULT_LIMITS,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self._base = base
        self._limits = limits
        self._clock = clock or base.clock
        self._closed = False

    @asynccontextmanager
    async def _request(self, op: str, what: Sequence[Outgoing] | Sequence[str]) -> AsyncIterator[None]:
        base = self._base
        if self._closed:
            raise base.violation(f"{op} after aclose")
        base.requests.append(Request(op, _about(what), self._clock()))
        base.open_requests += 1
        base.busiest = max(base.busiest, base.open_requests)
        try:
            self._base.at(op, Phase.START, what)
            await self._pause(op)
            yield
            self._base.at(op, Phase.ANSWER, what)
        finally:
            base.open_requests -= 1

    async def _pause(self, op: str) -> None:
        pause = self._base.behaviour.pause
        await (asyncio.sleep(0) if pause is None else pause(op))

    async def _play(self, fault: Fault | None, work: Callable[[], T], lie: Callable[[], T]) -> T:
        """Do `work` with `fault`: not at all, before, later, or only in words."""
        if fault is None:
            return self._do(work)
        late = self._late(fault)
        if fault.effect and late is None:
            answer = self._do(work)
            await fault.strike()
            return answer
        if late is not None:
            self._base.later(late, lambda: self._do(work))
        await fault.strike()
        return lie() if fault.lie or late is not None else self._do(work)

    def _late(self, fault: Fault) -> float | None:
        """After how many seconds the work is done; None: now or never."""
        by_base = self._base.behaviour.late_puts
        is_lost = fault.op == "put" and fault.effect and fault.error is not None
        return by_base if by_base > 0 and is_lost else fault.late

    def _do(self, work: Callable[[], T]) -> T:
        self._base.require()
        return work()

    async def _play_one(
        self,
        fault: Fault | None,
        work: Callable[[], T | TargetError],
        lie: Callable[[], T | TargetError],
    ) -> T | TargetError:
        """`_play` for one document of several: its errors are its outcome."""
        try:
            return await self._play(fault, work, lie)
        except TargetError as error:
            return error

    def _fault(self, op: str, concerns: Callable[[Fault], bool] = lambda _: True) -> Fault | None:
        return pick(self._base.faults, op, concerns)

    def _fault_of(self, op: str, subject: Subject) -> Fault | None:
        return self._fault(op, lambda fault: fault.match is not None and is_meant(fault.match, subject))

    def _fault_about(self, op: str, ids: Sequence[str]) -> Fault | None:
        subjects = [self._base.subject(remote_id) for remote_id in ids]
        return self._fault(op, lambda fault: fault.means_any(subjects))

    # ---- what clients must keep to

    def _check_put(self, documents: Sequence[Outgoing]) -> None:
        if len(documents) > self._limits.batch:
            raise self._base.violation(f"{len(documents)} documents in a batch of {self._limits.batch}")
        if len({document.upload_id for document in documents}) < len(documents):
            raise self._base.violation("one upload id occurs twice in a batch")
        for document in documents:
            for wrong in wrongs(document, self._limits):
                raise self._base.violation(wrong)

    def _check_ids(self, ids: Sequence[str]) -> None:
        self._check(wrong_ids(ids))

    def _check_id(self, remote_id: str) -> None:
        self._check_ids((remote_id,))

    def _check(self, wrong: str | None) -> None:
        """Raises `ProtocolViolation` where something is wrong."""
        if wrong is not None:
            raise self._base.violation(wrong)

    def _require_offer(self, op: str) -> None:
        if op in self._base.behaviour.not_offered:
            raise NotOffered(f"this knowledge base has no call {op!r}", code="404")

    def _guard(self, remote_id: str, op: str) -> None:
        """Others' documents are not ours to touch."""
        document = self._base.documents.get(remote_id)
        if document is not None and document.foreign:
            raise self._base.violation(f"{op} of a document that is not ours: {document.name!r}")


def _about(what: Sequence[Outgoing] | Sequence[str]) -> tuple[str, ...]:
    return tuple(one if isinstance(one, str) else one.name for one in what)
