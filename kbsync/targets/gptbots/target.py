"""The knowledge API of GPTBots as a target.

The service stores our marker, accepts several documents in a request, and updates a document in place under
its id while the old text stays searchable. It doesn't give reasons for failures. A document counts as stored
if the response says so about this document, and as searchable if `data_status` says so about the version that
was sent.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Self
from urllib.parse import urlencode, urlsplit

from kbsync.contract.searching import Passage, Query
from kbsync.contract.target import Accepted, Base, BaseCard, DocState, DocStatus, Limits, Outgoing, PutOutcome
from kbsync.core.links import EXTENSIONS as LINKS
from kbsync.core.links import is_link
from kbsync.core.names import Naming
from kbsync.core.text import extension_of
from kbsync.errors import Halted, NotOffered, Rejected, TargetError, Unavailable, Unfit, Unsure, untried
from kbsync.targets.gptbots import config, shapes, uploads
from kbsync.targets.gptbots.shapes import MarkedRow, Marker
from kbsync.targets.gptbots.uploads import UploadItem
from kbsync.targets.http.batch_queue import BatchQueue
from kbsync.targets.http.bodies import without_none
from kbsync.targets.http.reading import PAGE_SIZE, ListPage, batches
from kbsync.targets.http.rules import INDEXING, MISSING, READY, UNKNOWN
from kbsync.targets.http.target import ServiceTarget, address_in, grace, refusal_of, search_ranked

MAX_IDS = 50
"""Maximum number of ids in one request."""

MIN_PAGE_SIZE = 10
"""Minimum page size; the service accepts 10 to 100, and may return fewer rows than requested."""

MAX_PAGE_NUMBERS = 20_000
"""Maximum number of documents for which kbsync remembers on which page of the list they were."""

MAX_PASSAGES, OLDER_MAX_PASSAGES = 50, 10
"""The maximum of `top_k`, in passages; several may belong to one document. An older page of the documentation
gives the second number."""

RANKING = "BGE-Rerank"
"""The default ranking model."""

# An internal error, which may come from the ranking model.
OVERLOADED = frozenset({"50000"})

_FLAT = Naming(style="plain")
"""The format of uploaded names: no slash, at most 200 bytes.

The name contains the path, in case the marker is lost.
"""

_NO_REASON = "the service couldn't index the document and gave no reason; check the service's console"
_FAILED = DocStatus(DocState.FAILED, _NO_REASON, "FAILED")
_FINAL = {"AVAILABLE": READY, "FAILED": _FAILED, "FAILURE": _FAILED}
_TIME_LENGTH = 8
"""Number of characters at the start of an id that encode its creation time."""


def next_page(remote_id: str, pages: Mapping[int, Sequence[str]], last: int) -> int | None:
    """Return the page to read next for a document that isn't on the `pages` read so far, by bisection.

    `pages`: the ids on each page. `last`: the last page of the list. Return None if no page is likely. Ids
    look like Mongo's: they begin with eight hex digits for the second in which they were created. That isn't
    documented, so it only decides which page to read next, and only while the pages are in that order.
    """
    time = remote_id[:_TIME_LENGTH]
    times = {number: [row_id[:_TIME_LENGTH] for row_id in ids] for number, ids in sorted(pages.items())}
    in_order = [row_time for page_times in times.values() for row_time in page_times]
    is_rising = in_order == sorted(in_order)
    if not is_rising and in_order != sorted(in_order, reverse=True):
        return None
    low, high, near = 1, last, 0
    for number, page_times in times.items():
        if set(page_times) == {time}:
            near = number  # the rest of that second is on the pages next to it
        elif not page_times or (time <= min(page_times)) == is_rising:
            high = min(high, number - 1)
        else:
            low = max(low, number + 1)
    middle = near or (low + high + 1) // 2
    unread = (number for number in range(low, high + 1) if number not in times)
    return min(unread, key=lambda number: abs(number - middle), default=None)


class GptbotsTarget(ServiceTarget[MarkedRow]):
    """One knowledge base, whose documents change in place.

    After an update the service may still report the state of the old version for a while. A final state
    counts for the new version if another state came in between, or if the document's `update_time` differs
    from the one in the update's marker, which also works after a restart. The target remembers the page of a
    document, but not its row: others change documents, too, and with an outdated `update_time` a change would
    count as searchable too early (promise 10).
    """

    _config: config.GptbotsTargetConfig

    updates_in_place = True
    reranks = True
    recipe = staticmethod(config.recipe_of)
    describe = staticmethod(config.describe_recipe)
    most_ids = MAX_IDS
    certain_calls = frozenset({"status"})

    classify_response = staticmethod(shapes.classify_response)

    def prepare(self) -> None:
        """Set the service's limits and the caches of its documents."""
        self.takes = Limits(
            config.EXTENSIONS,
            max_bytes=min(self._config.max_bytes, config.MAX_BYTES),
            max_bytes_by_extension={"pdf": self._config.max_bytes},
            links=LINKS,
            batch=uploads.MAX_CHANGED_TEXTS,
            batch_bytes=uploads.MAX_REQUEST_BYTES // 4 * 3,
            list_lag=1.0,
            marks=True,
            paid=True,
        )
        self._base = self._config.knowledge_base_id
        # The maximum number of documents in a request, by kind and whether they are updates.
        self._max_files = {("text", True): uploads.MAX_CHANGED_TEXTS}
        # For these ids the next final state is that of the version sent last.
        self._trusted: set[str] = set()
        self._update_started: dict[str, float] = {}
        # The number of documents in the base by the last response that had one, and the page of each
        # document.
        self._count: int | None = None
        self._page_numbers: dict[str, int] = {}
        self._lookups, self._list_reads = BatchQueue[MarkedRow](), BatchQueue[MarkedRow]()
        self._max_passages = MAX_PASSAGES

    async def cards(self) -> Sequence[BaseCard]:
        """Return all of the bot's bases, each only once. Despite its name, the call doesn't return pages."""
        listed = await self._client.read("base", "/v1/bot/knowledge/base/page", shapes.bases_of)
        return list({card.id: card for card in listed.rows}.values())

    async def card(self, base_id: str) -> BaseCard:
        """Find a base in the list of all bases, because the service has no call to get a single one."""
        return self._card_among(base_id, await self.cards(), "the key's bot doesn't list it")

    async def base(self) -> Base:
        """Check the base, and remember its number of documents."""
        base = await super().base()
        self._count = base.documents
        return base

    def unhurried(self, pace: Callable[[], Awaitable[None]]) -> Self:
        """Return a target with queues of lookups of its own, so that no change waits for `pace`."""
        slow = super().unhurried(pace)
        slow._lookups, slow._list_reads = BatchQueue(), BatchQueue()
        return slow

    # -- documents

    async def put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        """Send documents, several per request. A new version updates its document in place.

        Raises `Unavailable` if a document to update exists but isn't in the list.
        """
        replaced = {document.replaces for document in documents if document.replaces}
        rows = await self._find_rows(replaced)
        # Without its `update_time`, a changed document would look like its previous version (promise 10).
        unlisted = [doc_id for doc_id in replaced if doc_id not in rows]
        if unlisted and (existing := await self._data_statuses(unlisted)):
            reason = f"document {next(iter(existing))} exists, but isn't in the list yet"
            raise Unavailable(reason, code="list-lag")
        outcomes, items = dict[int, PutOutcome](), list[UploadItem]()
        for index, document in enumerate(documents):
            try:
                items.append(self._upload_item(index, document, rows))
            except Rejected as refusal:
                outcomes[index] = refusal
        outcomes |= await self._deliver_each(uploads.batches_of(items, self._most_files))
        # The service may refuse a change because the document was deleted: then send it as a new one.
        refused = [item for item in items if item.doc_id and isinstance(outcomes[item.index], Rejected)]
        with suppress(TargetError):
            statuses = await self._data_statuses([item.doc_id for item in refused])
            deleted = [item for item in refused if item.doc_id not in statuses]
            renewed = (self._upload_item(item.index, item.document, {}) for item in deleted)
            outcomes |= await self._deliver_each(uploads.batches_of(renewed, self._most_files))
        return [outcomes[index] for index in range(len(documents))]

    def _file_of(self, document: Outgoing) -> tuple[str, str]:
        """Return the name of the file to send, and the URL in a link file or "" for any other file.

        Raises `Rejected` for a document that the service would refuse, but only after receiving the whole
        upload.
        """
        if refusal := refusal_of(document, self.limits, self._most_bytes):
            raise refusal
        if not is_link(document.path):
            return document.name, ""
        address = address_in(document)
        extension = extension_of(urlsplit(address).path)
        if extension not in config.FETCHED:
            known = ", ".join(f".{extension}" for extension in sorted(config.FETCHED))
            reason = f"the service fetches only files, not web pages, so the URL must end in {known}"
            raise Unfit(reason, code="link")
        return f"{document.name}.{extension}", address

    def _upload_item(self, index: int, document: Outgoing, rows: Mapping[str, MarkedRow]) -> UploadItem:
        """Prepare a document to send. `rows`: the documents to update.

        Raises the same errors as `_file_of`.
        """
        name, address = self._file_of(document)
        kind, changed = config.kind_of(document.path, document.settings), rows.get(document.replaces or "")
        # Questions and answers become a new document, because an update can't set how to split them. So does
        # a document of another kind, which is the first letter of its recipe.
        if changed and (kind == "qa" or (changed.recipe or document.recipe)[0] != document.recipe[0]):
            changed = None
        # The marker of an update contains the `update_time` from before the update.
        was = None if changed is None else changed.updated
        path = self._context.prefix + document.path
        marker = Marker(path, document.digest, document.upload_id, document.recipe, was)
        return UploadItem(
            index,
            document,
            kind,
            _FLAT.name(name, document.digest),
            shapes.write_marker(self._config.source_url_prefix, marker),
            changed.id if changed else "",
            address,
        )

    def _most_files(self, item: UploadItem) -> int:
        return self._max_files.get((item.kind, bool(item.doc_id)), uploads.MAX_FILES)

    async def _deliver_each(self, requests: Iterable[tuple[UploadItem, ...]]) -> dict[int, PutOutcome]:
        """Send each request. If one has to wait for the service or the user, the rest aren't sent."""
        outcomes: dict[int, PutOutcome] = {}
        for batch in requests:
            down = next((row for row in outcomes.values() if isinstance(row, Unavailable | Halted)), None)
            if down is None:
                outcomes |= await self._deliver(batch)
            else:
                outcomes |= {item.index: untried(down) for item in batch}
        return outcomes

    async def _deliver(self, batch: tuple[UploadItem, ...]) -> dict[int, PutOutcome]:
        """Send one request without retries.

        If the service refuses it as a whole, send each half separately.
        """
        kind, is_update = batch[0].kind, bool(batch[0].doc_id)
        op, method = ("update", "PUT") if is_update else ("add", "POST")
        # The request changes these documents, so their last states are outdated.
        ids = [item.doc_id for item in batch if item.doc_id]
        self._trusted.difference_update(ids)
        self._update_started |= dict.fromkeys(ids, self._steady())
        try:
            body = partial(uploads.stream_of, batch, self._base)
            # Each kind has its own paths.
            response = await self._client.request_once(op, method, f"/v1/bot/doc/{kind}/{op}", body)
        except TargetError as failure:
            # The base may have been deleted, which is no document's fault.
            error = await self._check_base_first(failure) if isinstance(failure, Rejected) else failure
            half, is_several = len(batch) // 2, len(batch) > 1
            # The documentation allows 20; an outcome shows the bot's real limit.
            if is_several and (
                error.code == shapes.TOO_MANY
                or (isinstance(error, Unsure) and len(batch) > uploads.MAX_FILES)
            ):
                self._max_files[kind, is_update] = min(self._most_files(batch[0]), half)
            if isinstance(error, NotOffered):
                error = self.missing_call_error(error)
            elif isinstance(error, Rejected) and is_several:
                return await self._deliver_each((batch[:half], batch[half:]))
            return {item.index: error for item in batch}
        outcomes = uploads.outcomes_of(response.body, batch)
        # A new document has only one version, so its next final state counts.
        stored = [outcome for outcome in outcomes.values() if isinstance(outcome, Accepted)]
        self._trusted.update(outcome.remote_id for outcome in stored if not outcome.replaced)
        return outcomes

    async def remove_several(self, ids: Sequence[str]) -> bool:
        """Delete a batch. Return False, because the response doesn't mention individual ids."""
        query = urlencode({"doc": ",".join(ids)}, safe=",")
        await self._client.request("delete", "DELETE", f"/v1/bot/doc/batch/delete?{query}")
        return False

    async def still_there(self, ids: Sequence[str], *, is_refused: bool) -> Collection[str]:
        """Return which `ids` have a state.

        Raises `Unavailable` if the service refused to delete a document that has no state but is in the list.
        """
        statuses = await self._data_statuses(ids)
        missing = set(ids) - statuses.keys()
        if is_refused and missing and await self._rows_among(missing):
            reason = "delete: the service refuses to delete the document, but still lists it"
            raise Unavailable(reason, code="listed")
        if not statuses:  # an empty response counts only while the base exists
            await self.base()
        return statuses.keys()

    # -- states

    async def _states(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """Return the states of the versions that were last sent."""
        asked_at = self._steady()
        words = await self._data_statuses(ids)
        self._trusted.update(doc_id for doc_id, word in words.items() if word and word not in _FINAL)
        unclear = [
            doc_id
            for doc_id in ids
            if doc_id not in words or (words[doc_id] in _FINAL and doc_id not in self._trusted)
        ]
        rows = await self._find_rows(unclear)
        # A lookup may take minutes, and meanwhile the old version's failure may have become outdated.
        stored = [doc_id for doc_id in unclear if doc_id in rows and rows[doc_id].is_through]
        failed = [doc_id for doc_id in stored if _FINAL.get(words.get(doc_id, "")) is _FAILED]
        words |= await self._data_statuses(failed)
        states = {
            doc_id: self._status_of(doc_id, words.get(doc_id), rows.get(doc_id), asked_at) for doc_id in ids
        }
        for doc_id, status in states.items():
            if status.state not in (DocState.INDEXING, DocState.UNKNOWN):  # done: drop it
                self._trusted.discard(doc_id)
                self._update_started.pop(doc_id, None)
        return states

    async def _data_statuses(self, ids: Sequence[str]) -> dict[str, str]:
        """Return the `data_status` of the ids that the service knows."""
        words: dict[str, str] = {}
        for part in batches(ids, MAX_IDS):
            words |= await self._request_statuses(part)
        return words

    async def _request_statuses(self, ids: Sequence[str]) -> Mapping[str, str]:
        """Send one request for the statuses. If the service refuses it, send it again in halves."""
        query = urlencode([("data_ids", doc_id) for doc_id in ids])
        try:
            path = f"/v1/bot/data/detail/list?{query}"
            return await self._client.read("status", path, shapes.states_of)
        except Rejected:
            if len(ids) == 1:  # the service refuses this id alone
                return {}
        middle = len(ids) // 2
        return {**await self._request_statuses(ids[:middle]), **await self._request_statuses(ids[middle:])}

    def _status_of(
        self, remote_id: str, word: str | None, row: MarkedRow | None, asked_at: float
    ) -> DocStatus:
        """Return a document's status. One that has no status and isn't in the list is missing.

        `asked_at`: when the status was requested, before the row.
        """
        if word is None:
            return UNKNOWN if row else MISSING
        if word not in _FINAL:
            return INDEXING if word else UNKNOWN
        if remote_id not in self._trusted:
            if row is None:
                return UNKNOWN
            started_at = self._update_started.get(remote_id, -math.inf)
            # A failure reported for this long must belong to the new version.
            is_late = _FINAL[word] is _FAILED and asked_at >= started_at + grace(self._config)
            if not (row.is_through or is_late):
                return INDEXING
        return _FINAL[word]

    # -- the list

    async def page(self, number: int, size: int) -> ListPage[MarkedRow]:
        """Return a page of the list, in the service's order, which isn't documented."""
        size = max(size, MIN_PAGE_SIZE)
        params = {"knowledge_base_id": self._base, "page": str(number), "page_size": str(size)}
        parse = partial(shapes.page_of, base=self._config.source_url_prefix, prefix=self._context.prefix)
        page = await self._client.read("list", "/v1/bot/doc/query/page", parse, params=params)
        self._count = self._count if page.total is None else page.total
        for row in page.rows:
            if row.id in self._page_numbers or len(self._page_numbers) < MAX_PAGE_NUMBERS:
                self._page_numbers[row.id] = number
        return page

    async def _find_rows(self, ids: Collection[str]) -> Mapping[str, MarkedRow]:
        """Return the current rows of `ids`, read after this call: an older row may be of the version before
        the last update. Calls that arrive during a lookup share the pages of the next one.

        The list has no filter. Read it as a whole only for ids that can't be found otherwise; the others
        don't wait for that.
        """
        rows = dict(await self._lookups.run(tuple(ids), self._look_up))
        if missing := [doc_id for doc_id in ids if doc_id not in rows]:
            rows |= await self._list_reads.run(missing, self._rows_among)
        return rows

    async def _look_up(self, ids: Sequence[str]) -> Mapping[str, MarkedRow]:
        """Return the rows of `ids`: on the page that had them before, or else by the order of ids."""
        rows, pages = dict[str, MarkedRow](), dict[int, Sequence[str]]()
        # Look up ids with a known page first: their pages show where the others are.
        for doc_id in sorted(ids, key=lambda doc_id: self._page_numbers.get(doc_id, math.inf)):
            number = self._page_numbers.get(doc_id)
            while doc_id not in rows:
                if number is None or number in pages:
                    # Use the page size that the server really uses.
                    size = max(map(len, pages.values()), default=0) or PAGE_SIZE
                    number = next_page(doc_id, pages, -(-(self._count or 1) // size))
                if number is None:
                    break
                page = await self._request_page(number, PAGE_SIZE)
                pages[number] = [row.id for row in page.rows]
                rows |= {row.id: row for row in page.rows}
        return rows

    # -- searches

    async def matches(self, query: Query) -> Sequence[tuple[str, Passage]]:
        """Return the passages, in the order given by the ranking model if requested."""
        settings = self._config.search
        ranking = settings.rerank_version or (RANKING if query.rerank else None)
        body = {
            "prompt": query.text,
            "group_ids": [self._base],  # without `data_ids`: the service would search the union of both
            "embedding_rate": settings.embedding_rate,
            "doc_correlation": settings.doc_correlation,
        }

        async def search(is_ranked: bool) -> Sequence[tuple[str, Passage]]:
            json = without_none(body | {"rerank_version": ranking if is_ranked else None})
            try:
                return await self._match(json, self._max_passages)
            except Rejected as error:
                if error.code != shapes.INVALID or self._max_passages == OLDER_MAX_PASSAGES:
                    raise
            matches = await self._match(json, OLDER_MAX_PASSAGES)
            self._max_passages = OLDER_MAX_PASSAGES
            return matches

        return await search_ranked(search, ranking is not None, OVERLOADED)

    async def _match(self, body: Mapping[str, Any], top_k: int) -> Sequence[tuple[str, Passage]]:
        json = {**body, "top_k": top_k}
        return await self._client.read("search", "/v1/vector/match", shapes.matches_of, json=json)
