"""Restores passages that files share on OGX.

OGX identifies passages only by their text, so files with identical text share them. When one of these files
is detached, searches no longer find the others. In that case, kbsync restores the passages from one of the
remaining files, because the store also keeps them with each file. Searches find passages under the file that
inserted them last.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from kbsync.targets.http.client import Client
from kbsync.targets.http.reading import require_shape
from kbsync.targets.http.rules import READY, require_parsed
from kbsync.targets.openai import api
from kbsync.targets.openai.shapes import PUT_BACK, FileNames, is_marked, status_of

FILES_PAGE = 10_000
"""Maximum number of files per response when listing the account's files (see "List files" in the service's
API reference)."""

StoredPassage = Mapping[str, Any]
"""A stored passage with its vector, in a format from which it can be restored."""


class SharedPassages:
    """The shared passages of a store during a batch of deletions.

    `model`: the model that computed their vectors.
    """

    def __init__(self, client: Client, names: FileNames, model: str) -> None:
        self._client, self._names, self._model = client, names, model
        self._files = f"/vector_stores/{names.store}/files"
        self._detached: frozenset[str] = frozenset()
        self._ids: dict[str, frozenset[str]] = {}

    async def find_alike(self, ids: Sequence[str]) -> dict[str, list[str]]:
        """Return the remaining files, ours first, that may have the same text as a deleted file.

        These are the files with passages of the same length. If a file is stored but not attached, it is left
        over from an interrupted deletion and has no passages. In that case, files match if they have the same
        size in bytes or are another version of the file.
        """
        leaving = frozenset(ids)
        rows = {row["id"]: row async for row in api.rows(self._client, "list", self._files)}
        stay = [row for file_id, row in rows.items() if file_id not in leaving and status_of(row) == READY]
        stay.sort(key=is_marked, reverse=True)
        by_length: dict[int | None, list[str]] = defaultdict(list)
        for row in stay:
            by_length[row.count("usage_bytes")].append(row["id"])
        alike = {file_id: by_length[rows[file_id].count("usage_bytes")] for file_id in ids if file_id in rows}
        self._detached = leaving - rows.keys()
        if self._detached:
            listed = api.rows(self._client, "files", "/files", limit=str(FILES_PAGE))
            stored = {row["id"]: row async for row in listed}
            for file_id in self._detached & stored.keys():
                file = stored[file_id]
                alike[file_id] = [
                    row["id"] for row in stay if self._names.is_alike(file, stored.get(row["id"], file))
                ]
        return {file_id: several for file_id, several in alike.items() if several}

    async def find_lost(self, file_id: str, alike: Sequence[str]) -> list[list[StoredPassage]]:
        """Return the passages to restore when `file_id` is detached.

        These are the passages of another file with the same text, or of all files that are `alike`.
        """
        if file_id in self._detached:
            return [await self._read(other_id) for other_id in reversed(alike)]
        for other_id in alike:
            if await self._ids_of(other_id) == await self._ids_of(file_id):
                return [await self._read(other_id)]
        return []

    async def restore(self, passages: Sequence[StoredPassage]) -> None:
        """Restore the passages. Doing so twice is harmless."""
        body = {"vector_store_id": self._names.store, "chunks": passages}
        response = await self._client.request(PUT_BACK, "POST", "/vector-io/insert", json=body)
        require_parsed(response, response.status == 204 or None)  # the response has no body

    async def _ids_of(self, file_id: str) -> frozenset[str]:
        if file_id not in self._ids:
            self._ids[file_id] = frozenset(chunk["chunk_id"] for chunk in await self._read(file_id))
        return self._ids[file_id]

    async def _read(self, file_id: str) -> list[StoredPassage]:
        params = {"include_embeddings": "true", "include_metadata": "true"}
        response = await self._client.request(
            "text", "GET", f"{self._files}/{file_id}/content", params=params
        )
        parts = list(response.fields.objects("data"))
        # An incomplete passage could not be restored.
        is_whole = parts and all(
            part.object("chunk_metadata").text("chunk_id") and isinstance(part.get("embedding"), list)
            for part in parts
        )
        return [
            {
                "content": part.get("text"),
                "chunk_id": part["chunk_metadata"]["chunk_id"],
                "metadata": part.get("metadata"),
                "chunk_metadata": part["chunk_metadata"],
                "embedding": part["embedding"],
                "embedding_model": self._model,
                "embedding_dimension": len(part["embedding"]),
            }
            for part in require_shape(response.op, parts if is_whole else None)
        ]
