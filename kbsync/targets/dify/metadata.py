"""Sends documents' paths and tags to Dify as metadata, so that its apps can filter by them.

Metadata is optional: a failure here never fails a document. One request carries the metadata of several
documents (api/controllers/service_api/dataset/metadata.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from itertools import islice

from kbsync.contract.target import Outgoing
from kbsync.errors import Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.dify.shapes import LIMITED, Dataset
from kbsync.targets.http.client import Client
from kbsync.targets.http.metadata import metadata_of
from kbsync.targets.http.reading import require_shape

BATCH = 100
"""Maximum number of documents in one request."""

MAX_WAITING_DOCUMENTS = 1000
"""Maximum number of documents whose metadata is waiting to be sent; beyond that, kbsync drops the oldest
metadata.
"""

PATIENCE = 15.0
"""Maximum delay of a poll, in seconds."""

PAUSE = 600.0
"""Seconds to wait after a failed metadata request: refused requests also count towards the plan's limit."""


class MetadataSender:
    """Collects metadata for the documents below `root` and sends it in batches.

    `read_dataset` returns the current base. `steady`: a monotonic clock in seconds.
    """

    def __init__(
        self,
        client: Client,
        root: str,
        read_dataset: Callable[[], Awaitable[Dataset]],
        steady: Callable[[], float],
    ) -> None:
        self._client, self._root, self._read_dataset, self._steady = client, root, read_dataset, steady
        self._waiting: dict[str, Mapping[str, str]] = {}
        self._created: dict[str, str] = {}
        self._paused_until = -math.inf
        self._turn = asyncio.Lock()

    def add(self, remote_id: str, document: Outgoing, prefix: str) -> None:
        """Queue a document's metadata for sending."""
        with contextlib.suppress(OSError):
            values = metadata_of(document, prefix)
            # A Dify field holds one value; there are no lists.
            self._waiting[remote_id] = {
                name: ", ".join(value) if isinstance(value, list) else value for name, value in values.items()
            }
        while len(self._waiting) > MAX_WAITING_DOCUMENTS:
            del self._waiting[next(iter(self._waiting))]

    def forget(self, ids: Iterable[str]) -> None:
        """Drop the unsent metadata of documents that are about to be deleted: Dify refuses a request that
        names a missing document.
        """
        for document_id in ids:
            self._waiting.pop(document_id, None)

    async def send(self, dataset: Dataset | None) -> None:
        """Send the queued metadata, unless a request failed recently. Never raises `TargetError`."""
        if dataset is None or dataset.fields is None:
            self._waiting.clear()
            return
        async with self._turn:
            while self._waiting and self._steady() >= self._paused_until:
                part = dict(islice(self._waiting.items(), BATCH))
                try:
                    async with self._client.time_limit("describe", PATIENCE):
                        await self._describe(part, dataset.fields)
                except TargetError as error:
                    if isinstance(error, Unavailable) and error.untried:
                        return
                    self._paused_until = self._steady() + PAUSE
                    self._created.clear()
                    if isinstance(error, Unavailable | Unsure) or error.code == LIMITED:
                        return
                self.forget(part)

    async def _describe(self, part: Mapping[str, Mapping[str, str]], known: Mapping[str, str]) -> None:
        fields = {name: await self._field(name, known) for metadata in part.values() for name in metadata}
        operations = []
        for document_id, metadata in part.items():
            values = [
                {"id": fields[name], "name": name, "value": value}
                for name, value in metadata.items()
                if fields[name]  # somebody may have created the field as a number
            ]
            if values:  # keeps the values that users have set
                operations.append(
                    {"document_id": document_id, "metadata_list": values, "partial_update": True}
                )
        if operations:
            path = f"{self._root}/documents/metadata"
            await self._client.request("describe", "POST", path, json={"operation_data": operations})

    async def _field(self, name: str, known: Mapping[str, str]) -> str:
        """Return the field with this name, creating it if it is missing."""
        known = {**known, **self._created}
        if name not in known:
            try:
                body = {"type": "string", "name": name}
                response = await self._client.post("create-field", f"{self._root}/metadata", json=body)
                known = {name: require_shape("create-field", response.fields.id("id"))}
            except Rejected as error:
                # Another mirror may have created it a moment ago.
                known = {} if error.code == LIMITED else ((await self._read_dataset()).fields or {})
                if name not in known:
                    raise
            self._created[name] = known[name]
        return known[name]
