"""The knowledge API of GPTBots as a target of the mirror.

The vendor keeps our marker, takes several documents in a request, and changes a document in place under its
id while the old text goes on serving. It gives no reasons: success is what an answer says of each document,
and searchable is what `data_status` says of the version that was sent.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any, Unpack
from urllib.parse import urlsplit

from kbsync.contract.searching import Passage, Query
from kbsync.contract.target import Accepted, Base, DocState, DocStatus, Outgoing, PutOutcome, Surroundings
from kbsync.core.links import EXTENSIONS as LINKS
from kbsync.core.links import LARGEST as LARGEST_LINK
from kbsync.core.links import NoLink, address_from, is_link
from kbsync.core.model import Limits
from kbsync.core.names import Naming
from kbsync.core.text import extension_of
from kbsync.errors import Halted, NotOffered, Rejected, TargetError, Unavailable, Unfit, Unsure
from kbsync.targets.gptbots.api import (
    MOST_BYTES,
    MOST_CHANGED,
    MOST_FILES,
    OVERLOADED,
    RANKING,
    DocumentList,
    GptbotsApi,
    ListedVersion,
    RequestSize,
    UploadItem,
    batches_of,
)
from kbsync.targets.gptbots.config import (
    EXTENSIONS,
    FETCHED,
    LARGEST,
    LARGEST_PDF,
    DocumentKind,
    GptbotsTargetConfig,
    cutting_of,
    described,
    kind_of_recipe,
)
from kbsync.targets.gptbots.manage import GptbotsBases
from kbsync.targets.gptbots.shapes import (
    TOO_MANY,
    MarkedRow,
    Marker,
    StoredDocument,
    UploadReceipt,
    judge_for,
    read_marker,
    write_marker,
)
from kbsync.targets.http.client import ClientOptions
from kbsync.targets.http.limits import MissingCalls
from kbsync.targets.http.reading import DocumentRow, batches
from kbsync.targets.http.target import MISSING, UNKNOWN, ServiceTarget, grace, refusal_of, search_ranked

FAILED = "failed"


def outcomes_of(receipt: UploadReceipt, batch: Sequence[UploadItem]) -> Mapping[int, PutOutcome]:
    """What an answer says of each document that was sent, by place and never by position. Pure.

    The vendor's pages tell a document by the name that was sent, some versions by that without its extension;
    an update by its id, which stays. A document in both lists or in neither is `Unsure`.
    """
    # An update's id is known beforehand and beats any name; that of a new document is not.
    is_update = bool(batch[0].doc_id)
    words = [{one.id if is_update and one.id else one.name} for one in receipt.stored]
    told = [{_composed(word) for word in some if word} for some in (*words, *receipt.failed)]

    # Whole names and ids count first: a name without its extension is only one of what these left over.
    meant = {item.place: _which(told, {_composed(item.file_name), item.doc_id}) for item in batch}
    taken = {number for numbers in meant.values() for number in numbers}
    for item in batch:
        if not meant[item.place]:
            bare = _which(told, {_composed(item.file_name).rpartition(".")[0]})
            meant[item.place] = [number for number in bare if number not in taken]
    if len(batch) == 1 and not meant[batch[0].place]:  # whatever it calls the only one
        meant[batch[0].place] = list(range(len(receipt.stored) + len(receipt.failed)))

    count = len(receipt.stored)
    stored = {place: [receipt.stored[n] for n in numbers if n < count] for place, numbers in meant.items()}
    failed = {place for place, numbers in meant.items() if any(n >= count for n in numbers)}
    holders = Counter(one_id for some in stored.values() for one_id in {one.id for one in some} if one_id)
    return {item.place: _outcome(item, stored[item.place], holders, item.place in failed) for item in batch}


# Names may come back in another form of the same characters (NFC, NFD).
_composed = partial(unicodedata.normalize, "NFC")


def _outcome(
    item: UploadItem, stored: Sequence[StoredDocument], holders: Mapping[str, int], is_failed: bool
) -> PutOutcome:
    name = item.document.path
    if is_failed and not stored:
        # Often it takes the same document a moment later.
        return Rejected("the vendor refused the document and gives no reason", code=FAILED, may_pass=True)
    ids = {one.id for one in stored}
    # An id given for two documents is believed for neither: one of them would never be found, and nothing
    # would say so (promise 10).
    if is_failed or len(ids) > 1 or any(holders.get(one, 0) > 1 for one in ids):
        return Unsure(f"the vendor's answer contradicts itself about {name}", code="contradiction")
    if not stored:
        return Unsure(f"the vendor's answer names {name} neither as stored nor as failed", code="no-receipt")
    remote_id = stored[0].id or item.doc_id
    if not remote_id:
        return Unsure(f"the vendor's answer gives {name} no id", code="no-id")
    return Accepted(remote_id, replaced=bool(item.doc_id) and remote_id == item.doc_id)


def _which(told: Sequence[set[str]], words: set[str]) -> list[int]:
    wanted = words - {""}
    return [number for number, one in enumerate(told) if not wanted.isdisjoint(one)]


def limits_of(config: GptbotsTargetConfig) -> Limits:
    """What the target takes."""
    return Limits(
        extensions=EXTENSIONS,
        max_bytes=min(config.max_bytes, LARGEST),
        max_bytes_by_extension={
            "pdf": min(config.max_bytes, LARGEST_PDF),
            **dict.fromkeys(LINKS, min(config.max_bytes, LARGEST_LINK)),
        },
        links=LINKS,
        batch=MOST_CHANGED,
        batch_bytes=MOST_BYTES // 4 * 3,
        list_lag=1.0,
        marks=True,
        paid=True,
    )


MOST_IDS = 50
"""Ids of one request."""

_FINAL = {"AVAILABLE": DocState.READY, "FAILED": DocState.FAILED, "FAILURE": DocState.FAILED}
_NO_REASON = "the vendor could not index it and gives no reason; see its console"
_INDEXING = DocStatus(DocState.INDEXING)


class StatusReader:
    """Finds out what became of documents, fifty to a request.

    After an update the vendor may go on telling the state of the old version. A final state counts for the
    new one when another state was seen in between, or when the document's `update_time` is not the one that
    the update's marker remembers, which also works after a restart.

    `grace`: seconds after an update in which a failure may be an old one.
    """

    def __init__(
        self, api: GptbotsApi, listed: DocumentList, steady: Callable[[], float], grace: float
    ) -> None:
        self._api, self._list = api, listed
        self._steady, self._grace = steady, grace
        # Of these the next final state is that of the version sent last.
        self._trusted: set[str] = set()
        self._begun: dict[str, float] = {}

    def began(self, ids: Sequence[str]) -> None:
        """These are about to be changed: nothing that was said of them holds."""
        self._trusted.difference_update(ids)
        self._begun |= dict.fromkeys(ids, self._steady())
        self._list.changing(ids)

    def added(self, ids: Iterable[str]) -> None:
        """These are new: whatever is said of them is of their only version."""
        self._trusted.update(ids)

    async def states(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """The state of each; UNKNOWN where it could not be had, MISSING where the list lacks it as well.

        Raises `Halted`, and `TargetError` where nothing could be seen at all.
        """
        words: dict[str, str] = {}
        unseen: set[str] = set()
        for part in batches(ids, MOST_IDS):
            try:
                words |= {one: word for one, word in (await self.shown(part)).items() if one in part}
            except Halted:
                raise
            except TargetError:
                if not words:
                    raise
                unseen.update(part)
        self._trusted.update(one for one, word in words.items() if word and word not in _FINAL)
        absent = [one for one in ids if one not in words and one not in unseen]
        doubtful = [one for one, word in words.items() if word in _FINAL and one not in self._trusted]
        listed = await self._list.read([*absent, *doubtful]) if absent or doubtful else {}
        self._list.changing(ids)
        states = {one: self._state(one, word, listed) for one, word in words.items()}
        states |= {one: UNKNOWN if one in listed else MISSING for one in absent}
        for one, status in states.items():
            if status.state in (DocState.READY, DocState.FAILED, DocState.MISSING):  # over: forgotten
                self._trusted.discard(one)
                self._begun.pop(one, None)
        return {one: states.get(one, UNKNOWN) for one in ids}

    async def shown(self, ids: Sequence[str]) -> Mapping[str, str]:
        """`data_status` of those that the vendor knows; a request that is refused is sent in halves."""
        try:
            return await self._api.states(ids)
        except Rejected:
            if len(ids) == 1:
                return {}
        middle = len(ids) // 2
        return {**await self.shown(ids[:middle]), **await self.shown(ids[middle:])}

    def _state(self, remote_id: str, word: str, listed: Mapping[str, ListedVersion]) -> DocStatus:
        state = _FINAL.get(word)
        if state is None:
            return _INDEXING if word else UNKNOWN
        if remote_id not in self._trusted:
            seen = listed.get(remote_id)
            if seen is None:
                return UNKNOWN
            begun = self._begun.get(remote_id)
            # A failure that is shown for so long must be the new one.
            is_late = begun is None or self._steady() >= begun + self._grace
            if not seen.is_through and not (state is DocState.FAILED and is_late):
                return _INDEXING
        return DocStatus(state, _NO_REASON, "FAILED") if state is DocState.FAILED else DocStatus(state)


_FLAT = Naming(style="plain")
"""Names of files: no slash, at most 200 bytes, and they tell the path where the marker is lost."""

QA_UPDATE = "update of questions and answers"
"""The call that some installations may lack."""


class GptbotsUploads:
    """Sends documents, several to a request; every outcome is returned, none raised."""

    def __init__(
        self,
        config: GptbotsTargetConfig,
        prefix: str,
        api: GptbotsApi,
        listed: DocumentList,
        statuses: StatusReader,
        missing: MissingCalls,
    ) -> None:
        self._config, self._prefix = config, prefix
        self._api, self._list, self._statuses = api, listed, statuses
        self._missing = missing
        self._new = RequestSize(MOST_FILES)
        self._changed = {kind: RequestSize(MOST_FILES) for kind in DocumentKind}
        self._changed[DocumentKind.TEXT] = RequestSize(MOST_CHANGED)

    async def put(self, documents: Sequence[Outgoing]) -> list[PutOutcome]:
        """In the order given."""
        results: dict[int, PutOutcome] = {}
        for place, one in enumerate(documents):
            if (error := self._refusal(one)) is not None:
                results[place] = error
        sendable = {place: one for place, one in enumerate(documents) if place not in results}
        try:
            known = await self._known({one.replaces for one in sendable.values() if one.replaces is not None})
        except TargetError as error:
            results |= dict.fromkeys(sendable, error)
            return [results[place] for place in range(len(documents))]
        items = [self._item(place, one, known) for place, one in sendable.items()]
        for batch in batches_of(items, self._most_files):
            results |= await self._deliver(batch)
        # A change may be refused because the document is gone: then it is sent as a new one.
        refused = [one for one in items if one.doc_id and isinstance(results[one.place], Rejected)]
        try:
            shown = await self._statuses.shown([one.doc_id for one in refused]) if refused else {}
        except TargetError:
            refused = []
        gone = [self._item(one.place, one.document, {}) for one in refused if one.doc_id not in shown]
        for batch in batches_of(gone, self._most_files):
            results |= await self._deliver(batch)
        return [results[place] for place in range(len(documents))]

    def _size(self, item: UploadItem) -> RequestSize:
        return self._changed[item.cutting.kind] if item.doc_id else self._new

    def _most_files(self, item: UploadItem) -> int:
        return self._size(item).now

    def _refusal(self, document: Outgoing) -> Rejected | None:
        """What the vendor would refuse after all of it was sent, is refused here."""
        refusal = refusal_of(document, limits_of(self._config), self._config.max_bytes)
        if refusal or not is_link(document.path):
            return refusal
        try:
            address = _address_in(document)
        except NoLink as reason:
            return Unfit(str(reason), code="link")
        if _format(address) in FETCHED:
            return None
        known = ", ".join(f".{one}" for one in sorted(FETCHED))
        return Unfit(f"the vendor fetches files and no pages: its address has to end in {known}", code="link")

    async def _known(self, ids: Collection[str]) -> Mapping[str, ListedVersion]:
        """Of the documents to be changed. Raises `Unavailable` for one that is there but not listed."""
        if not ids:
            return {}
        known = await self._list.known(ids)
        # Without its `update_time` a change would look like the version before it (promise 10).
        unlisted = [one for one in ids if one not in known]
        if unlisted and (shown := await self._statuses.shown(unlisted)):
            raise Unavailable(
                f"document {next(iter(shown))} is there and not in the list yet", code="list-lag"
            )
        return known

    def _item(self, place: int, document: Outgoing, known: Mapping[str, ListedVersion]) -> UploadItem:
        address = _address_in(document) if is_link(document.path) else ""
        cutting = cutting_of(document.path, document.settings)
        changed = known.get(document.replaces or "")
        if changed is not None:
            if cutting.kind is DocumentKind.QA:
                # Only where the config says so, and the cutting stays: the call has no fields for it.
                is_wanted = self._config.qa_update == "in_place" and not self._missing.lacks(QA_UPDATE)
                may_change = is_wanted and cutting.is_usual and changed.recipe == cutting.recipe
            else:
                may_change = kind_of_recipe(changed.recipe) in (None, cutting.kind)  # only within a kind
            changed = changed if may_change else None
        # The marker of an update has the `update_time` from before it; see `StatusReader`.
        was = None if changed is None else changed.updated or 0
        path = self._prefix + document.path
        told = Marker(path, document.digest, document.upload_id, cutting.recipe, was)
        return UploadItem(
            place,
            document,
            cutting,
            _FLAT.name(document.name + (f".{_format(address)}" if address else ""), document.digest),
            write_marker(self._config.source_url_prefix, told),
            (document.replaces or "") if changed is not None else "",
            address,
        )

    async def _deliver(self, batch: tuple[UploadItem, ...]) -> dict[int, PutOutcome]:
        """One request; where it is refused as a whole, each half by itself."""
        self._statuses.began([one.doc_id for one in batch if one.doc_id])
        is_qa_update = bool(batch[0].doc_id) and batch[0].cutting.kind is DocumentKind.QA
        try:
            outcomes = outcomes_of(await self._api.deliver(batch), batch)
        except Rejected as error:
            return await self._refused(batch, error, is_qa_update)
        except TargetError as error:
            if isinstance(error, Unsure) and len(batch) > MOST_FILES:  # it may have choked on their number
                self._size(batch[0]).refused(len(batch))
            return {one.place: error for one in batch}
        self._size(batch[0]).taken(len(batch))
        if is_qa_update:
            self._missing.works(QA_UPDATE)
        if not batch[0].doc_id:  # all of them are new
            told = [one.remote_id for one in outcomes.values() if isinstance(one, Accepted)]
            self._statuses.added(told)
        return dict(outcomes)

    async def _refused(
        self, batch: tuple[UploadItem, ...], error: Rejected, is_qa_update: bool
    ) -> dict[int, PutOutcome]:
        try:
            await self._api.base()
        except TargetError as missing:  # the base may be gone, which is no fault of any document
            return {one.place: missing for one in batch}
        if isinstance(error, NotOffered):
            if not is_qa_update:
                return {one.place: Unavailable(error.reason, code=error.code) for one in batch}
            # What cannot be changed in place is sent as a new document.
            self._missing.note(QA_UPDATE, error)
            return await self._deliver(tuple(self._item(one.place, one.document, {}) for one in batch))
        if len(batch) == 1:
            return {batch[0].place: error}
        middle = len(batch) // 2
        if error.code == TOO_MANY:  # 20 are documented; what a bot takes shows only here
            self._size(batch[0]).refused(len(batch))
        return await self._deliver(batch[:middle]) | await self._deliver(batch[middle:])


def _address_in(document: Outgoing) -> str:
    """Raises NoLink."""
    with document.body.open() as stream:
        return address_from(document.path, stream)


def _format(address: str) -> str:
    """Of the file that an address leads to, by its name."""
    return extension_of(urlsplit(address).path)


class GptbotsTarget(ServiceTarget[DocumentRow]):
    """One knowledge base, whose documents change in place. Raises `UsageError` for settings of no use."""

    _config: GptbotsTargetConfig

    updates_in_place = True
    most_ids = MOST_IDS

    retry_reach = "the whole bot, in all of its knowledge bases, also those of others"

    def __init__(
        self,
        config: GptbotsTargetConfig,
        surroundings: Surroundings,
        **options: Unpack[ClientOptions],
    ) -> None:
        super().__init__(config, surroundings, judge_for(config.base_url), **options)
        self.takes = limits_of(config)

    def _make_parts(self) -> None:
        config, prefix = self._config, self._surroundings.prefix
        self._api = GptbotsApi(config, self._client)
        self._list = DocumentList(self._api, config.source_url_prefix, self._steady)
        self._statuses = StatusReader(self._api, self._list, self._steady, grace(config))
        missing = self._client.missing
        self._uploader = GptbotsUploads(config, prefix, self._api, self._list, self._statuses, missing)

    @property
    def bases(self) -> GptbotsBases:
        """The knowledge bases of the bot."""
        return GptbotsBases(self._config, self._surroundings, self._api)

    def recipe(self, path: str, settings: Mapping[str, Any]) -> str:
        """How `path` is cut, such as `t600`, `ts1f0c9a3b`, `x600h1` or `q600h1`."""
        return cutting_of(path, settings).recipe

    def describe(self, recipe: str) -> str:
        """The settings that a recipe stands for."""
        return described(recipe)

    async def base(self) -> Base:
        """Look at the base. Raises `Halted("knowledge-base-missing")` where there is none."""
        return await self._api.base()

    async def put(self, documents: Sequence[Outgoing]) -> Sequence[PutOutcome]:
        """Send documents, several to a request; a document that replaces another changes it in place."""
        return await self._uploader.put(documents)

    async def _states(self, ids: Sequence[str]) -> Mapping[str, DocStatus]:
        """Of the version that was sent last."""
        return await self._statuses.states(ids)

    async def remove_several(self, ids: Sequence[str]) -> bool:
        """The answer says nothing about any one of them."""
        await self._api.delete(ids)
        return False

    async def still_there(self, ids: Sequence[str]) -> Collection[str]:
        """Those with a state."""
        shown = await self._statuses.shown(ids)
        if not shown:  # nothing at all counts only while the base is there
            await self._api.base()
        return shown.keys()

    async def rows(self) -> AsyncGenerator[DocumentRow, None]:
        """Every document of the base."""
        async with aclosing(self._list.rows()) as rows:
            async for row in rows:
                yield self._read(row)

    @property
    def reranks(self) -> bool:
        """The vendor has ranking models; one is asked on request, or always where the config names it."""
        return True

    async def matches(self, query: Query) -> Sequence[tuple[str, Passage]]:
        """In the order of the vendor's ranking model, where one is asked for."""
        ranking = self._config.search.rerank_version or (RANKING if query.rerank else None)
        return await search_ranked(
            lambda ranked: self._api.search(query.text, ranking if ranked else None),
            ranking is not None,
            OVERLOADED,
        )

    async def retry_all(self) -> int | None:
        """The vendor's own retry, which takes no ids."""
        try:
            return await self._api.retry()
        except Unsure as error:
            reason = f"{error.reason}; they may be tried again by now, and asking once more does no harm"
            raise Unsure(reason, code=error.code) from error

    def _read(self, row: MarkedRow) -> DocumentRow:
        """By its marker; one without is read by its name.

        Under another prefix or address it is no file of this mirror, but may be an upload of it from before.
        """
        prefix = self._surroundings.prefix
        told = read_marker(self._config.source_url_prefix, row.source_url)
        if told is None:
            # A document with another address is not ours, whatever its name (promise 6).
            reading = None if row.source_url else Naming(prefix, "plain").read_mangled(row.name)
            path = reading.path if reading else None
            return DocumentRow(row.id, row.name, None, row.created, UNKNOWN, path)
        is_here = told.path.startswith(prefix) and told.path != prefix
        about = told.path.removeprefix(prefix) if is_here else None, told.digest, told.upload_id, told.recipe
        return DocumentRow(row.id, told.path or row.name, None, row.created, UNKNOWN, *about)
