"""A vector store: a document is an uploaded file that is attached to the store; the file's id names both."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Unpack

from kbsync.contract.searching import Hit, Query
from kbsync.contract.target import Accepted, Base, DocState, DocStatus, Listed, Outgoing, Surroundings
from kbsync.core.model import Limits
from kbsync.errors import NotOffered, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.http.answering import AnswersByModel
from kbsync.targets.http.bodies import FilePart
from kbsync.targets.http.client import ClientOptions
from kbsync.targets.http.reading import (
    PAGE_SIZE,
    count_of,
    id_of,
    object_of,
    objects_in,
    text_of,
    well_formed,
)
from kbsync.targets.http.target import hits_for, limited, refusal_of
from kbsync.targets.openai import shapes
from kbsync.targets.openai.api import OpenaiApi
from kbsync.targets.openai.config import EXTENSIONS, OpenaiTargetConfig
from kbsync.targets.openai.manage import OpenaiBases
from kbsync.targets.openai.shapes import GONE, Mark, mark_in, status_of

MOST_PASSAGES = 50
"""`max_num_results` at its most."""

FILES_PAGE, FILES_PAGES = 10_000, 10
"""Files of the account in one answer (the vendor's reference, "List files"), and answers: the newest files
are looked through for ours that were never attached."""

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

COMPARED = 1_000_000
"""Bytes of text: of longer ones equal lengths are enough to take them for equal."""

ENOUGH = 0.8
"""Of the files that the store counts, so many are in its list: counts may be a little off."""


@dataclass(frozen=True, slots=True)
class _Bytes:
    content: bytes

    @property
    def size(self) -> int:
        return len(self.content)

    def open(self) -> io.BytesIO:
        return io.BytesIO(self.content)


@dataclass(slots=True)
class _Known:
    """What a target and its unhurried copies know together. Moments are of the steady clock.

    `uploaded`: files still to be attached, by upload id and digest, and since when. `attaching`: those whose
    attaching was not answered, and since when. `shares`: files of equal text share their passages. `leaving`,
    `left`: ids whose deletion waits for its turn, and outcomes of those that had theirs. `is_mended`: no
    deletion has left anything undone.
    """

    uploaded: dict[tuple[int, str], tuple[str, float]] = field(default_factory=dict)
    attaching: dict[str, float] = field(default_factory=dict)
    shares: bool | None = None
    swept: float | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    leaving: dict[str, None] = field(default_factory=dict)
    left: dict[str, TargetError | None] = field(default_factory=dict)
    is_mended: bool = False


class OpenaiTarget(AnswersByModel):
    """One vector store. Raises `UsageError` for settings of no use."""

    chat_path = "/chat/completions"
    only_recipe = "auto"

    def __init__(
        self, config: OpenaiTargetConfig, surroundings: Surroundings, **options: Unpack[ClientOptions]
    ) -> None:
        self._config, self._surroundings, self._prefix = config, surroundings, surroundings.prefix
        self.model = config.chat_model
        self._steady, self._wall = options.get("steady", time.monotonic), options.get("wall", time.time)
        self._store = f"/vector_stores/{config.vector_store_id}"
        self._files = f"{self._store}/files"
        self._names = shapes.FileNames(config.vector_store_id, self._prefix)
        self._known = _Known()
        super().__init__(config, surroundings, shapes.judge, **options)

    def _make_parts(self) -> None:
        self._api = OpenaiApi(self._client, self._config.base_url)

    @property
    def limits(self) -> Limits:
        """What it takes."""
        return limited(Limits(EXTENSIONS, max_bytes=self._config.max_bytes, marks=True), self._config)

    @property
    def bases(self) -> OpenaiBases:
        """The vector stores of the project."""
        return OpenaiBases(self._api, self._config.vector_store_id, self._surroundings)

    async def base(self) -> Base:
        """Look at the store. Raises `Halted("knowledge-base-missing")`, also for one that has expired."""
        store = await self._api.read("base", self._store)
        if store is None:
            raise self._api.no_store(self._store)
        base_id = well_formed("base", id_of(store.get("id")))
        if store.get("status") == "expired":
            raise self._api.no_store(self._store, "has expired, as its expires_after says")
        # So OGX tells where a store lies. There passages have ids made from the whole text of their file.
        self._known.shares = "provider_vector_store_id" in object_of(store.get("metadata"))
        documents = count_of(object_of(store.get("file_counts")).get("total"))
        return Base(base_id, documents, self._config.base_url)

    # -- put
    async def put(self, documents: Sequence[Outgoing]) -> Sequence[Accepted | TargetError]:
        """Upload each and attach it; the engine deletes what it replaces, once the new one is searchable."""
        return await asyncio.gather(*map(self._put, documents))

    async def _put(self, document: Outgoing) -> Accepted | TargetError:
        uploaded, key = self._known.uploaded, (document.upload_id, document.digest)
        mark = Mark(self._prefix + document.path, document.digest, document.upload_id, document.recipe)
        if refusal := refusal_of(document, self.limits, self._config.max_bytes):
            return refusal
        remote_id = ""
        try:
            mark.attributes("")
            # Attaching has a limit of its own: a file that was to wait for it is not sent again.
            if key not in uploaded:
                uploaded[key] = await self._upload(document), self._steady()
            remote_id, _ = uploaded[key]
            accepted = await self._attach(remote_id, {"attributes": mark.attributes(remote_id)})
        except Rejected as error:
            uploaded.pop(key, None)
            return await self._refused(remote_id, error)
        except TargetError as error:
            return error
        uploaded.pop(key, None)
        return accepted

    async def _upload(self, document: Outgoing) -> str:
        """Store the file, which makes no document yet; its id.

        Raises no `Unsure`: what is not attached is no document, and a lost one is swept up later.
        """
        part = FilePart("file", self._names.name(document), document.body)
        try:
            answer = await self._client.send("upload", "/files", fields={"purpose": "assistants"}, file=part)
            if remote_id := id_of(object_of(answer.body).get("id")):
                return remote_id
            raise Unsure("upload: the answer names no file", code="no-id")
        except Unsure as error:
            async with aclosing(self._api.rows("files", "/files", 1, purpose="assistants")) as newest:
                async for row in newest:
                    if self._names.is_of(document, row):
                        return str(row["id"])
            raise Unavailable(error.reason, code=error.code) from error

    async def _attach(self, remote_id: str, settings: Mapping[str, Any]) -> Accepted:
        """Make a stored file a document. OGX answers when it is indexed, OpenAI at once."""
        body = {"file_id": remote_id, **settings}
        began = self._steady()
        for _ in range(2):
            row: Mapping[str, Any] | None = None
            try:
                row = object_of((await self._client.post("attach", self._files, json=body)).body)
            except Unsure:
                with suppress(Unavailable):
                    row = await self._row(remote_id)
            if row:
                return Accepted(remote_id, ready=status_of(row).state is DocState.READY)
            # Not twice at a time: OGX would have the file in its list twice, and never be rid of it.
            if self._steady() - began > QUICK:
                break
        self._known.attaching[remote_id] = self._steady()
        return Accepted(remote_id)

    async def _refused(self, remote_id: str, error: Rejected) -> Accepted | TargetError:
        """Leave no file behind; and a document is to blame only as long as the store is there."""
        try:
            if remote_id:
                await self._api.remove("delete-file", f"/files/{remote_id}")
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
            async with aclosing(self._api.rows("list", self._files, len(wanted) // PAGE_SIZE + 2)) as listed:
                async for row in listed:
                    if row["id"] in wanted:
                        rows[row["id"]] = row
                    if len(rows) == len(wanted):
                        break
        left = [one for one in wanted if one not in rows]
        rows |= zip(left, await asyncio.gather(*map(self._row, left)), strict=True)
        if None in rows.values():  # that counts only while the store is there
            await self.base()
        return {one: self._absent(one) if row is None else status_of(row) for one, row in rows.items()}

    def _absent(self, remote_id: str) -> DocStatus:
        began = self._known.attaching.get(remote_id)
        is_awaited = began is not None and self._steady() - began < OPEN
        return DocStatus(DocState.INDEXING if is_awaited else DocState.MISSING)

    async def _row(self, remote_id: str) -> Mapping[str, Any] | None:
        """One file of the store; None: it is not in it."""
        return await self._api.read("status", f"{self._files}/{remote_id}")

    # -- delete
    async def delete(self, ids: Sequence[str]) -> Mapping[str, TargetError | None]:
        """Detach each file and delete it. Where files share passages, those of equal text are mended."""
        known, ids = self._known, tuple(dict.fromkeys(ids))
        try:
            if known.shares is None:
                await self.base()
            if not known.shares:
                return await self._remove(ids, {})
            # What comes in the meantime goes together: the whole list is read each time.
            known.leaving |= dict.fromkeys(ids)
            async with known.turn:
                if batch := tuple(known.leaving):
                    known.leaving.clear()
                    known.left |= await self._remove_shared(batch)
                late = Unavailable("delete: it was interrupted")
                return {one: known.left.pop(one, late) for one in ids}
        except TargetError as error:
            return dict.fromkeys(ids, error)
        finally:
            for one in ids:
                known.leaving.pop(one, None)

    async def _remove_shared(self, ids: Sequence[str]) -> Mapping[str, TargetError | None]:
        """The outcome of each; what stays and has the text of one that goes is attached again."""
        try:
            if not self._known.is_mended:
                await self._mend_noted()
            return await self._remove(ids, await self._twins(ids))
        except Rejected as error:
            return dict.fromkeys(ids, Unavailable(error.reason, code=error.code))
        except TargetError as error:
            return dict.fromkeys(ids, error)

    async def _remove(
        self, ids: Sequence[str], twins: Mapping[str, Mapping[str, Any]]
    ) -> Mapping[str, TargetError | None]:
        """Out of the store, then the files. In between the twins are mended, which a note has until then."""
        note = ""
        if twins:
            self._known.is_mended = False
            content = _Bytes(json.dumps(twins).encode())
            part = FilePart("file", self._names.note(content.size), content)
            answer = await self._client.send("upload", "/files", fields={"purpose": "assistants"}, file=part)
            if not (note := id_of(object_of(answer.body).get("id")) or ""):
                raise Unavailable("upload: the answer names no file", code="no-id")

        async def remove(one: str, op: str, place: str) -> TargetError | None:
            try:
                if not await self._api.remove(op, f"{place}/{one}") and op == "delete":
                    await self.base()  # what is not there counts as done, if the store is
            except TargetError as error:
                return error
            return None

        removed = await asyncio.gather(*(remove(one, "delete", self._files) for one in ids))
        outcomes = dict(zip(ids, removed, strict=True))
        if note:
            await self._mend(twins, note)
        left = [one for one, error in outcomes.items() if error is None]
        removed = await asyncio.gather(*(remove(one, "delete-file", "/files") for one in left))
        return outcomes | dict(zip(left, removed, strict=True))

    async def _twins(self, ids: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """How each is attached again that stays and has the text of one that goes, whosever it is.

        OGX knows a passage by its text alone. `usage_bytes` is the length of all passages of a file.
        """
        texts: dict[str, Any] = {}

        async def text(row: Mapping[str, Any]) -> Any:
            if row["id"] not in texts:
                answer = await self._client.ask("text", "GET", f"{self._files}/{row['id']}/content")
                parts = objects_in(object_of(answer.body).get("data"))
                texts[row["id"]] = [text_of(part.get("text")) for part in parts]
            return texts[row["id"]]

        goes: dict[int, list[Mapping[str, Any]]] = {}
        stays: list[tuple[int, Mapping[str, Any]]] = []
        async for row in self._api.rows("list", self._files):
            if (size := count_of(row.get("usage_bytes"))) and status_of(row).state is DocState.READY:
                if row["id"] in ids:
                    goes.setdefault(size, []).append(row)
                else:
                    stays.append((size, row))
        twins: dict[str, Mapping[str, Any]] = {}
        for size, row in stays:
            for gone in goes.get(size, ()):
                if size > COMPARED or await text(row) == await text(gone):
                    kept = ("attributes", "chunking_strategy")
                    twins[row["id"]] = {key: row[key] for key in kept if row.get(key)}
                    break
        return twins

    async def _mend(self, twins: Mapping[str, Mapping[str, Any]], note: str) -> None:
        """Attach each again, then forget the note. Raises `TargetError`, and what is left is done later."""
        for one, settings in twins.items():
            if await self._row(one) is None and self._absent(one).state is DocState.INDEXING:
                raise Unavailable(f"delete: file {one} of the same text is still being attached again")
            is_stored = await self._api.read("file", f"/files/{one}") is not None
            # Without its file it cannot be attached again; one of ours is sent again when it is missed.
            if is_stored or mark_in(settings):
                await self._api.remove("delete", f"{self._files}/{one}")
            if is_stored and not (await self._attach(one, settings)).ready:
                raise Unavailable(f"delete: file {one} of the same text could not be attached again")
        await self._api.remove("delete-file", f"/files/{note}")
        self._known.is_mended = True

    async def _mend_noted(self) -> None:
        """What deletions left undone that were interrupted, perhaps with the program."""
        newest = self._api.rows("files", "/files", 1, purpose="assistants", limit=str(FILES_PAGE))
        for note in [row["id"] async for row in newest if self._names.is_note(row)]:
            told = object_of(await self._api.read("file-content", f"/files/{note}/content"))
            await self._mend({one: object_of(settings) for one, settings in told.items()}, note)
        self._known.is_mended = True

    # -- list
    async def list(self) -> AsyncIterator[Listed]:
        """Every document; one without a mark of ours is somebody else's."""
        seen = set()
        async with aclosing(self._api.rows("list", self._files)) as rows:
            async for row in rows:
                seen.add(row["id"])
                yield self._listed(row)
        counted = (await self.base()).documents  # a list counts only while the store is there
        if len(seen) < (counted or 0) * ENOUGH:
            raise Unavailable(f"list: it shows {len(seen)} of {counted} files of the store", code="list")
        swept, now = self._known.swept, self._steady()
        if not self._surroundings.read_only and (swept is None or now - swept > SWEEP_EVERY):
            self._known.swept = now
            with suppress(TargetError):  # it only tidies up, and there is another time
                async with self._known.turn:
                    await self._sweep(seen)

    def _listed(self, row: Mapping[str, Any]) -> Listed:
        told = Listed(row["id"], row["id"], created=_seconds(row) or None, state=status_of(row).state)
        if (mark := mark_in(row)) is None:
            return told
        is_here = mark.path.startswith(self._prefix) and mark.path != self._prefix
        path = mark.path.removeprefix(self._prefix) if is_here else None
        told = replace(told, name=mark.path, path=path, digest=mark.digest)
        return replace(told, upload_id=mark.upload_id, recipe=mark.recipe)

    async def _sweep(self, attached: set[str]) -> None:
        """Delete files of ours that were uploaded and never attached, as the end of a program leaves them."""
        known, now = self._known, self._steady()
        if known.shares:
            await self._mend_noted()
        for key in [key for key, (_, since) in known.uploaded.items() if now - since > SWEEP_EVERY]:
            del known.uploaded[key]
        for one in [one for one, since in known.attaching.items() if now - since > OPEN]:
            del known.attaching[one]
        before = self._wall() + (self._client.skew.apart or 0.0) - SWEEP_AFTER
        newest = self._api.rows("files", "/files", FILES_PAGES, purpose="assistants", limit=str(FILES_PAGE))
        orphans = [
            row["id"]
            async for row in newest
            if row["id"] not in attached and self._names.is_ours(row) and 0 < _seconds(row) < before
        ]
        for one in orphans:
            kept = {*(kept for kept, _ in known.uploaded.values()), *known.attaching}
            # It may have been attached since the list was read.
            if one not in kept and await self._row(one) is None:
                await self._api.remove("delete-file", f"/files/{one}")

    # -- rename, search
    async def rename(self, remote_id: str, path: str, name: str, mtime: float) -> None:
        """Another path in the attributes; the file keeps its name. Raises `Rejected` for one not ours."""
        row = object_of(await self._row(remote_id))
        if (mark := mark_in(row)) is None:
            await self.base()
            raise Rejected("rename: the file is not in the store, or has no mark of ours", code=GONE)
        renamed = replace(mark, path=self._prefix + path).attributes(remote_id)
        # Attributes of others stay: searches may choose by them.
        kept = {key: one for key, one in row["attributes"].items() if not shapes.is_path(key)}
        body = {"attributes": kept | renamed}
        await self._client.ask("rename", "POST", f"{self._files}/{remote_id}", json=body)

    async def search(self, query: Query) -> Sequence[Hit]:
        """Best first. The service knows no patterns, types and dates: with them, everything it found."""
        if not query.text.strip():
            return ()
        body: dict[str, Any] = {"query": query.text, "max_num_results": MOST_PASSAGES}
        if 0 < len(query.among) <= MOST_NAMED:
            body["filters"] = {"type": "in", "key": "file_id", "value": list(query.among)}
        answer = await self._client.ask("search", "POST", f"{self._store}/search", json=body)
        found = shapes.passages_of(answer)
        return hits_for(found, query)


def _seconds(row: Mapping[str, Any]) -> float:
    """When it was made, seconds since the epoch; 0: it does not say."""
    created = row.get("created_at")
    return float(created) if isinstance(created, int | float) else 0.0
