"""The knowledge API of GPTBots as a target.

The service stores our marker, accepts several documents in a request, and updates a document in place under
its id while the old text stays searchable. It doesn't give reasons for failures. A document counts as stored
if the response says so about this document, and as searchable if `data_status` says so about the version that
was sent.
"""

from __future__ import annotations

import asyncio
import math
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlencode, urlsplit

from kbsync.contract.searching import Passage, Query
from kbsync.contract.target import Accepted, Base, BaseCard, DocState, DocStatus, Limits, Outgoing, PutOutcome
from kbsync.core.links import EXTENSIONS as LINKS
from kbsync.core.links import is_link
from kbsync.core.names import Naming
from kbsync.core.text import extension_of
from kbsync.errors import NotOffered, Rejected, TargetError, Unavailable, Unfit, Unsure
from kbsync.targets.gptbots import api, shapes
from kbsync.targets.gptbots.api import Lookup, UploadItem
from kbsync.targets.gptbots.config import (
    EXTENSIONS,
    FETCHED,
    MAX_BYTES,
    GptbotsTargetConfig,
    describe_recipe,
    kind_of,
    kind_of_recipe,
    recipe_of,
)
from kbsync.targets.gptbots.shapes import FileResult, MarkedRow, Marker, classify_response
from kbsync.targets.http.bodies import without_none
from kbsync.targets.http.reading import PAGE_SIZE, ListPage, batches
from kbsync.targets.http.rules import INDEXING, MISSING, UNKNOWN
from kbsync.targets.http.target import ServiceTarget, address_in, grace, refusal_of, search_ranked

FAILED = "failed"

MAX_IDS = 50
"""Maximum number of ids in one request."""

MIN_PAGE_SIZE = 10
"""Minimum page size; the service accepts 10 to 100, and may return fewer rows than requested."""

MAX_PAGE_NUMBERS = 20_000
"""Maximum number of documents for which kbsync remembers the page of the list."""

MAX_LOOKUP_PAGES = 12
"""Maximum number of pages to read for one document before kbsync reads the whole list."""

PAGE_LIFETIME = 1.0
"""Seconds for which the rows of a page stay valid during a burst of requests.

`update_time` is in whole seconds.
"""

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

_FINAL = {"AVAILABLE": DocState.READY, "FAILED": DocState.FAILED, "FAILURE": DocState.FAILED}
_NO_REASON = "the service couldn't index the document and gave no reason; check the service's console"


# Names may come back in a different Unicode form (NFC, NFD).
_composed = partial(unicodedata.normalize, "NFC")


def outcomes_of(results: Sequence[FileResult], batch: Sequence[UploadItem]) -> Mapping[int, PutOutcome]:
    """Return the outcome of each sent document by its `index`, from the response to the request. This does no
    I/O.

    The order of the response doesn't matter. According to the service's documentation, the response
    identifies a new document by the sent name and an update by its id; some versions omit the extension of
    the name. A document that the response lists both as stored and as failed, or not at all, is `Unsure`.
    """

    def results_named(*names: str) -> list[FileResult]:
        file_names = {_composed(name) for name in names if name}
        return [result for result in results if not file_names.isdisjoint(words_of(result))]

    def words_of(result: FileResult) -> set[str]:
        if not result.is_stored:
            return {_composed(result.name), _composed(result.id)}
        # An update's id is known in advance and takes precedence over names; a new document's id isn't known.
        return {_composed(result.id if batch[0].doc_id and result.id else result.name)}

    # Match whole names and ids first; a name without its extension can only be one of the remaining ones.
    matches = {item.index: results_named(item.file_name, item.doc_id) for item in batch}
    rest = [result for result in results if not any(result in some for some in matches.values())]
    for item in batch:
        if not matches[item.index]:
            bare = results_named(item.file_name.rpartition(".")[0])
            # If only one document was sent, the result is about that document, whatever its name.
            matches[item.index] = rest if len(batch) == 1 else [result for result in bare if result in rest]
    holders = Counter(doc_id for some in matches.values() for doc_id in _stored_ids(some))
    return {item.index: _outcome(item, matches[item.index], holders) for item in batch}


def _stored_ids(results: Sequence[FileResult]) -> set[str]:
    return {result.id for result in results if result.is_stored}


def _outcome(item: UploadItem, results: Sequence[FileResult], holders: Counter[str]) -> PutOutcome:
    name, ids = item.document.path, _stored_ids(results)
    is_failed = not all(result.is_stored for result in results)
    if is_failed and not ids:
        # The service often accepts the same document a moment later.
        return Rejected("the service refused the document and gave no reason", code=FAILED, may_pass=True)
    # If the response has the same id for two documents, don't trust the id for either of them. Otherwise, one
    # of them would be missing from searches without any error (promise 10).
    if is_failed or len(ids) > 1 or any(doc_id and holders[doc_id] > 1 for doc_id in ids):
        return Unsure(f"the service's response contradicts itself about {name}", code="contradiction")
    if not ids:
        return Unsure(f"the service's response doesn't say whether {name} was stored", code="no-receipt")
    remote_id = ids.pop() or item.doc_id
    if not remote_id:
        return Unsure(f"the service's response contains no id for {name}", code="no-id")
    return Accepted(remote_id, replaced=bool(item.doc_id) and remote_id == item.doc_id)


def _format(address: str) -> str:
    """Return the format of the file at a URL, judging by the file name in the URL."""
    return extension_of(urlsplit(address).path)


class GptbotsTarget(ServiceTarget[MarkedRow]):
    """One knowledge base, whose documents change in place.

    After an update the service may still report the state of the old version for a while. A final state
    counts for the new version if another state came in between, or if the document's `update_time` differs
    from the one in the update's marker, which also works after a restart. The target remembers the page of a
    document, but its row only for a moment: others change documents, too, and with an outdated `update_time`
    a change would count as searchable too early (promise 10).
    """

    _config: GptbotsTargetConfig

    updates_in_place = True
    reranks = True
    recipe = staticmethod(recipe_of)
    describe = staticmethod(describe_recipe)
    most_ids = MAX_IDS
    certain_calls = frozenset({"status"})

    classify_response = staticmethod(classify_response)

    def prepare(self) -> None:
        """Set the service's limits and the caches of its documents."""
        self.takes = Limits(
            EXTENSIONS,
            max_bytes=min(self._config.max_bytes, MAX_BYTES),
            max_bytes_by_extension={"pdf": self._config.max_bytes},
            links=LINKS,
            batch=api.MAX_CHANGED_TEXTS,
            batch_bytes=api.MAX_REQUEST_BYTES // 4 * 3,
            list_lag=1.0,
            marks=True,
            paid=True,
        )
        self._base = self._config.knowledge_base_id
        # The maximum number of documents in a request, by kind and whether they are updates.
        self._max_files = {("text", True): api.MAX_CHANGED_TEXTS}
        # For these ids the next final state is that of the version sent last.
        self._trusted: set[str] = set()
        self._update_started: dict[str, float] = {}
        # The number of documents in the base by the last response that had one, and the page of each
        # document.
        self._count: int | None = None
        self._page_numbers: dict[str, int] = {}
        self._recent_rows: dict[str, tuple[float, MarkedRow]] = {}
        self._turn = asyncio.Lock()
        self._max_passages = MAX_PASSAGES

    async def card(self, base_id: str) -> BaseCard:
        """Find a base in the list of all bases, because the service has no call to get a single one."""
        cards = await api.list_bases(self._client)
        return self._card_among(base_id, cards, "the key's bot doesn't list it")

    async def base(self) -> Base:
        """Check the base, and remember its number of documents."""
        base = await super().base()
        self._count = base.documents
        return base

    # -- documents

    async def put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        """Send documents, several per request. A new version updates its document in place."""
        results: dict[int, PutOutcome] = {
            index: refusal for index, document in enumerate(documents) if (refusal := self._refusal(document))
        }
        sendable = {index: document for index, document in enumerate(documents) if index not in results}
        try:
            rows = await self._current_rows({old for item in sendable.values() if (old := item.replaces)})
        except TargetError as error:
            return [results.get(index, error) for index in range(len(documents))]
        items = [self._upload_item(index, document, rows) for index, document in sendable.items()]
        results |= await self._send(items)
        # The service may refuse a change because the document was deleted: then send it as a new one.
        refused = [item for item in items if item.doc_id and isinstance(results[item.index], Rejected)]
        try:
            statuses = await self._data_statuses([item.doc_id for item in refused]) if refused else {}
        except TargetError:
            refused = []
        deleted = [item for item in refused if item.doc_id not in statuses]
        results |= await self._send(self._upload_item(item.index, item.document, {}) for item in deleted)
        return [results[index] for index in range(len(documents))]

    def _refusal(self, document: Outgoing) -> Rejected | None:
        """Return the error for a document that the service would refuse, but only after receiving the whole
        upload. Return None for any other document.
        """
        refusal = refusal_of(document, self.limits, self._most_bytes)
        if refusal or not is_link(document.path):
            return refusal
        try:
            address = address_in(document)
        except Unfit as error:
            return error
        if _format(address) in FETCHED:
            return None
        known = ", ".join(f".{extension}" for extension in sorted(FETCHED))
        return Unfit(
            f"the service fetches only files, not web pages, so the URL must end in {known}", code="link"
        )

    async def _current_rows(self, ids: Collection[str]) -> Mapping[str, MarkedRow]:
        """Look up the documents to update. Raises `Unavailable` for a document that exists but isn't in the
        list.
        """
        if not ids:
            return {}
        async with self._turn:  # after the wait, the rows of the last lookup may be usable
            now, lookup = self._steady(), Lookup()
            self._recent_rows = {
                doc_id: (at, row)
                for doc_id, (at, row) in self._recent_rows.items()
                if at > now - PAGE_LIFETIME
            }
            rows = {doc_id: self._recent_rows[doc_id][1] for doc_id in ids if doc_id in self._recent_rows}
            rows |= await self._find_rows([doc_id for doc_id in ids if doc_id not in rows], lookup)
            self._recent_rows |= {row.id: (now, row) for row in lookup.rows.values()}
        # Without its `update_time`, a changed document would look like its previous version (promise 10).
        unlisted = [doc_id for doc_id in ids if doc_id not in rows]
        if unlisted and (statuses := await self._data_statuses(unlisted)):
            raise Unavailable(
                f"document {next(iter(statuses))} exists, but isn't in the list yet", code="list-lag"
            )
        return rows

    def _upload_item(self, index: int, document: Outgoing, rows: Mapping[str, MarkedRow]) -> UploadItem:
        address = address_in(document) if is_link(document.path) else ""
        kind = kind_of(document.path, document.settings)
        changed = rows.get(document.replaces or "")
        # Questions and answers become a new document, because an update can't set how to split them.
        is_same_kind = changed is not None and kind_of_recipe(changed.recipe) in (None, kind)
        if not is_same_kind or kind == "qa":
            changed = None
        # The marker of an update contains the `update_time` from before the update.
        was = None if changed is None else changed.updated or 0
        path = self._context.prefix + document.path
        marker = Marker(path, document.digest, document.upload_id, document.recipe, was)
        return UploadItem(
            index,
            document,
            kind,
            _FLAT.name(document.name + (f".{_format(address)}" if address else ""), document.digest),
            shapes.write_marker(self._config.source_url_prefix, marker),
            (document.replaces or "") if changed is not None else "",
            address,
        )

    def _most_files(self, item: UploadItem) -> int:
        return self._max_files.get((item.kind, bool(item.doc_id)), api.MAX_FILES)

    def _record_refused(self, batch: Sequence[UploadItem]) -> None:
        """Record that this many documents were, or may have been, too many for one request."""
        fewer = min(self._most_files(batch[0]), max(1, len(batch) // 2))
        self._max_files[batch[0].kind, bool(batch[0].doc_id)] = fewer

    async def _send(self, items: Iterable[UploadItem]) -> dict[int, PutOutcome]:
        outcomes: dict[int, PutOutcome] = {}
        for batch in api.batches_of(items, self._most_files):
            outcomes |= await self._deliver(batch)
        return outcomes

    async def _deliver(self, batch: tuple[UploadItem, ...]) -> dict[int, PutOutcome]:
        """Send one request without retries.

        If the service refuses it as a whole, send each half separately.
        """
        is_update = bool(batch[0].doc_id)
        op, method = ("update", "PUT") if is_update else ("add", "POST")
        path = f"/v1/bot/doc/{batch[0].kind}/{op}"  # each kind has its own paths
        # The request changes these documents, so their last states are outdated.
        ids = [item.doc_id for item in batch if item.doc_id]
        self._trusted.difference_update(ids)
        self._update_started |= dict.fromkeys(ids, self._steady())
        self._drop_recent(ids)
        try:
            body = partial(api.stream_of, batch, self._base)
            response = await self._client.request_once(op, method, path, body)
            results = shapes.results_of(response.body)
            if results is None:
                reason = f"{op}: the service's response doesn't say which files it stored"
                raise Unsure(reason, code="no-receipt")
        except Rejected as error:
            return await self._retry_refused(batch, error)
        except TargetError as error:
            if isinstance(error, Unsure) and len(batch) > api.MAX_FILES:  # there may be too many
                self._record_refused(batch)
            return {item.index: error for item in batch}
        outcomes = outcomes_of(results, batch)
        if not is_update:  # a new document has only one version, so its next final state counts
            stored = [outcome for outcome in outcomes.values() if isinstance(outcome, Accepted)]
            self._trusted.update(outcome.remote_id for outcome in stored)
        return dict(outcomes)

    async def _retry_refused(self, batch: tuple[UploadItem, ...], error: Rejected) -> dict[int, PutOutcome]:
        # The base may have been deleted, which is no document's fault.
        if (missing := await self._check_base_first(error)) is not error:
            return {item.index: missing for item in batch}
        if isinstance(error, NotOffered):
            return {item.index: self.missing_call_error(error) for item in batch}
        if len(batch) == 1:
            return {batch[0].index: error}
        middle = len(batch) // 2
        if error.code == shapes.TOO_MANY:  # the documentation allows 20; a refusal shows the bot's real limit
            self._record_refused(batch)
        return await self._deliver(batch[:middle]) | await self._deliver(batch[middle:])

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

    async def _find_on_pages(self, ids: Sequence[str]) -> tuple[dict[str, MarkedRow], Sequence[str]]:
        """Return no rows and all of the ids, because the list doesn't include states."""
        return {}, ids

    async def _read_details(self, ids: Iterable[str]) -> dict[str, MarkedRow | TargetError | None]:
        """Return the states of the versions that were last sent.

        A document that has no status and isn't in the list gets None.
        """
        details: dict[str, MarkedRow | TargetError | None] = {}
        words: dict[str, str | None] = {}
        for part, answer in (await self._call_each(batches(ids, MAX_IDS), self._data_statuses)).items():
            if isinstance(answer, TargetError):
                details |= dict.fromkeys(part, answer)
            else:
                words |= {doc_id: answer.get(doc_id) for doc_id in part}
        self._trusted.update(doc_id for doc_id, word in words.items() if word and word not in _FINAL)
        unclear = [
            doc_id
            for doc_id, word in words.items()
            if word is None or (word in _FINAL and doc_id not in self._trusted)
        ]
        listed: Mapping[str, MarkedRow] = {}
        if unclear:
            async with self._turn:
                listed = await self._find_rows(unclear, Lookup())
        self._drop_recent(words)
        for doc_id, word in words.items():
            status = self._status_of(doc_id, word, listed)
            if status.state in (DocState.READY, DocState.FAILED, DocState.MISSING):  # done: drop it
                self._trusted.discard(doc_id)
                self._update_started.pop(doc_id, None)
            details[doc_id] = None if status is MISSING else MarkedRow(doc_id, "", None, None, status)
        return details

    async def _data_statuses(self, ids: Sequence[str]) -> Mapping[str, str]:
        """Return the `data_status` of the ids that the service knows.

        If the service refuses a request, send it again in halves.
        """
        query = urlencode([("data_ids", doc_id) for doc_id in ids])
        try:
            path = f"/v1/bot/data/detail/list?{query}"
            return await self._client.read("status", path, shapes.states_of)
        except Rejected:
            if len(ids) == 1:  # the service refuses this id alone
                return {}
        middle = len(ids) // 2
        return {**await self._data_statuses(ids[:middle]), **await self._data_statuses(ids[middle:])}

    def _status_of(self, remote_id: str, word: str | None, listed: Mapping[str, MarkedRow]) -> DocStatus:
        row = listed.get(remote_id)
        if word is None:
            return UNKNOWN if row else MISSING
        state = _FINAL.get(word)
        if state is None:
            return INDEXING if word else UNKNOWN
        if remote_id not in self._trusted:
            if row is None:
                return UNKNOWN
            started_at = self._update_started.get(remote_id)
            # A failure reported for this long must belong to the new version.
            is_late = started_at is None or self._steady() >= started_at + grace(self._config)
            if not row.is_through and not (state is DocState.FAILED and is_late):
                return INDEXING
        return DocStatus(state, _NO_REASON, "FAILED") if state is DocState.FAILED else DocStatus(state)

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

    def _drop_recent(self, ids: Iterable[str]) -> None:
        """Drop the cached rows of these ids."""
        for doc_id in ids:
            self._recent_rows.pop(doc_id, None)

    async def _find_rows(self, ids: Iterable[str], lookup: Lookup) -> dict[str, MarkedRow]:
        """Return the current rows of `ids`. The whole list is read only if an id can't be found otherwise."""
        # Look up ids with a known page first: their pages show where the others are.
        for doc_id in sorted(ids, key=lambda doc_id: self._page_numbers.get(doc_id, math.inf)):
            for _ in range(MAX_LOOKUP_PAGES):
                if doc_id in lookup.rows:
                    break
                number = lookup.next_page(doc_id, self._page_numbers.get(doc_id), self._count)
                if number is None:
                    break
                lookup.take(number, await self._request_page(number, PAGE_SIZE))
        if missing := set(ids) - lookup.rows.keys():
            lookup.rows |= await self._rows_among(missing)
        return {doc_id: lookup.rows[doc_id] for doc_id in ids if doc_id in lookup.rows}

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
