"""A knowledge base of Open WebUI as a target of the mirror.

A file is uploaded, then indexed in the background, then linked to the base. Its own status says `completed`
also where there is no link, so what counts is that the base lists it (promise 10). A change is a new file,
and the old one is removed afterwards: the server could change a text where it lies, but then its metadata
and its original go on telling the old bytes, and after a lost state nothing would prove the new ones.
"""

from __future__ import annotations

import asyncio
import json
import mimetypes
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, Unpack
from urllib.parse import quote

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
from kbsync.core.text import printable
from kbsync.errors import Halted, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.http.bodies import FilePart
from kbsync.targets.http.client import Client, ClientOptions
from kbsync.targets.http.reading import PAGE_SIZE, ListPage, ListSweep, id_of, object_of
from kbsync.targets.http.target import RemoteTarget, hits_of, limited
from kbsync.targets.openwebui import shapes
from kbsync.targets.openwebui.config import EXTENSIONS, TEXTS, OpenWebuiTargetConfig
from kbsync.targets.openwebui.manage import OpenWebuiBases
from kbsync.targets.openwebui.shapes import GONE, StoredFile, file_of, page_of, safe_folder, told

RECIPE = "1"
"""How a document is cut is the server's own setting, for all bases."""

PATIENCE, STEP = 10.0, 0.25
"""Seconds: how long a file that is to be deleted is waited for, and between two looks at it."""

ABANDONED = 3600.0
"""Seconds after which the server itself takes an upload for lost (`sync/diff`)."""

MOST_PASSAGES = 50
"""Passages that a search asks for: several may be of one document."""

_INDEXING, _MISSING = DocStatus(DocState.INDEXING), DocStatus(DocState.MISSING)


class Folders:
    """The folders of a base by path, read once and made where they are missing.

    The server takes a name twice at one place, so that only one is made at a time.
    """

    def __init__(self) -> None:
        self._known: dict[str, str] | None = None
        self._lock = asyncio.Lock()

    def forget(self) -> None:
        """What is known of them does not hold: they are read again."""
        self._known = None

    async def id_of(self, client: Client, base: str, folder: str) -> str | None:
        """The id of the folder at `folder`, None for the base itself. Raises `TargetError`."""
        if not folder:
            return None
        async with self._lock:
            if self._known is None:
                # A comparison with nothing is the only answer that has every folder with its path.
                answer = await client.ask("folders", "POST", f"{base}/sync/diff", json={"manifest": []})
                self._known = told("folders", shapes.folders_of(answer.body))
            known, parent, path = self._known, None, ""
            for name in folder.split("/"):
                path = f"{path}/{name}" if path else name
                if path not in known:
                    known[path] = await self._make(client, base, name, parent)
                parent = known[path]
            return parent

    async def _make(self, client: Client, base: str, name: str, parent: str | None) -> str:
        body = {"name": name, "parent_id": parent}
        try:
            answer = await client.post("make-folder", f"{base}/dirs/create", json=body)
            return str(told("make-folder", id_of(object_of(answer.body).get("id"))))
        except TargetError as error:
            self.forget()  # it may have been made, or its parent may be gone
            if isinstance(error, Halted):
                raise
            raise Unavailable(error.reason, code=error.code) from error


class OpenWebuiTarget(RemoteTarget):
    """The base that the config names."""

    def __init__(
        self, config: OpenWebuiTargetConfig, surroundings: Surroundings, **options: Unpack[ClientOptions]
    ) -> None:
        super().__init__(config, surroundings, shapes.judge, **options)
        self._config, self._surroundings = config, surroundings
        self._base = f"/api/v1/knowledge/{config.knowledge_id}"
        self._folders = Folders()
        self._wall = options.get("wall", time.time)
        self._steady = options.get("steady", time.monotonic)
        self._sleep = options.get("sleep", asyncio.sleep)

    @property
    def limits(self) -> Limits:
        """What a server reads by itself. What it lists last may be on its way still, but is listed."""
        return limited(Limits(EXTENSIONS, list_lag=1.0, marks=True), self._config)

    def recipe(self, path: str, settings: Mapping[str, Any]) -> str:
        """The same for all."""
        return RECIPE

    @property
    def bases(self) -> OpenWebuiBases:
        """Those that the user of the key sees."""
        return OpenWebuiBases(self._config, self._surroundings, self._client)

    async def base(self) -> Base:
        """Look at the base. Raises `Halted("knowledge-base-missing")`."""
        answer = await self._client.ask("base", "GET", self._base)
        return Base(told("base", id_of(object_of(answer.body).get("id"))), address=self._config.base_url)

    # -- put -------------------------------------------------------------------------------------------------

    async def put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        """Each by itself; what it replaces is removed by the engine, once the new one is searchable."""
        return [await self._put(one) for one in documents]

    async def _put(self, document: Outgoing) -> PutOutcome:
        extension = document.path.rpartition(".")[2].lower()
        if extension not in EXTENSIONS:
            return Rejected(f"the server does not read .{extension} files by itself", code="format")
        if not document.size:
            return Rejected("the file is empty", code="empty")
        path, base = self._surroundings.prefix + document.path, self._config.knowledge_id
        metadata = shapes.metadata_of(document.upload_id, document.recipe, path, document.digest, base)
        name = shapes.safe(path.rpartition("/")[2])
        # The server chooses its reader by this as well; some texts look like films by their extension.
        media_type = "text/plain" if extension in TEXTS else mimetypes.guess_type(name)[0]
        file = FilePart("file", name, document.body, media_type or "application/octet-stream")
        try:
            folder_id = await self._folders.id_of(self._client, self._base, safe_folder(path))
            fields = {"metadata": json.dumps(metadata | ({"directory_id": folder_id} if folder_id else {}))}
            answer = await self._client.send("upload", "/api/v1/files/", fields=fields, file=file)
        except TargetError as error:
            return error
        stored = file_of(answer.body)
        if stored is None:
            return Unsure("upload: the server's answer gives the file no id", code="no-id")
        return Accepted(stored.id, created=stored.created)

    # -- what became of it -----------------------------------------------------------------------------------

    async def status(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """Linked is searchable: a file is linked once its passages are in the base.

        The newest of the base are read first, as many as were asked for; then what waits, and the rest each
        by itself. A text that the base has already is made another one here (`_tell_apart`).
        """
        found: dict[str, DocStatus] = {}
        rows: list[StoredFile] = []
        number = 1
        while set(ids) - found.keys() and len(rows) < 2 * len(ids) + 1:
            page = await self._page(number, PAGE_SIZE, {})
            rows += page.rows
            mine = [one for one in page.rows if one.id in ids]
            found |= {one.id: DocStatus(DocState.READY) for one in mine}
            if any(one.mark and one.folder not in (None, safe_folder(one.mark[2])) for one in mine):
                self._folders.forget()  # a folder that is gone was named: the file is put beside all folders
            if not page.rows or len(rows) >= (page.total or 0):
                break
            number += 1
        for one in _equal_texts(rows, set(ids)):
            await self._tell_apart(one)
            found[one.id] = _INDEXING
        if left := [one for one in dict.fromkeys(ids) if one not in found]:
            pending = {one.id for one in await self._pending()}
            found |= {one: _INDEXING for one in left if one in pending}
            alone = [one for one in left if one not in pending]
            found |= dict(zip(alone, await asyncio.gather(*map(self._status, alone)), strict=True))
        return found

    async def _status(self, remote_id: str) -> DocStatus:
        """Of a file that is neither among the newest of the base nor on its way there."""
        file = await self._file(remote_id)
        if file is None:
            return _MISSING
        if file.status == "failed":
            if not shapes.is_duplicate(file.error):
                return DocStatus(DocState.FAILED, file.error or "the server gives no reason", "failed")
            await self._tell_apart(file)
            return _INDEXING
        if file.status != "completed":
            # By now it may wait again; what has no status at all was never to be indexed.
            return _INDEXING if file.status else DocStatus(DocState.UNKNOWN)
        # Somebody took it out of the base, or that was not there when the file was through.
        return DocStatus(DocState.READY) if await self._is_linked(file) else _MISSING

    async def _is_linked(self, file: StoredFile) -> bool:
        """The base lists it; asked for by its name, which other files may have as well."""
        seen, number = 0, 1
        while True:
            page = await self._page(number, PAGE_SIZE, {"query": file.name})
            if any(one.id == file.id for one in page.rows):
                return True
            seen, number = seen + len(page.rows), number + 1
            if not page.rows or seen >= (page.total or 0):
                return False

    async def _tell_apart(self, file: StoredFile) -> None:
        """Have a file indexed whose text the base has already, which the server refuses.

        Its text, and not its original, gets a last line with its path: a search shows passages of equal words
        once. Also for two that slipped in side by side: to remove one would take the passages of both.
        Repeatable; `status` says how it went. A command that only looks leaves it to others.
        """
        whole = None if self._surroundings.read_only else await self._file(file.id)
        if whole is None or not whole.content:
            return
        last = f"\n\n({printable(whole.path)}, {whole.id[:8]})\n"
        text, path = {"content": whole.content + last}, f"/api/v1/files/{quote(whole.id)}/data/content/update"
        if whole.content.endswith(last) or await self._has_done("update", path, text):
            await self._link(whole)

    async def reembed(self, remote_id: str) -> None:
        """Index it again by its text, or read its original again where there is none."""
        file = await self._file(remote_id)
        if file is None:
            raise Rejected("the file is not there any more", code=GONE)
        path, body = "/api/v1/retrieval/process/file", {"file_id": remote_id}
        if file.content or await self._has_done("read", path, body):
            await self._link(file)

    async def _link(self, file: StoredFile) -> None:
        """Index a file by the text that the server has of it, and put it into the base."""
        body = {"file_id": file.id, "directory_id": file.folder_id}
        await self._has_done("link", f"{self._base}/file/add", body)

    async def _has_done(self, op: str, path: str, body: Mapping[str, Any]) -> bool:
        """Repeatable work on a file went well; else its status has the reason."""
        try:
            await self._client.ask(op, "POST", path, json=body)
        except (Rejected, Unavailable):
            return False
        return True

    async def _file(self, remote_id: str) -> StoredFile | None:
        try:
            answer = await self._client.ask("status", "GET", f"/api/v1/files/{quote(remote_id)}")
        except Rejected as error:
            if error.code == GONE:
                return None
            raise
        return told("status", file_of(answer.body))

    async def _page(self, number: int, size: int, more: Mapping[str, str]) -> ListPage[StoredFile]:
        """A page of the list, newest change first. A user who is no admin gets 30 whatever is asked for."""
        params = {"page": str(number), "limit": str(size), **more}
        answer = await self._client.ask("list", "GET", f"{self._base}/files", params=params)
        return told("list", page_of(answer.body, file_of))

    async def _pending(self) -> Sequence[StoredFile]:
        """Files of this base that are not linked yet, nor failed."""
        answer = await self._client.ask("pending", "GET", f"{self._base}/files/pending")
        return told("pending", shapes.files_of(answer.body))

    # -- delete, list, rename --------------------------------------------------------------------------------

    async def delete(self, ids: Sequence[str]) -> Mapping[str, DeleteOutcome]:
        """Out of this base, and altogether where no other base has it; then each is looked for."""
        ids = tuple(dict.fromkeys(ids))
        try:
            await self._clean_up(ids)
        except TargetError as error:
            return dict.fromkeys(ids, error)
        return dict(zip(ids, await asyncio.gather(*map(self._delete, ids)), strict=True))

    async def _delete(self, remote_id: str) -> DeleteOutcome:
        try:
            file = await self._settled(remote_id)
            if file is None:
                return None
            if file.status == "completed":
                # In another base as well, or linked to this one only after it was cleaned up.
                await self._clean_up((remote_id,))
            else:
                await self._client.ask("delete", "DELETE", f"/api/v1/files/{quote(remote_id)}")
        except TargetError as error:
            return None if error.code == GONE and not isinstance(error, Halted) else error
        return None

    async def _settled(self, remote_id: str) -> StoredFile | None:
        """A file that nothing works on. Raises `Unavailable` for one that is still being indexed.

        Deleted now, it would leave its passages in the base, and nothing could remove them (promise 11).
        """
        until = self._steady() + PATIENCE
        while (file := await self._file(remote_id)) is not None and file.status in ("pending", "processing"):
            # A server that was ended in the middle leaves this for ever.
            age = 0.0 if file.created is None else self._wall() - file.created
            if age > max(ABANDONED, self._config.vectorization.give_up):
                break
            if self._steady() >= until:
                raise Unavailable("delete: the file is still being indexed", code=file.status)
            await self._sleep(STEP)
        return file

    async def _clean_up(self, ids: Sequence[str]) -> None:
        """The server's own removal for mirrors: it takes files that are linked here and nothing else."""
        if ids:
            body = {"file_ids": list(ids), "dir_ids": []}
            await self._client.ask("cleanup", "POST", f"{self._base}/sync/cleanup", json=body)

    async def list(self) -> AsyncIterator[Listed]:
        """Files on their way first: read after the others, one could be in neither list."""
        prefix, counted = self._surroundings.prefix, 0
        pending = {one.id: one for one in await self._pending()}

        async def ask(number: int, size: int) -> ListPage[StoredFile]:
            nonlocal counted
            # Oldest first, so that what comes meanwhile moves nothing.
            page = await self._page(number, size, {"order_by": "created_at", "direction": "asc"})
            counted = max(counted, page.total or 0)
            return page

        sweep = ListSweep(ask)
        async for row in sweep.rows():
            pending.pop(row.id, None)
            yield row.listed(prefix, DocState.READY)
        # The server answers an error of its database with an empty list and a count of 0.
        if not sweep.shown:
            path = f"{self._base}/sync/diff"
            answer = await self._client.ask("folders", "POST", path, json={"manifest": []})
            counted = len(object_of(answer.body).get("deleted") or ())
        sweep.check(counted, self._config.knowledge_id)
        for row in pending.values():
            yield row.listed(prefix, DocState.INDEXING)

    async def rename(self, remote_id: str, path: str, name: str, mtime: float) -> None:
        """Under another name and in another folder; its passages are cited by the old name from then on."""
        whole = self._surroundings.prefix + path
        file_name = whole.rpartition("/")[2]
        if shapes.safe(file_name) != file_name or safe_folder(whole) != whole.rpartition("/")[0]:
            raise Rejected("this name cannot be kept as it is by a renaming", code="name")
        folder_id = await self._folders.id_of(self._client, self._base, safe_folder(whole))
        body = {"file_id": remote_id, "directory_id": folder_id}
        try:
            await self._client.ask("move", "POST", f"{self._base}/file/move", json=body)
        except Rejected:
            self._folders.forget()  # the folder may be gone, and not the file
            raise
        path, wish = f"/api/v1/files/{quote(remote_id)}/rename", {"filename": file_name}
        await self._client.ask("rename", "POST", path, json=wish)

    # -- search ----------------------------------------------------------------------------------------------

    async def search(self, query: Query) -> Sequence[Hit]:
        """Best first. The server knows no paths: with types and dates, everything that was found."""
        if not query.text.strip():
            return ()
        body = {"collection_names": [self._config.knowledge_id], "query": query.text, "k": MOST_PASSAGES}
        answer = await self._client.ask("search", "POST", "/api/v1/retrieval/query/collection", json=body)
        matches = told("search", shapes.matches_of(answer.body))
        hits = hits_of(match for match in matches if not query.among or match[0] in query.among)
        return hits if query.selects and not query.among else hits[: query.top_k]


def _equal_texts(rows: Sequence[StoredFile], ids: set[str]) -> list[StoredFile]:
    """Those of `ids` that are listed beside another file of the same text which is older, or not ours."""

    first: dict[str, StoredFile] = {}
    for row in sorted(rows, key=lambda row: (row.mark is not None, row.created or 0.0, row.id)):
        first.setdefault(row.text_hash or row.id, row)
    return [row for row in rows if row.id in ids and first[row.text_hash or row.id].id != row.id]
