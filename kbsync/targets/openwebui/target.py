"""A knowledge base of Open WebUI as a target of the mirror.

A file is uploaded, then indexed in the background, then linked to the base. Its own status says `completed`
also where there is no link, so what counts is that the base lists it (promise 10). A change is a new file,
and the old one is removed afterwards: the server could change a text where it lies, but then its metadata
and its original go on telling the old bytes, and after a lost state nothing would prove the new ones.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import mimetypes
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence, Set
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
from kbsync.targets.http.answering import AnswersByModel
from kbsync.targets.http.bodies import FilePart
from kbsync.targets.http.client import Client, ClientOptions
from kbsync.targets.http.errors import HttpAnswer
from kbsync.targets.http.reading import PAGE_SIZE, ListPage, ListSweep, id_of, object_of, text_of, well_formed
from kbsync.targets.http.target import hits_for, limited, refusal_of
from kbsync.targets.openwebui import shapes
from kbsync.targets.openwebui.config import EXTENSIONS, TEXTS, OpenWebuiTargetConfig
from kbsync.targets.openwebui.manage import OpenWebuiBases
from kbsync.targets.openwebui.shapes import GONE, StoredFile, file_of, page_of, safe_folder

RECIPE = "1"
"""How a document is cut is the server's own setting, for all bases."""

PATIENCE, STEP = 10.0, 0.25
"""Seconds: how long a file that is to be deleted is waited for, and between two looks at it."""

ABANDONED = 3600.0
"""Seconds after which the server itself takes an upload for lost (`sync/diff`)."""

MOST_PASSAGES = 50
"""Passages that a search asks for: several may be of one document."""

IN_FLIGHT = ("pending", "processing")

NEWEST, RECENT = 300, 86_400.0
"""Files to a page of the user's newest, and seconds: how far a list looks back for those on their way."""

BUSY = 180.0
"""Seconds for which a file is left alone after work on it was not answered."""

_INDEXING, _MISSING = DocStatus(DocState.INDEXING), DocStatus(DocState.MISSING)


class RemoteFolders:
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
                self._known = well_formed("folders", shapes.folders_of(answer.body))
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
            return str(well_formed("make-folder", id_of(object_of(answer.body).get("id"))))
        except TargetError as error:
            self.forget()  # it may have been made, or its parent may be gone
            if isinstance(error, Halted):
                raise
            raise Unavailable(error.reason, code=error.code) from error


class OpenWebuiTarget(AnswersByModel):
    """The base that the config names."""

    # Without a chat's and a session's id nothing of it is kept there, and the answer comes as at OpenAI.
    chat_path = "/api/chat/completions"

    def __init__(
        self, config: OpenWebuiTargetConfig, surroundings: Surroundings, **options: Unpack[ClientOptions]
    ) -> None:
        super().__init__(config, surroundings, shapes.judge, **options)
        self._config, self._surroundings, self.model = config, surroundings, config.chat_model
        self._base = f"/api/v1/knowledge/{config.knowledge_id}"
        self._folders = RemoteFolders()
        self._busy: dict[str, float] = {}  # file → until when
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
        card = await self.bases.look(self._config.knowledge_id)
        return Base(card.id, address=self._config.base_url)

    # -- put -------------------------------------------------------------------------------------------------

    async def put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        """Each by itself; what it replaces is removed by the engine, once the new one is searchable."""
        return [await self._put(one) for one in documents]

    async def _put(self, document: Outgoing) -> PutOutcome:
        extension = document.path.rpartition(".")[2].lower()
        if refused := refusal_of(document, self.limits):
            return refused
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

        A page of the base is read first, then the user's newest files, which may wait; more pages for those
        that are through, and the rest each by itself. A text that the base has already is made another one
        here (`_tell_apart`).
        """
        wanted, news = set(ids), dict[str, StoredFile]()
        rows = await self._linked(wanted)
        unready = {one for one in wanted if one not in rows or not rows[one].text_hash}
        if left := {one for one in unready if not self._is_busy(one)}:
            size, most = min(NEWEST, 2 * len(left) + 20), 4 * len(left) + NEWEST
            news = await self._newest(size, lambda seen: left <= seen.keys() or len(seen) >= most)
            if through := {one for one in left & news.keys() if news[one].status == "completed"}:
                rows |= await self._linked(through, 2 * len(ids) + 1)
        mine = [row for row in rows.values() if row.id in wanted]
        if any(one.mark and one.folder not in (None, safe_folder(one.mark[2])) for one in mine):
            self._folders.forget()  # a folder that is gone was named: the file is put beside all folders
        twins = _equal_texts(rows.values(), wanted)
        looks = (self._status(one, rows.get(one), news.get(one), one in twins) for one in wanted)
        return dict(zip(wanted, await asyncio.gather(*looks), strict=True))

    async def _status(
        self, remote_id: str, row: StoredFile | None, file: StoredFile | None, is_twin: bool
    ) -> DocStatus:
        """Of a file, by its row in the base and by that among the newest files, where they were read."""
        if row and row.text_hash and not is_twin:
            self._busy.pop(remote_id, None)
            return DocStatus(DocState.READY)
        try:
            # Listed without a hash it was indexed anew and that failed: the old passages are there.
            if self._is_busy(remote_id):
                return _INDEXING
            word = "" if is_twin else file.status if file else await self._word(remote_id)
            if word in IN_FLIGHT:
                return _INDEXING
            file = file or (await self._file(remote_id) if word else None)  # for its reason, or its name
            if is_twin or (file and word == "failed" and shapes.is_duplicate(file.error)):
                await self._tell_apart(remote_id, is_linked=row is not None)
                return _INDEXING
            if file is None:
                return _MISSING
            if word == "failed":
                return DocStatus(DocState.FAILED, file.error or "the server gives no reason", "failed")
            if word != "completed" or await self._is_linked(file):
                return DocStatus(DocState.READY if word == "completed" else DocState.UNKNOWN)
            if self._busy.pop(remote_id, None):
                await self._link(file)  # it was told apart, and the answer was lost
                return _INDEXING
            # Somebody took it out of the base, or that was not there when the file was through.
            return _MISSING
        except (Rejected, Unavailable) as error:
            return DocStatus(DocState.UNKNOWN, error.reason, error.code)

    async def _linked(self, wanted: Set[str], most: float = 1, **more: str) -> dict[str, StoredFile]:
        """Files of the base, page by page, newest change first, until `wanted` or `most` were seen."""
        rows: dict[str, StoredFile] = {}
        for number in itertools.count(1):
            page = await self._page(number, PAGE_SIZE, more)
            rows |= {one.id: one for one in page.rows}
            if wanted <= rows.keys() or not page.rows or len(rows) >= min(most, page.total or 0):
                break
        return rows

    async def _is_linked(self, file: StoredFile) -> bool:
        """The base lists it; asked for by its name, which other files may have as well."""
        return file.id in await self._linked({file.id}, math.inf, query=file.name)

    async def _newest(
        self, size: int, is_enough: Callable[[Mapping[str, StoredFile]], bool]
    ) -> dict[str, StoredFile]:
        """The user's files for all bases, the newest first and without texts, until there `is_enough`."""
        rows: dict[str, StoredFile] = {}
        while True:
            params = {"filename": "*", "content": "false", "skip": str(len(rows)), "limit": str(size)}
            answer = await self._client.ask("newest", "GET", "/api/v1/files/user/search", params=params)
            page = {one.id: one for one in well_formed("newest", shapes.files_of(answer.body))}
            is_end = len(page) < size or page.keys() <= rows.keys()
            rows |= page
            if is_end or is_enough(rows):
                return rows

    async def _tell_apart(self, remote_id: str, *, is_linked: bool) -> None:
        """Have a file indexed whose text the base has already, which the server refuses.

        Its text, and not its original, gets a last line with its path: a search shows passages of equal words
        once. Also for two that slipped in side by side: to remove one would take the passages of both.
        Repeatable; `status` says how it went. A command that only looks leaves it to others.
        """
        whole = None if self._surroundings.read_only else await self._file(remote_id)
        if whole is None or not whole.content:
            return
        last = f"\n\n({printable(whole.path)}, {whole.id[:8]})\n"
        text = whole.content.removesuffix(last) + last
        is_apart = text == whole.content and not is_linked
        if (is_apart or await self._update(whole, text)) and not is_linked:
            await self._link(whole)

    async def reembed(self, remote_id: str) -> None:
        """Index it again by its text, or read its original again where there is none."""
        file = await self._file(remote_id)
        if file is None:
            raise Rejected("the file is not there any more", code=GONE)
        path, body = "/api/v1/retrieval/process/file", {"file_id": remote_id}
        if file.content and await self._is_linked(file):
            await self._update(file, file.content)  # a link would leave its old passages beside the new ones
        elif file.content or await self._work(file, "read", path, body):
            await self._link(file)

    async def _update(self, file: StoredFile, text: str) -> bool:
        """Index a file by another text; where it is linked, that takes the place of its passages."""
        path = f"/api/v1/files/{quote(file.id)}/data/content/update"
        return await self._work(file, "update", path, {"content": text})

    async def _link(self, file: StoredFile) -> None:
        """Index a file by the text that the server has of it, and put it into the base."""
        body = {"file_id": file.id, "directory_id": file.folder_id}
        await self._work(file, "link", f"{self._base}/file/add", body)

    async def _work(self, file: StoredFile, op: str, path: str, body: Mapping[str, Any]) -> bool:
        """Work that is answered when it is done; done twice, it leaves passages twice, so it is sent once.

        False: it went wrong, and the file's status has the reason; or nobody knows, and it may go on there.
        """
        if self._is_busy(file.id):
            return False
        self._busy[file.id], is_done = self._steady() + BUSY, True
        try:
            await self._client.post(op, path, json=body)
        except Unsure:
            return False
        except (Rejected, Unavailable):
            is_done = False
        self._busy.pop(file.id, None)
        return is_done

    def _is_busy(self, remote_id: str) -> bool:
        return self._busy.get(remote_id, 0.0) > self._steady()

    async def _word(self, remote_id: str) -> str | None:
        """The status of a file without its text, which may be large; None where there is no file."""
        answer = await self._look("state", remote_id, "/process/status")
        return well_formed("state", text_of(object_of(answer.body).get("status")) or None) if answer else None

    async def _file(self, remote_id: str) -> StoredFile | None:
        """A file with its text. Raises `Unavailable` where that is larger than an answer may be."""
        answer = await self._look("status", remote_id)
        return well_formed("status", file_of(answer.body)) if answer else None

    async def _look(self, op: str, remote_id: str, more: str = "") -> HttpAnswer | None:
        try:
            return await self._client.ask(op, "GET", f"/api/v1/files/{quote(remote_id)}{more}")
        except Rejected as error:
            if error.code == GONE:
                return None
            raise

    async def _page(self, number: int, size: int, more: Mapping[str, str]) -> ListPage[StoredFile]:
        """A page of the list, newest change first. A user who is no admin gets 30 whatever is asked for."""
        params = {"page": str(number), "limit": str(size), **more}
        answer = await self._client.ask("list", "GET", f"{self._base}/files", params=params)
        return well_formed("list", page_of(answer.body, file_of))

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
            word = await self._settled(remote_id)
            if word is None:
                return None
            if word == "completed":
                # In another base as well, or linked to this one only after it was cleaned up.
                await self._clean_up((remote_id,))
            else:
                await self._client.ask("delete", "DELETE", f"/api/v1/files/{quote(remote_id)}")
        except TargetError as error:
            return None if error.code == GONE and not isinstance(error, Halted) else error
        return None

    async def _settled(self, remote_id: str) -> str | None:
        """The status of a file that nothing works on. Raises `Unavailable` while it is being indexed.

        Deleted then, it would leave its passages in the base, and nothing could remove them (promise 11).
        """
        until = self._steady() + PATIENCE
        # A word that nobody knows may mean anything.
        while (word := await self._word(remote_id)) not in ("completed", "failed", None):
            if self._steady() >= until:
                file = await self._file(remote_id)
                # A server that was ended in the middle leaves this for ever.
                age = self._wall() - file.created if file and file.created else 0.0
                if age > max(ABANDONED, self._config.vectorization.give_up):
                    break
                raise Unavailable("delete: the file is still being indexed", code=word or "")
            await self._sleep(STEP)
        return word

    async def _clean_up(self, ids: Sequence[str]) -> None:
        """The server's own removal for mirrors: it takes files that are linked here and nothing else."""
        if ids:
            body = {"file_ids": list(ids), "dir_ids": []}
            await self._client.ask("cleanup", "POST", f"{self._base}/sync/cleanup", json=body)

    async def list(self) -> AsyncIterator[Listed]:
        """Files on their way first: read after the others, one could be in neither list."""
        prefix, counted = self._surroundings.prefix, 0
        oldest = self._wall() - max(RECENT, self._config.vectorization.give_up)
        news = await self._newest(
            NEWEST, lambda seen: any((one.created or 0.0) < oldest for one in seen.values())
        )
        base = self._config.knowledge_id
        pending = {key: one for key, one in news.items() if one.base == base and one.status in IN_FLIGHT}

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
            deleted = object_of(answer.body).get("deleted")
            counted = len(well_formed("folders", deleted if isinstance(deleted, list) else None))
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
        return hits_for(well_formed("search", shapes.matches_of(answer.body)), query)


def _equal_texts(rows: Collection[StoredFile], ids: set[str]) -> set[str]:
    """Those of `ids` that are listed beside another file of the same text which is older, or not ours."""
    first: dict[str, str] = {}
    for row in sorted(rows, key=lambda row: (row.mark is not None, row.created or 0.0, row.id)):
        first.setdefault(row.text_hash or row.id, row.id)
    return ids & {row.id for row in rows} - set(first.values())
