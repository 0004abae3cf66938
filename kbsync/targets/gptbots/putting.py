"""Sending documents, several to a request, and what became of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from urllib.parse import urlsplit

from kbsync.contract.mirroring import Accepted, Outgoing, PutOutcome
from kbsync.core.links import Link, NoLink, is_link, link_from
from kbsync.core.names import Naming
from kbsync.errors import NotOffered, Rejected, TargetError, Unavailable, Unfit
from kbsync.targets.gptbots import marker
from kbsync.targets.gptbots.api import Api
from kbsync.targets.gptbots.codes import TOO_MANY
from kbsync.targets.gptbots.formats import EXTENSIONS, FETCHED, Cutting, Kind, cutting_of, extension_of
from kbsync.targets.gptbots.parcels import Item, packed
from kbsync.targets.gptbots.receipts import outcomes_of
from kbsync.targets.gptbots.settings import MOST_FILES, GptbotsSettings
from kbsync.targets.gptbots.sightings import Seen, Sightings
from kbsync.targets.gptbots.waiting import Waiting
from kbsync.targets.http.lacking import Lacking

_FLAT = Naming(style="plain")
"""Names of files: no slash, at most 200 bytes, and they tell the path where the marker is lost."""

QA_UPDATE = "update of questions and answers"
"""The call that some installations may lack."""


class Putting:
    """Sends documents; every outcome is returned, none raised."""

    def __init__(
        self,
        settings: GptbotsSettings,
        api: Api,
        sightings: Sightings,
        waiting: Waiting,
        lacking: Lacking,
    ) -> None:
        self._settings, self._api = settings, api
        self._sightings, self._waiting = sightings, waiting
        self._lacking = lacking
        self._most = MOST_FILES

    async def put(self, documents: Sequence[Outgoing]) -> list[PutOutcome]:
        """In the order given."""
        outcomes = {place: error for place, one in enumerate(documents) if (error := self._refusal(one))}
        sendable = {place: one for place, one in enumerate(documents) if place not in outcomes}
        results: dict[int, PutOutcome] = {**outcomes}
        try:
            items = await self._items(sendable)
        except TargetError as error:
            results |= dict.fromkeys(sendable, error)
            items = []
        for parcel in packed(items, self._most):
            results |= await self._deliver(parcel)
        gone = await self._gone([one for one in items if isinstance(results[one.place], Rejected)])
        for parcel in packed((self._item(one.place, one.document, {}) for one in gone), self._most):
            results |= await self._deliver(parcel)
        return [results[place] for place in range(len(documents))]

    def _refusal(self, document: Outgoing) -> Rejected | None:
        """What the vendor would refuse after all of it was sent, is refused here."""
        if extension_of(document.path) not in EXTENSIONS:
            known = " ".join(sorted(EXTENSIONS))
            return Rejected(f"the vendor does not take this format; it takes {known}", code="format")
        limits = self._settings.limits
        most = limits.max_bytes_by_extension.get(extension_of(document.path), limits.max_bytes or 0)
        if document.size > most:
            return Rejected(f"{document.size:,} bytes are over the limit of {most:,}", code="too-large")
        if not document.size:
            return Rejected("the file is empty", code="empty")
        return _link_refusal(document) if is_link(document.path) else None

    async def _items(self, documents: Mapping[int, Outgoing]) -> list[Item]:
        known = await self._known({one.replaces for one in documents.values() if one.replaces is not None})
        return [self._item(place, one, known) for place, one in documents.items()]

    async def _known(self, ids: Collection[str]) -> Mapping[str, Seen]:
        """Of the documents to be changed. Raises `Unavailable` for one that is there but not listed."""
        if not ids:
            return {}
        known = await self._sightings.known(ids)
        unlisted = [one for one in ids if one not in known]
        if unlisted and (shown := await self._waiting.shown(unlisted)):
            raise Unavailable(
                f"document {next(iter(shown))} is there and not in the list yet", code="list-lag"
            )
        return known

    async def refresh(self, document: Outgoing) -> None:
        """Have a link document fetched anew under its id. Raises `TargetError`."""
        [item] = await self._items({0: document})
        if not item.doc_id:
            raise Rejected("the document is no longer in the knowledge base", code="missing")
        outcome = (await self._deliver((item,)))[0]
        if isinstance(outcome, TargetError):
            raise outcome

    def _item(self, place: int, document: Outgoing, known: Mapping[str, Seen]) -> Item:
        link = _link_in(document) if is_link(document.path) else None
        own = {} if link is None else link.settings
        cutting = cutting_of(document.path, {**document.settings, **own})
        seen = known.get(document.replaces or "")
        changed = seen if seen is not None and self._can_change(seen, cutting) else None
        return Item(
            place,
            document,
            cutting,
            _FLAT.name(document.name + ("" if link is None else f".{_format(link)}"), document.digest),
            self._marked(document, cutting, changed),
            (document.replaces or "") if changed is not None else "",
            "" if link is None else link.address,
        )

    def _can_change(self, seen: Seen, cutting: Cutting) -> bool:
        """In place only within a kind. Questions and answers where the config says so and the cutting stays
        what it was: the call has no fields for it.
        """
        if cutting.kind is not Kind.QA:
            return seen.kind in (None, cutting.kind)
        is_wanted = self._settings.qa_update == "in_place" and not self._lacking.lacks(QA_UPDATE)
        return is_wanted and cutting.is_usual and seen.recipe == cutting.recipe

    def _marked(self, document: Outgoing, cutting: Cutting, changed: Seen | None) -> str:
        was = None if changed is None else changed.updated or 0
        path = self._settings.prefix + document.path
        told = marker.Marker(path, document.digest, document.upload_id, cutting.recipe, was)
        return marker.write(self._settings.source_url_prefix, told)

    async def _deliver(self, parcel: tuple[Item, ...]) -> dict[int, PutOutcome]:
        """One request; where it is refused as a whole, each half by itself."""
        changed = [one.doc_id for one in parcel if one.doc_id]
        self._waiting.began(changed)
        try:
            outcomes = outcomes_of(await self._api.deliver(parcel), parcel)
        except Rejected as error:
            return await self._refused(parcel, error)
        except TargetError as error:
            return {one.place: error for one in parcel}
        if parcel[0].doc_id and parcel[0].cutting.kind is Kind.QA:
            self._lacking.works(QA_UPDATE)
        new = {one.place for one in parcel if not one.doc_id}
        self._waiting.added(
            [one.remote_id for place, one in outcomes.items() if place in new and isinstance(one, Accepted)]
        )
        return dict(outcomes)

    async def _refused(self, parcel: tuple[Item, ...], error: Rejected) -> dict[int, PutOutcome]:
        missing = await self._missing()
        if missing is not None:
            return {one.place: missing for one in parcel}
        if isinstance(error, NotOffered):
            return await self._not_offered(parcel, error)
        if len(parcel) == 1:
            return {parcel[0].place: error}
        if error.code == TOO_MANY:
            self._most = min(self._most, max(1, len(parcel) // 2))
        middle = len(parcel) // 2
        return await self._deliver(parcel[:middle]) | await self._deliver(parcel[middle:])

    async def _gone(self, refused: Sequence[Item]) -> list[Item]:
        """Changes that were refused because the document is not there any more: it is to be made anew."""
        changes = [one for one in refused if one.doc_id]
        if not changes:
            return []
        try:
            shown = await self._waiting.shown([one.doc_id for one in changes])
        except TargetError:
            return []
        return [one for one in changes if one.doc_id not in shown]

    async def _missing(self) -> TargetError | None:
        """The base may be gone, which is no fault of any document."""
        try:
            await self._api.base()
        except TargetError as missing:
            return missing
        return None

    async def _not_offered(self, parcel: tuple[Item, ...], error: NotOffered) -> dict[int, PutOutcome]:
        """No fault of any document either. What cannot be changed where it lies is made anew."""
        if not (parcel[0].doc_id and parcel[0].cutting.kind is Kind.QA):
            return {one.place: Unavailable(error.reason, code=error.code) for one in parcel}
        self._lacking.note(QA_UPDATE, error)
        return await self._deliver(tuple(self._item(one.place, one.document, {}) for one in parcel))


def _link_refusal(document: Outgoing) -> Rejected | None:
    try:
        link = _link_in(document)
    except NoLink as reason:
        return Unfit(str(reason), code="link")
    if _format(link) in FETCHED:
        return None
    known = ", ".join(f".{one}" for one in sorted(FETCHED))
    return Unfit(f"the vendor fetches files and no pages: its address has to end in {known}", code="link")


def _link_in(document: Outgoing) -> Link:
    """Raises NoLink."""
    with document.body.open() as stream:
        return link_from(document.path, stream)


def _format(link: Link) -> str:
    """Of the file that an address leads to, by its name."""
    return extension_of(urlsplit(link.address).path)
