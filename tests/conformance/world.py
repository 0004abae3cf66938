"""The suite's interface to a target under test, and the documents that it puts there."""

from __future__ import annotations

import abc
import asyncio
import hashlib
import itertools
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from kbsync.accounts.account import account_of
from kbsync.contract.meter import Meter
from kbsync.contract.searching import Query
from kbsync.contract.target import Accepted, DocState, Listed, Outgoing, Target
from tests.targets.bodies import BytesBody

LARGEST_READ = 1024 * 1024


class SuiteWorld(abc.ABC):
    """A new, empty knowledge base, a client for it, and ways to influence both.

    Methods that a target can't support skip the test that calls them.
    """

    target: Target
    large_bytes = 2 * LARGEST_READ + 17
    largest_read: int | None = LARGEST_READ
    """The most bytes that a target may read from a body at once; None: no limit."""
    recipe_settings: Mapping[str, Any] | None = None
    """Settings that change the recipe of an .md file, if there are any."""
    neutral_settings: Mapping[str, Any] | None = None
    """Settings that leave the recipe unchanged."""
    keeps_names = True
    """Names come back as they were sent."""
    repeats_puts = True
    """Whether the target itself recognizes a repeated put; otherwise the journal searches for the
    document.
    """
    has_clock = True
    """Responses of the service contain its time."""
    chat_model = "some-model"
    """A model that answers questions, if the service has no applications."""
    shares_base = False
    """`open` opens the target of the mirror with `prefix`."""
    prefix = ""
    only_base_reports_loss = False
    """Only the base call reports a missing base; other calls fail as if the service were down."""
    unknown_id = "2108699999999999999"
    """An id in the target's own format that belongs to no document."""
    impossible_ids: tuple[str, ...] = ()
    """Ids in a similar format that the target can't have created."""

    def __init__(self) -> None:
        self._upload_ids = itertools.count(1)

    # ---- implemented by each target

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Run the service for as long as the context lasts."""
        yield

    @abc.abstractmethod
    async def open(self) -> Target:
        """Return a new client of the base. Called first, and after each `aclose` of the previous one."""

    @abc.abstractmethod
    async def pass_time(self, seconds: float) -> None:
        """Let time pass at the target; a world with a real clock may wait far less than `seconds`."""

    def now(self) -> float:
        """The target's clock, in seconds since the epoch."""
        return time.time()

    def name_for(self, path: str, digest: str = "") -> str:
        """Return the remote name for a document at `path` with these bytes."""
        return path.rpartition("/")[2]

    def failing_bytes(self, path: str) -> bytes:
        """Return bytes that fail at `path`, at once or while they are indexed."""
        pytest.skip("this world cannot make a document fail")

    def fix_failures(self) -> None:
        """Let failed documents succeed when they are indexed again."""
        pytest.skip("this world cannot cure a document")

    async def recreate(self) -> None:
        """Delete the base and create a new one in its place; `target` uses the new one."""
        pytest.skip("this world cannot make its base anew")

    def lose_base(self) -> None:
        """Delete the base as another user, or hide it from this key."""
        pytest.skip("this world cannot lose its base")

    def restore_base(self) -> None:
        """Bring the base back with its contents."""
        raise NotImplementedError

    async def share(self, prefix: str) -> None:
        """Close the client, and open one for a mirror that shares the base under `prefix`."""
        if not self.shares_base:
            pytest.skip("this world has one mirror")
        self.prefix = prefix
        await self.reopen()

    async def reopen(self) -> None:
        """Close the client and open another, as a restart does."""
        await self.target.aclose()
        self.target = await self.open()

    # ---- documents

    def document(
        self,
        path: str,
        text: str | bytes,
        *,
        upload_id: int | None = None,
        replaces: str | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> Outgoing:
        """Return a document to put."""
        data = text if isinstance(text, bytes) else text.encode()
        digest = hashlib.sha256(data).hexdigest()
        settings = settings or {}
        return Outgoing(
            upload_id=next(self._upload_ids) if upload_id is None else upload_id,
            path=path,
            name=self.name_for(path, digest),
            digest=digest,
            size=len(data),
            mtime=1_700_000_000.0,
            recipe=self.target.recipe(path, settings),
            body=BytesBody(data, most=self.largest_read),
            replaces=replaces,
            settings=settings,
        )

    async def put(self, *documents: Outgoing) -> list[Accepted]:
        """Put documents in batches that the target allows; every one must be accepted."""
        accepted: list[Accepted] = []
        batch = self.target.limits.batch
        for start in range(0, len(documents), batch):
            part = documents[start : start + batch]
            outcomes = await self.target.put(part)
            assert len(outcomes) == len(part)
            for outcome in outcomes:
                assert isinstance(outcome, Accepted), outcome
                accepted.append(outcome)
        return accepted

    async def bring(self, *documents: Outgoing) -> list[Accepted]:
        """Put documents, wait until they are searchable, and return their `Accepted` outcomes."""
        accepted = await self.put(*documents)
        await self.until(DocState.READY, *(outcome.remote_id for outcome in accepted))
        return accepted

    async def make_ready(self, *documents: Outgoing) -> list[str]:
        """Put documents, wait until they are searchable, and return their remote ids."""
        return [accepted.remote_id for accepted in await self.bring(*documents)]

    async def fill(self, number: int) -> list[str]:
        """Make many small documents ready, in the largest batches allowed, and return their remote ids."""
        limits = self.target.limits
        documents = [self.document(f"page{n}.md", f"# Page {n}\n\nText {n}.\n") for n in range(number)]
        parts = [documents[start : start + limits.batch] for start in range(0, number, limits.batch)]
        gate = asyncio.Semaphore(limits.concurrency)

        async def put(part: Sequence[Outgoing]) -> list[Accepted]:
            async with gate:
                return await self.put(*part)

        outcomes = await asyncio.gather(*map(put, parts))
        ids = [accepted.remote_id for part in outcomes for accepted in part]
        await self.until(DocState.READY, *ids)
        return ids

    async def until(self, state: DocState, *ids: str, patience: float = 0.0) -> None:
        """Wait until every document is in `state`.

        Fail if a document is READY or FAILED instead, or if `patience` seconds pass.
        """
        started = self.now()
        for _ in range(200):
            states = {status.state for status in (await self.target.status(ids)).values()}
            if states <= {state}:
                return
            wrong = states & {DocState.READY, DocState.FAILED} - {state}
            assert not wrong or self.now() < started + patience, states
            await self.pass_time(self.target.limits.poll_first)
        pytest.fail(f"{ids} never became {state}: {states}")

    def listed_name(self, document: Outgoing, accepted: Accepted) -> str:
        """Return the document's name in the list; `accepted` has it only if it differs from the sent one."""
        assert accepted.name != document.name
        assert not (self.keeps_names and accepted.name)
        return accepted.name or document.name

    async def rows(self) -> list[Listed]:
        """Return the list after its lag."""
        if self.target.limits.list_lag:
            await self.pass_time(self.target.limits.list_lag)
        return [row async for row in self.target.list()]

    async def listed(self) -> dict[str, Listed]:
        """Return the list by remote id; no id may occur twice."""
        rows = await self.rows()
        by_id = {row.remote_id: row for row in rows}
        assert len(by_id) == len(rows)
        return by_id

    async def find(self, text: str) -> set[str]:
        """Return the remote ids of documents with `text` in a passage."""
        hits = await self.target.search(Query(text, top_k=50))
        return {hit.remote_id for hit in hits if any(text in p.text for p in hit.passages)}

    def meter(self) -> Meter:
        """Return the target's request counter; skip the test if it sends no requests."""
        if self.target.meter is None:
            pytest.skip("this target makes no requests")
        return self.target.meter

    def require(self, ability: type) -> Any:
        """Return the target or the part of its account that has `ability`; skip the test if none has."""
        account = account_of(self.target)
        for part in (self.target, account.bases, account.callbacks, account.answers):
            if isinstance(part, ability):
                return part
        pytest.skip(f"this target has no {ability.__name__}")


def texts(words: Sequence[str]) -> list[str]:
    """Return a small document for each word."""
    return [f"# About {word}\n\nThis page explains {word} in one sentence.\n" for word in words]
