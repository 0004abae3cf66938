"""Passages as OGX has them: known by their text alone, so that files of equal text share them.

When one of these files is detached, the others are not found any more. Then the passages of one that stays
are put back, which the store keeps with each file. They are found under the file that had them put in last.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from kbsync.contract.target import DocState
from kbsync.targets.http.client import Client
from kbsync.targets.http.reading import count_of, object_of, objects_in, text_of, well_formed
from kbsync.targets.openai import api
from kbsync.targets.openai.shapes import PUT_BACK, FileNames, mark_in, status_of

FILES_PAGE = 10_000
"""Files of the account in one answer (the vendor's reference, "List files")."""

StoredPassage = Mapping[str, Any]
"""With its vector, as it is put back."""


class AttachLock:
    """Files are attached at one time and deleted at another, so that no deletion misses one that comes."""

    def __init__(self) -> None:
        self._gate, self._none_attaching, self._attaching = asyncio.Lock(), asyncio.Event(), 0
        self._none_attaching.set()

    @asynccontextmanager
    async def attaching(self) -> AsyncGenerator[None, None]:
        """Several may at a time; a deletion that waits goes first."""
        async with self._gate:
            self._attaching += 1
            self._none_attaching.clear()
        try:
            yield
        finally:
            self._attaching -= 1
            if not self._attaching:
                self._none_attaching.set()

    @asynccontextmanager
    async def deleting(self) -> AsyncGenerator[None, None]:
        """The only batch of deletions."""
        async with self._gate:
            await self._none_attaching.wait()
            yield


class SharedPassages:
    """Those of one store, as one batch of deletions meets them. `model`: of their vectors."""

    def __init__(self, client: Client, names: FileNames, model: str) -> None:
        self._client, self._names, self._model = client, names, model
        self._files = f"/vector_stores/{names.store}/files"
        self._detached: frozenset[str] = frozenset()
        self._ids: dict[str, frozenset[str]] = {}

    async def alike(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """The files that stay and may have the text of one that goes, whosever they are, ours first.

        Their passages are equally long. One that is stored and not attached is one whose deletion was
        interrupted, and has no passages: files have as many bytes as it, or are another version of it.
        """
        leaving = frozenset(ids)
        rows = {row["id"]: row async for row in api.rows(self._client, "list", self._files)}
        stay = [
            row for one, row in rows.items() if one not in leaving and status_of(row).state is DocState.READY
        ]
        stay.sort(key=lambda row: mark_in(row) is None)
        by_length: dict[int | None, list[str]] = {}
        for row in stay:
            by_length.setdefault(count_of(row.get("usage_bytes")), []).append(row["id"])
        there = [rows[one] for one in ids if one in rows]
        found = {row["id"]: by_length.get(count_of(row.get("usage_bytes")), []) for row in there}
        self._detached = leaving - rows.keys()
        if self._detached:
            listed = api.rows(self._client, "files", "/files", limit=str(FILES_PAGE))
            stored = {row["id"]: row async for row in listed}
            for file in [stored[one] for one in self._detached if one in stored]:
                found[file["id"]] = [
                    row["id"] for row in stay if self._names.is_alike(file, stored.get(row["id"], file))
                ]
        return {one: several for one, several in found.items() if several}

    async def lost_with(self, one: str, alike: Sequence[str]) -> list[list[StoredPassage]]:
        """The passages to be put back when `one` is detached: of one other of its text, or of all `alike`."""
        if one in self._detached:
            return [await self._read(each) for each in reversed(alike)]
        for each in alike:
            if await self._ids_of(each) == await self._ids_of(one):
                return [await self._read(each)]
        return []

    async def put_back(self, passages: Sequence[StoredPassage]) -> None:
        """Have them found again. Repeatable."""
        body = {"vector_store_id": self._names.store, "chunks": passages}
        await self._client.ask(PUT_BACK, "POST", "/vector-io/insert", json=body)

    async def _ids_of(self, file_id: str) -> frozenset[str]:
        if file_id not in self._ids:
            self._ids[file_id] = frozenset(one["chunk_id"] for one in await self._read(file_id))
        return self._ids[file_id]

    async def _read(self, file_id: str) -> list[StoredPassage]:
        asked = {"include_embeddings": "true", "include_metadata": "true"}
        answer = await self._client.ask("text", "GET", f"{self._files}/{file_id}/content", params=asked)
        passages = [self._passage(part) for part in objects_in(object_of(answer.body).get("data"))]
        return well_formed(answer.op, passages if passages and all(passages) else None)

    def _passage(self, part: Mapping[str, Any]) -> StoredPassage:
        """Empty where it is not told as a whole."""
        about, vector = object_of(part.get("chunk_metadata")), part.get("embedding")
        if not (text_of(about.get("chunk_id")) and isinstance(vector, list)):
            return {}
        return {
            "content": part.get("text"),
            "chunk_id": about["chunk_id"],
            "metadata": part.get("metadata"),
            "chunk_metadata": about,
            "embedding": vector,
            "embedding_model": self._model,
            "embedding_dimension": len(vector),
        }
