"""A vector store: a document is an uploaded file that is attached to the store; the file's id names both."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Unpack

from kbsync.contract.searching import Hit, Query
from kbsync.contract.target import (
    Accepted,
    Base,
    DeleteOutcome,
    DocState,
    DocStatus,
    Listed,
    Outgoing,
    PutOutcome,
    Surroundings,
)
from kbsync.core.model import Limits
from kbsync.errors import NotOffered, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.http.bodies import FilePart
from kbsync.targets.http.client import ClientOptions
from kbsync.targets.http.reading import PAGE_SIZE, id_of, object_of
from kbsync.targets.http.target import RemoteTarget, hits_of, limited
from kbsync.targets.openai.config import EXTENSIONS, OpenaiTargetConfig, described, recipe_of, strategy_of
from kbsync.targets.openai.manage import OpenaiBases
from kbsync.targets.openai.shapes import (
    GONE,
    FileNames,
    Mark,
    is_path,
    judge,
    mark_in,
    misshapen,
    no_store,
    page_of,
    passages_of,
    status_of,
)

MOST_PASSAGES = 50
"""`max_num_results` at its most."""

FILES_PAGE = 10_000
"""Files of the account in one answer (the vendor's reference, "List files")."""

FILES_PAGES = 10
"""Of the newest files, looked through for ours that were never attached."""

SWEEP_EVERY, SWEEP_AFTER = 3600.0, 300.0
"""Seconds: between two such looks; and from an upload on, in which another client may still attach it."""

QUICK = 10.0
"""Seconds: an answer that was lost sooner was not lost because the server takes so long to attach."""

OPEN = 300.0
"""Seconds in which a file whose attaching was not answered may still appear in the store."""

FEW = 2
"""Files that are asked for one by one; more are read from the list, whose newest come first."""

MOST_NAMED = 100
"""Files to which a search is limited at the service; of more its passages are chosen here."""

RESTARTS = 3
"""How often a list may begin anew: OGX does where the document at the end of a page was deleted meanwhile."""


@dataclass(slots=True)
class Memory:
    """What the calls of one client know of each other.

    `uploaded`: files that are still to be attached, by upload id and digest. `attaching`: files whose
    attaching was not answered, and when, by the steady clock. `swept`: when orphans were looked for.
    `shares`: files of equal text share their passages; None: not known. `detached`: files that are attached
    anew for that reason, and their attributes.
    """

    uploaded: dict[tuple[int, str], str] = field(default_factory=dict)
    attaching: dict[str, float] = field(default_factory=dict)
    swept: float | None = None
    shares: bool | None = None
    detached: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class OpenaiTarget(RemoteTarget):
    """One vector store. Raises `UsageError` for settings of no use."""

    def __init__(
        self, config: OpenaiTargetConfig, surroundings: Surroundings, **options: Unpack[ClientOptions]
    ) -> None:
        self._config, self._surroundings = config, surroundings
        self._steady, self._wall = options.get("steady", time.monotonic), options.get("wall", time.time)
        self._store = f"/vector_stores/{config.vector_store_id}"
        self._names = FileNames(config.vector_store_id, surroundings.prefix)
        self._memory = Memory()
        super().__init__(config, surroundings, judge, **options)

    @property
    def limits(self) -> Limits:
        """What it takes."""
        return limited(Limits(EXTENSIONS, max_bytes=self._config.max_bytes, marks=True), self._config)

    @property
    def bases(self) -> OpenaiBases:
        """The vector stores of the project."""
        return OpenaiBases(self._config, self._surroundings, self._client)

    def recipe(self, path: str, settings: Mapping[str, Any]) -> str:
        """How `path` is cut, such as `auto` or `t600o200`."""
        return recipe_of(settings)

    def describe(self, recipe: str) -> str:
        """The settings that a recipe stands for."""
        return described(recipe)

    async def base(self) -> Base:
        """Look at the store. Raises `Halted("knowledge-base-missing")`, also for one that has expired."""
        try:
            answer = await self._client.ask("base", "GET", self._store)
        except Rejected as error:
            if error.code == GONE:
                raise no_store(self._config, self._config.vector_store_id) from None
            raise
        body = object_of(answer.body)
        base_id = id_of(body.get("id"))
        if base_id is None:
            raise misshapen(answer)
        if body.get("status") == "expired":
            raise no_store(self._config, base_id, "has expired, as its expires_after says")
        # So OGX tells where a store lies. There passages have ids made from the whole text of their file.
        self._memory.shares = "provider_vector_store_id" in object_of(body.get("metadata"))
        documents = object_of(body.get("file_counts")).get("total")
        return Base(base_id, documents if isinstance(documents, int) else None, self._config.base_url)

    # -- put
    async def put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        """Upload each and attach it; the engine deletes what it replaces, once the new one is searchable."""
        return await asyncio.gather(*map(self._put, documents))

    async def _put(self, document: Outgoing) -> PutOutcome:
        uploaded, key = self._memory.uploaded, (document.upload_id, document.digest)
        path = self._surroundings.prefix + document.path
        mark = Mark(path, document.digest, document.upload_id, document.recipe)
        try:
            self._check(document, mark)
            # Attaching has a limit of its own: a file that was to wait for it is not sent again.
            if key not in uploaded:
                uploaded[key] = await self._upload(document)
            accepted = await self._attach(uploaded[key], mark.attributes(uploaded[key]), mark.recipe)
        except Rejected as error:
            return await self._refused(uploaded.pop(key, None), error)
        except TargetError as error:
            return error
        del uploaded[key]
        return accepted

    def _check(self, document: Outgoing, mark: Mark) -> None:
        """What the vendor would refuse after all of it was sent, is refused here."""
        if document.path.rpartition("/")[2].rpartition(".")[2].lower() not in EXTENSIONS:
            known = " ".join(sorted(EXTENSIONS))
            raise Rejected(f"file search does not take this format; it takes {known}", code="format")
        if document.size > self._config.max_bytes:
            most = f"{self._config.max_bytes:,}"
            raise Rejected(f"{document.size:,} bytes are over the limit of {most}", code="too-large")
        if not document.size:
            raise Rejected("the file is empty", code="empty")
        mark.attributes("")

    async def _upload(self, document: Outgoing) -> str:
        """Store the file, which makes no document yet; its id.

        Raises no `Unsure`: what is not attached is no document, and a lost one is swept up later.
        """
        part = FilePart("file", self._names.name(document), document.body)
        try:
            answer = await self._client.send("upload", "/files", fields={"purpose": "assistants"}, file=part)
            remote_id = id_of(object_of(answer.body).get("id"))
            if remote_id is None:
                raise Unsure("upload: the answer names no file", code="no-id")
        except Unsure as error:
            params = {"purpose": "assistants", "order": "desc", "limit": str(PAGE_SIZE)}
            newest = page_of(await self._client.ask("files", "GET", "/files", params=params))
            found = next((one["id"] for one in newest.rows if self._names.is_of(document, one)), None)
            if found is None:
                raise Unavailable(error.reason, code=error.code) from error
            return str(found)
        return remote_id

    async def _attach(self, remote_id: str, attributes: Mapping[str, Any], recipe: str) -> Accepted:
        """Make a stored file a document. OGX answers when it is indexed, OpenAI at once."""
        body: dict[str, Any] = {"file_id": remote_id, "attributes": attributes}
        if (strategy := strategy_of(recipe)) is not None:
            body["chunking_strategy"] = strategy
        began = self._steady()
        for is_last in (False, True):
            try:
                answer = await self._client.post("attach", f"{self._store}/files", json=body)
                row: Mapping[str, Any] | None = object_of(answer.body)
            except Unsure:
                try:
                    row = await self._row(remote_id)
                except Unavailable:
                    break
                # Not twice at a time: OGX would have the file in its list twice, and never be rid of it.
                if row is None and (is_last or self._steady() - began > QUICK):
                    break
            if row is not None:
                return Accepted(remote_id, ready=status_of(row).state is DocState.READY)
        self._memory.attaching[remote_id] = self._steady()
        return Accepted(remote_id)

    async def _refused(self, remote_id: str | None, error: Rejected) -> PutOutcome:
        """Leave no file behind; and a document is to blame only as long as the store is there."""
        try:
            if remote_id is not None:
                await self._remove("files", f"/files/{remote_id}")
            if error.code == GONE or isinstance(error, NotOffered):
                await self.base()
                return Unavailable(error.reason, code=error.code)
        except TargetError as other:
            return other if not isinstance(other, Rejected) else error
        return error

    # -- status
    async def status(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """The state of each remote id, read from the list where they are several."""
        wanted = dict.fromkeys(ids)
        rows: dict[str, Mapping[str, Any] | None] = {}
        if len(wanted) > FEW:
            pages = -(-len(wanted) // PAGE_SIZE) + 1
            async with aclosing(self._rows(pages)) as listed:
                async for row in listed:
                    if row["id"] in wanted:
                        rows[row["id"]] = row
                    if len(rows) == len(wanted):
                        break
        left = [one for one in wanted if one not in rows]
        rows |= zip(left, await asyncio.gather(*map(self._row, left)), strict=True)
        now, attaching = self._steady(), self._memory.attaching
        missing = [one for one, row in rows.items() if row is None]
        if missing:  # that counts only while the store is there
            await self.base()
        awaited = {one for one in missing if now - attaching.get(one, -OPEN) < OPEN}
        return {
            one: status_of(row) if row is not None else DocStatus(_ABSENT[one in awaited])
            for one, row in rows.items()
        }

    async def _row(self, remote_id: str) -> Mapping[str, Any] | None:
        """One file of the store; None: it is not in it."""
        try:
            answer = await self._client.ask("status", "GET", f"{self._store}/files/{remote_id}")
        except Rejected as error:
            if error.code == GONE:
                return None
            raise
        return object_of(answer.body)

    async def _rows(self, pages: int | None = None) -> AsyncGenerator[Mapping[str, Any], None]:
        """Every file of the store once, the newest first; `pages`: of the first so many pages."""
        seen: set[str] = set()
        cursors: set[str] = set()
        params, read, restarts = {"limit": str(PAGE_SIZE), "order": "desc"}, 0, 0
        while True:
            try:
                page = page_of(await self._client.ask("list", "GET", f"{self._store}/files", params=params))
            except Rejected as error:
                if error.code == GONE:
                    await self.base()
                raise Unavailable(error.reason, code=error.code) from error
            for row in page.rows:
                if row["id"] not in seen:
                    seen.add(row["id"])
                    yield row
            read += 1
            if page.after is None or read == pages:
                return
            restarts += page.after in cursors
            if restarts > RESTARTS:
                raise Unavailable("list: its pages come again and again, as if it had no end", code="list")
            cursors.add(page.after)
            params = {**params, "after": page.after}

    # -- delete
    async def delete(self, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        """Detach each file and delete it. Where files share passages, those of equal text are mended."""
        ids = tuple(dict.fromkeys(ids))
        memory = self._memory
        if memory.shares is None:
            try:
                await self.base()
            except TargetError as error:
                return dict.fromkeys(ids, error)
        if not memory.shares:
            return dict(zip(ids, await asyncio.gather(*map(self._delete, ids)), strict=True))
        async with memory.turn:
            try:
                twins = await self._twins(ids)
                outcomes = dict(zip(ids, await asyncio.gather(*map(self._delete, ids)), strict=True))
                await self._mend(twins)
            except TargetError as error:
                return dict.fromkeys(ids, error)
        return outcomes

    async def _delete(self, remote_id: str) -> DeleteOutcome:
        try:
            if not await self._remove("delete", f"{self._store}/files/{remote_id}"):
                await self.base()  # what is not there counts as done, if the store is
            await self._remove("files", f"/files/{remote_id}")
        except TargetError as error:
            return error
        return None

    async def _remove(self, op: str, path: str) -> bool:
        """Whether it was there. Raises `Unavailable` where the answer does not say that it is gone."""
        try:
            answer = await self._client.ask(op, "DELETE", path)
        except Rejected as error:
            if error.code == GONE:
                return False
            raise
        if object_of(answer.body).get("deleted") is not True:
            raise misshapen(answer)
        return True

    async def _twins(self, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """The attributes of the files that stay and have the bytes of one that goes."""
        rows = {row["id"]: row async for row in self._rows()}
        marks = {one: mark for one, row in rows.items() if (mark := mark_in(row)) is not None}
        digests = {marks[one].digest for one in ids if one in marks}
        return {
            one: object_of(rows[one].get("attributes"))
            for one, mark in marks.items()
            if one not in ids and mark.digest in digests
        }

    async def _mend(self, twins: Mapping[str, Mapping[str, Any]]) -> None:
        """Attach files again whose passages may have gone with those of a twin."""
        # Remembered until it is done: after an error the deletion is repeated, and this with it.
        detached = self._memory.detached
        detached |= twins
        for remote_id, attributes in dict(detached).items():
            mark = mark_in({"attributes": attributes})
            await self._remove("delete", f"{self._store}/files/{remote_id}")
            await self._attach(remote_id, attributes, mark.recipe if mark else "")
            del detached[remote_id]

    # -- list
    async def list(self) -> AsyncIterator[Listed]:
        """Every document; one without a mark of ours is somebody else's."""
        seen = set()
        async with aclosing(self._rows()) as rows:
            async for row in rows:
                seen.add(row["id"])
                yield self._listed(row)
        if not seen:
            await self.base()  # an empty list counts only while the store is there
        swept, now = self._memory.swept, self._steady()
        if not self._surroundings.read_only and (swept is None or now - swept > SWEEP_EVERY):
            self._memory.swept = now
            with suppress(TargetError):  # it only tidies up, and there is another time
                await self._sweep(seen)

    def _listed(self, row: Mapping[str, Any]) -> Listed:
        prefix, mark = self._surroundings.prefix, mark_in(row)
        told = Listed(row["id"], row["id"], created=_seconds(row) or None, state=status_of(row).state)
        if mark is None:
            return told
        is_here = mark.path.startswith(prefix) and mark.path != prefix
        path = mark.path.removeprefix(prefix) if is_here else None
        told = replace(told, name=mark.path, path=path, digest=mark.digest)
        return replace(told, upload_id=mark.upload_id, recipe=mark.recipe)

    async def _sweep(self, attached: set[str]) -> None:
        """Delete files of ours that were uploaded and never attached, as the end of a program leaves them."""
        params = {"purpose": "assistants", "order": "desc", "limit": str(FILES_PAGE)}
        before = self._wall() + (self._client.skew.apart or 0.0) - SWEEP_AFTER
        for _ in range(FILES_PAGES):
            page = page_of(await self._client.ask("files", "GET", "/files", params=params))
            kept = {*attached, *self._memory.uploaded.values(), *self._memory.attaching}
            for row in page.rows:
                if row["id"] in kept or not self._names.is_ours(row) or not 0 < _seconds(row) < before:
                    continue
                # It may have been attached since the list was read.
                if await self._row(row["id"]) is None:
                    await self._remove("files", f"/files/{row['id']}")
            if page.after is None:
                return
            params = {**params, "after": page.after}

    # -- rename, search
    async def rename(self, remote_id: str, path: str, name: str, mtime: float) -> None:
        """Another path in the attributes; the file keeps its name. Raises `Rejected` for one not ours."""
        row = await self._row(remote_id)
        mark = None if row is None else mark_in(row)
        if row is None or mark is None:
            await self.base()
            raise Rejected("rename: the file is not in the store, or has no mark of ours", code=GONE)
        renamed = replace(mark, path=self._surroundings.prefix + path).attributes(remote_id)
        # Attributes of others stay: searches may choose by them.
        kept = {key: one for key, one in object_of(row.get("attributes")).items() if not is_path(key)}
        body = {"attributes": kept | renamed}
        await self._client.ask("rename", "POST", f"{self._store}/files/{remote_id}", json=body)

    async def search(self, query: Query) -> Sequence[Hit]:
        """Best first. The service knows no patterns, types and dates: with them, everything it found."""
        if not query.text.strip():
            return ()
        body: dict[str, Any] = {"query": query.text, "max_num_results": MOST_PASSAGES}
        if 0 < len(query.among) <= MOST_NAMED:
            body["filters"] = {"type": "in", "key": "file_id", "value": list(query.among)}
        try:
            answer = await self._client.ask("search", "POST", f"{self._store}/search", json=body)
        except Rejected as error:
            if error.code == GONE:
                await self.base()
            raise
        found = passages_of(answer)
        hits = hits_of(one for one in found if not query.among or one[0] in query.among)
        return hits if query.selects and not query.among else hits[: query.top_k]


_ABSENT = {False: DocState.MISSING, True: DocState.INDEXING}


def _seconds(row: Mapping[str, Any]) -> float:
    """When it was made, seconds since the epoch."""
    created = row.get("created_at")
    return float(created) if isinstance(created, int | float) and not isinstance(created, bool) else 0.0
