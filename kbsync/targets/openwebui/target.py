"""A knowledge base of Open WebUI as a target.

A file is uploaded, then indexed in the background, then linked to the base. Its status becomes `completed`
even without a link, so a file counts as searchable only when the base lists it (promise 10). For a changed
file kbsync uploads a new file and then removes the old one. The server could change a text in place, but
would keep the original and the metadata of the old bytes, so if the state were lost, nothing would prove that
the new bytes are stored.
"""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence, Set
from contextlib import aclosing, suppress
from dataclasses import replace
from functools import partial
from typing import Any

from kbsync.contract.searching import Passage, Query
from kbsync.contract.target import Accepted, BaseCard, DeleteOutcome, DocStatus, Limits, Listed, Outgoing
from kbsync.core.text import extension_of, format_duration
from kbsync.errors import DocumentBusy, Halted, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.http import reading
from kbsync.targets.http.client import Client
from kbsync.targets.http.reading import PAGE_SIZE, DocumentRow, ListPage
from kbsync.targets.http.rules import INDEXING, MISSING, READY, UNKNOWN, failed, require_parsed, unless_gone
from kbsync.targets.http.target import ServiceTarget
from kbsync.targets.openwebui import shapes
from kbsync.targets.openwebui.config import EXTENSIONS, TEXTS, OpenWebuiTargetConfig
from kbsync.targets.openwebui.shapes import StoredFile, file_of, page_of, safe_folder

PAUSES = (0.25, 0.5, 1.0, 2.0, 4.0, 0.0)
"""Seconds to wait after each check of a file that is to be deleted but is still being indexed."""

MAX_PASSAGES = 50
"""Number of passages that a search requests; several may belong to one document."""

USUAL_INDEXING_SECONDS, COPY_CHECK_INTERVAL = 60.0, 90.0
"""Usual time to index a copy, and time between checks of a copy whose outcome is unknown, in seconds."""

IN_FLIGHT, ENDED = ("pending", "processing"), ("completed", "failed")

NEWEST, RECENT = 300, 86_400.0
"""Page size for listing the user's newest files, and number of seconds for which a list includes files that
are still being added."""


async def read_inventory(client: Client, base: str) -> Mapping[str, Any]:
    """Return the server's comparison of a base with an empty folder.

    No other response contains all folders, their paths and all files.
    """
    return (await client.request("folders", "POST", f"{base}/sync/diff", json={"manifest": []})).fields


class RemoteFolders:
    """The folders of a base by path, read once and created if missing.

    The server accepts the same name twice in a folder, so only one folder is created at a time.
    """

    def __init__(self) -> None:
        self._known: dict[str, str] | None = None
        self._lock = asyncio.Lock()

    def forget(self) -> None:
        """Drop the folders, so that the next call reads them again."""
        self._known = None

    async def id_of(self, client: Client, base: str, folder: str) -> str | None:
        """Return the id of the folder at path `folder`, or None for the base itself. Raises `TargetError`.

        If the folder is missing, create it.
        """
        if not folder:
            return None
        async with self._lock:
            if self._known is None:
                inventory = await read_inventory(client, base)
                self._known = reading.require_shape("folders", shapes.folders_of(inventory))
            known, parent, path = self._known, None, ""
            for name in folder.split("/"):
                path = f"{path}/{name}" if path else name
                if path not in known:
                    known[path] = await self._create_folder(client, base, name, parent)
                parent = known[path]
            return parent

    async def _create_folder(self, client: Client, base: str, name: str, parent: str | None) -> str:
        body = {"name": name, "parent_id": parent}
        try:
            response = await client.post("make-folder", f"{base}/dirs/create", json=body)
            return str(require_parsed(response, response.fields.id("id")))
        except TargetError as error:
            self.forget()  # the server may have created it, or its parent may be gone
            if isinstance(error, Halted):
                raise
            raise Unavailable(error.reason, code=error.code) from error


class OpenWebuiTarget(ServiceTarget[DocumentRow]):
    """The knowledge base in the config."""

    _config: OpenWebuiTargetConfig
    # Files still being indexed are in the list, too.
    takes = Limits(EXTENSIONS, list_lag=1.0, marks=True)

    only_recipe = "1"
    classify_response = staticmethod(shapes.classify_response)
    certain_calls = frozenset({"base"})

    def prepare(self) -> None:
        """Set the API paths, and create the in-memory caches."""
        self._base = f"/api/v1/knowledge/{self._config.knowledge_id}"
        self._folders = RemoteFolders()

    async def card(self, base_id: str) -> BaseCard:
        """Return a base that the key's user can see."""
        return await self._read_base(base_id, f"/api/v1/knowledge/{base_id}", shapes.card_of)

    # -- put -------------------------------------------------------------------------------------------------

    async def upload(self, document: Outgoing) -> Accepted:
        """Send a document to its folder. If the folder is missing, create it."""
        path, base = self._context.prefix + document.path, self._config.knowledge_id
        metadata = shapes.metadata_of(document.upload_id, document.recipe, path, document.digest, base)
        name = shapes.safe(path.rpartition("/")[2])
        # The server also chooses its reader by the content type, and some text files have a video's
        # extension.
        is_text = extension_of(document.path) in TEXTS
        content_type = "text/plain" if is_text else None
        folder_id = await self._folders.id_of(self._client, self._base, safe_folder(path))
        fields = {"metadata": metadata | ({"directory_id": folder_id} if folder_id else {})}
        stored = await self._send_file(
            "/api/v1/files/", document, file_of, name=name, fields=fields, content_type=content_type
        )
        return Accepted(stored.id, created=stored.created or None)

    # -- status -----------------------------------------------------------------------------------

    async def _states(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """Return the states of files. A linked file is searchable, because the server links a file once its
        passages are in the base.

        Read a page of the base first, then the user's newest files, which may still be waiting, then more
        pages for finished files, and the rest one by one. If the base already has a file's text, change the
        text (`_finish`).
        """
        requested, newest = set(ids), dict[str, StoredFile]()
        rows = await self._find_linked(requested)
        if missing := requested - rows.keys():
            size, limit = min(NEWEST, 2 * len(missing) + 20), 4 * len(missing) + NEWEST
            newest = await self._find_newest(
                size, lambda files: missing <= files.keys() or len(files) >= limit
            )
            ended = {row.id for row in newest.values() if row.id in missing and row.status == "completed"}
            if ended:
                rows |= await self._find_linked(ended, 2 * len(ids) + 1)
        requested_rows = [row for row in rows.values() if row.id in requested]
        if any(row.mark and row.folder not in (None, safe_folder(row.mark[2])) for row in requested_rows):
            self._folders.forget()  # the folder is gone: the server stores the file outside of it
        twins = _equal_texts(rows.values(), requested)

        async def poll(file_id: str) -> DocStatus:
            return await self._status(file_id, rows.get(file_id), newest.get(file_id), file_id in twins)

        states: dict[str, DocStatus] = {}
        for file_id, status in (await self._call_each(requested, poll)).items():
            if isinstance(status, TargetError):
                raise status
            states[file_id] = status
        return states

    async def _status(
        self, remote_id: str, row: StoredFile | None, file: StoredFile | None, is_twin: bool
    ) -> DocStatus:
        """Return a file's status from its row in the base and, if the newest files were read, from its row in
        their list.
        """
        if row and row.is_searchable and not is_twin:
            return READY
        try:
            if row is None:
                word = file.status if file else await self._read_status(remote_id)
                if word in IN_FLIGHT:
                    return INDEXING
                if word and word not in ENDED:
                    return UNKNOWN
            file = file or await self._read_file(remote_id)  # to get its reason or its name
            if file is None:
                return MISSING
            if file.status == "failed" and not file.is_refused_copy:
                return failed(file.error)
            if row is None and file.status == "completed":
                # Searched by name, which other files may have, too.
                row = (await self._find_linked({remote_id}, math.inf, query=file.name)).get(remote_id)
            is_ready = row is not None and row.is_searchable and not is_twin
            return READY if is_ready else await self._finish(remote_id, row is not None, is_twin)
        except (Rejected, Unavailable) as error:
            return replace(UNKNOWN, reason=error.reason, code=error.code)

    async def _find_linked(self, wanted: Set[str], limit: float = 1, **more: str) -> dict[str, StoredFile]:
        """Return the base's files, most recently changed first.

        Stop paging once all `wanted` files, or `limit` files, are listed.
        """
        rows: dict[str, StoredFile] = {}
        for number in itertools.count(1):
            page = await self._read_page(number, PAGE_SIZE, **more)
            is_end = all(row.id in rows for row in page.rows)
            rows |= {row.id: row for row in page.rows}
            if is_end or wanted <= rows.keys() or len(rows) >= min(limit, page.total or 0):
                break
        return rows

    async def _find_newest(
        self, size: int, is_enough: Callable[[Mapping[str, StoredFile]], bool]
    ) -> dict[str, StoredFile]:
        """Return the user's files for all bases, newest first and without texts.

        Stop paging once `is_enough` returns True.
        """
        rows: dict[str, StoredFile] = {}
        while True:
            params = {"filename": "*", "content": "false", "skip": str(len(rows)), "limit": str(size)}
            read = partial(reading.page_in, total=None, read=file_of)
            reading_page = self._client.read("newest", "/api/v1/files/user/search", read, params=params)
            page = {row.id: row for row in (await self._translate_refusal(reading_page)).rows}
            is_end = len(page) < size or page.keys() <= rows.keys()
            rows |= page
            if is_end or is_enough(rows):
                return rows

    async def _finish(self, remote_id: str, is_linked: bool, is_twin: bool = False) -> DocStatus:
        """Have a file indexed although the base already has its text, which the server would refuse. Also
        link a file that the server finished without linking it.

        To make the text different, adds a last line with the file's path to the indexed text, not to the
        original. This does the same to one of two equal files that the server accepted at the same time:
        removing one would remove the passages of both. If a response was lost, the server may still be
        indexing, and indexing again would duplicate the passages: so this skips a file whose indexing began
        only recently, in this process or another. A read-only command changes nothing.
        """
        file = await self._read_file(remote_id)
        if file is None or not (is_linked or file.has_own_line or self._is_unfinished(file)):
            return MISSING  # removed from the base
        is_begun = file.has_own_line or (is_linked and not is_twin)
        if is_begun and self._is_recent(file):
            return self._busy_status(file)
        # The server may be about to link the file.
        is_waiting = file.is_left_out and self._age_of(file.updated) < self._config.vectorization.absent_after
        if self._context.read_only or is_waiting:
            return INDEXING
        with suppress(Unsure):
            if is_linked or not is_begun:
                # If the file is linked, the new passages replace its old ones.
                path = f"{_file_at(file.id)}/data/content/update"
                text = file.content if is_begun else file.with_own_line
                await self._client.post("update", path, json={"content": text})
            if not is_linked:
                body = {"file_id": file.id, "directory_id": file.folder_id}
                await self._client.post("link", f"{self._base}/file/add", json=body)
        return INDEXING

    def _is_unfinished(self, file: StoredFile) -> bool:
        """Return whether the server finished with a file of this base without linking it."""
        return file.is_refused_copy or (file.is_left_out and file.base == self._config.knowledge_id)

    def _busy_status(self, file: StoredFile) -> DocStatus:
        """Return the status of a file that the server may still be indexing.

        A pass waits for a minute at most.
        """
        if self._age_of(file.updated) < USUAL_INDEXING_SECONDS:
            return INDEXING
        remaining = max(1.0, self._config.vectorization.give_up / 2 - self._age_of(file.updated))
        reason = (
            "indexing was interrupted, but may still be running on the server; if not, kbsync will "
            f"repeat it in {format_duration(remaining)}"
        )
        # Check it occasionally, because it may still succeed.
        return replace(INDEXING, reason=reason, pause=min(remaining, COPY_CHECK_INTERVAL))

    def _is_recent(self, file: StoredFile) -> bool:
        """Return whether the file's text was stored, or its indexing began, less than half of `give_up`
        ago.
        """
        return self._age_of(file.updated) < self._config.vectorization.give_up / 2

    async def _read_status(self, remote_id: str) -> str | None:
        """Return a file's status without its text, which may be large, or None if the file doesn't exist."""
        path = f"{_file_at(remote_id)}/process/status"
        return await unless_gone(self._client.read("state", path, shapes.status_in))

    async def _read_file(self, remote_id: str) -> StoredFile | None:
        """Return a file with its text. Raises `Unavailable` if the text exceeds the maximum response size."""
        file = await unless_gone(self._client.read("status", _file_at(remote_id), file_of))
        if file is not None:
            reading.require_id("status", file.id, remote_id)
        return file

    async def _read_page(self, number: int, size: int, **more: str) -> ListPage[StoredFile]:
        """Return a page of the list, most recently changed first.

        For a user who isn't an admin, the server always returns 30 rows.
        """
        params = {"page": str(number), "limit": str(size), **more}
        read = partial(page_of, read=file_of)
        page = self._client.read("list", f"{self._base}/files", read, params=params)
        return await self._translate_refusal(page)

    # -- delete, list, rename --------------------------------------------------------------------------------

    async def delete(self, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        """Remove files from this base, delete those that are in no other base, and then check each of
        them.
        """
        try:
            await self._clean_up(tuple(dict.fromkeys(ids)))
        except TargetError as error:
            return await self._check_refusals(dict.fromkeys(ids, error))
        return await super().delete(ids)

    async def remove(self, remote_id: str) -> None:
        """Delete a file that the cleanup didn't remove."""
        word = await self._wait_until_indexed(remote_id)
        if word is None:
            return
        newest = await self._find_newest(NEWEST, lambda _: True) if word == "completed" else {}
        file = newest.get(remote_id)
        if file and file.is_in_own_collection and self._is_recent(file):
            raise DocumentBusy("delete: the server may be about to link the file", code=file.status)
        if word != "completed" or (file and file.is_in_own_collection):
            response = await self._client.request("delete", "DELETE", _file_at(remote_id))
            require_parsed(response, "deleted" in response.fields.text("message") or None)
        # The file is in another base, too, or was linked to this one after the cleanup.
        elif not await self._clean_up((remote_id,)):
            raise DocumentBusy("delete: the file is still being indexed", code=word)

    async def _wait_until_indexed(self, remote_id: str) -> str | None:
        """Return a file's status once the server has finished with it.

        Raises `DocumentBusy` while the file is being indexed. Deleting the file then would leave its passages
        in the base, and nothing could remove them (promise 11).
        """
        for seconds in PAUSES:
            word = await self._read_status(remote_id)
            if word in ENDED or word is None:  # an unknown status may mean anything
                return word
            await self._sleep(seconds)
        file = await self._read_file(remote_id)
        # After the server crashes, this status stays forever.
        age = self._age_of(file.created) if file and file.created else 0.0
        if age <= 2 * self._config.vectorization.give_up:
            raise DocumentBusy("delete: the file is still being indexed", code=word or "")
        return word

    async def _clean_up(self, ids: Collection[str]) -> bool:
        """Remove files with the server's own call for mirroring. If a file is being indexed, remove none and
        return False.

        The call removes only files linked to this base, but also the passages of every file with the same
        text. So if another file has the same text, the file's text is changed first.
        """
        rows = (await self._read_page(1, PAGE_SIZE)).rows  # the files that changed last
        other_hashes = {row.text_hash for row in rows if row.text_hash and row.id not in ids}
        twins = {row.id for row in rows if row.id in ids and row.text_hash in other_hashes}
        busy = twins | {row.id for row in rows if row.id in ids and row.is_in_own_collection}
        for file_id in busy:
            try:
                await self._finish(file_id, True, file_id in twins)
            except (Rejected, Unavailable):
                # `remove` tries again, and raises the error for this file only (promise 9).
                if len(ids) == 1:
                    raise
        if removable := [file_id for file_id in ids if file_id not in busy]:
            body = {"file_ids": removable, "dir_ids": []}
            await self._client.read("cleanup", f"{self._base}/sync/cleanup", shapes.is_confirmed, json=body)
        return not busy

    async def list(self) -> AsyncIterator[Listed]:
        """Yield all files, starting with those in progress.

        In the opposite order, a file could be missing from both lists.
        """
        prefix = self._context.prefix
        limit = max(RECENT, self._config.vectorization.give_up)
        newest = await self._find_newest(
            NEWEST, lambda files: any(self._age_of(row.created) > limit for row in files.values())
        )
        in_base = [row for row in newest.values() if row.base == self._config.knowledge_id]
        unfinished = [
            row for row in in_base if row.status in IN_FLIGHT or (row.mark and self._is_unfinished(row))
        ]
        pending = {row.id: row for row in unfinished}

        # Oldest first, so that new files don't move rows to other pages.
        oldest_first = partial(self._read_page, order_by="created_at", direction="asc")
        async with aclosing(self._read_list(oldest_first)) as rows:
            async for row in rows:
                pending.pop(row.id, None)
                yield row.listed(prefix, READY if row.is_searchable else INDEXING)
        for row in pending.values():
            yield row.listed(prefix, INDEXING)

    async def _check_list(self, shown: int, claimed: int = 0) -> None:
        """Check the list against its own count or, if the list is empty, against the base's files."""
        if not shown:
            inventory = await self._translate_refusal(read_inventory(self._client, self._base))
            deleted = inventory.get("deleted")
            claimed = len(reading.require_shape("folders", deleted if isinstance(deleted, list) else None))
        reading.check_shown(shown, claimed, self._config.knowledge_id)

    async def rename(self, remote_id: str, path: str, name: str, mtime: float) -> None:
        """Change the name and folder of a file. Citations still show the old name."""
        full_path = self._context.prefix + path
        file_name = full_path.rpartition("/")[2]
        if shapes.safe(file_name) != file_name or safe_folder(full_path) != full_path.rpartition("/")[0]:
            raise Rejected("the server can't rename the file to exactly this name", code="name")
        folder_id = await self._folders.id_of(self._client, self._base, safe_folder(full_path))
        body = {"file_id": remote_id, "directory_id": folder_id}
        try:
            await self._client.read("move", f"{self._base}/file/move", shapes.is_confirmed, json=body)
        except Rejected:
            self._folders.forget()  # the folder may be gone instead of the file
            raise
        path, body = f"{_file_at(remote_id)}/rename", {"filename": file_name}
        renamed = await self._client.read("rename", path, file_of, json=body)
        reading.require_shape("rename", renamed.name == file_name or None)

    # -- search ----------------------------------------------------------------------------------------------

    async def matches(self, query: Query) -> Sequence[tuple[str, Passage]]:
        """Search the base."""
        body = {"collection_names": [self._config.knowledge_id], "query": query.text, "k": MAX_PASSAGES}
        path = "/api/v1/retrieval/query/collection"
        return await self._client.read("search", path, shapes.matches_of, json=body)


def _file_at(remote_id: str) -> str:
    return f"/api/v1/files/{reading.path_part(remote_id)}"


def _equal_texts(rows: Collection[StoredFile], ids: set[str]) -> set[str]:
    """Return which of the `ids` have a twin in the list.

    A twin is another file with the same text; it either isn't requested, isn't ours, or is older.
    """
    first: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: (row.id in ids, row.mark is not None, row.created, row.id)):
        first.setdefault(row.text_hash or row.id, row.id)
    return ids & {row.id for row in rows} - set(first.values())
