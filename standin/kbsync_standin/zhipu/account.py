"""Simulates an account at the service: its contents, changes to them, searches, and other users."""

from __future__ import annotations

import heapq
import itertools
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from kbsync_standin.application import CJK, NO_FAULT, Application, Call, Json, words_of
from kbsync_standin.faults import Fault
from kbsync_standin.listing import in_order
from kbsync_standin.zhipu import documents as kept
from kbsync_standin.zhipu.behaviour import KINDS, ZhipuBehaviour
from kbsync_standin.zhipu.documents import CORRUPT, FailInfo, Passage, Phase, ZhipuBase, ZhipuDocument
from kbsync_standin.zhipu.rules import LEGAL

if TYPE_CHECKING:
    from kbsync_standin.zhipu.asking_calls import Agent


_COUNTED = re.compile(f"[{CJK}]|[^\\W_{CJK}]+")
_PARAGRAPHS = re.compile(r"\n[ \t\r]*\n")


@dataclass(frozen=True, slots=True)
class Match:
    """A search hit: `index` is the passage's position in the document, `score` above 0 and at most 1."""

    document: ZhipuDocument
    index: int
    passage: Passage
    score: float


def passages_of(document: ZhipuDocument) -> tuple[Passage, ...]:
    """Return the document's paragraphs, read as UTF-8 and cached in the document."""
    if document.passages is None:
        text = document.text.lstrip("\ufeff").replace("\r\n", "\n")
        text = _shortened(text, document.word_limit)
        pieces = (piece.strip() for piece in _PARAGRAPHS.split(text))
        document.passages = tuple(Passage(piece, words_of(piece)) for piece in pieces if piece)
    return document.passages


def _shortened(text: str, limit: int) -> str:
    """Return the first `limit` words; 0: the whole text."""
    words = list(itertools.islice(_COUNTED.finditer(text), limit)) if limit else []
    return text[: words[-1].end()] if words else text


def search(query: str, documents: Iterable[ZhipuDocument], count: int, threshold: float) -> list[Match]:
    """Return the `count` best passages with a score of at least `threshold`, best first."""
    query_words = words_of(query)
    hits = (match for document in documents for match in _matches(query_words, document))
    good_hits = (match for match in hits if match.score >= threshold)
    return heapq.nsmallest(
        count, good_hits, key=lambda match: (-match.score, match.document.ordinal, match.index)
    )


def _matches(query_words: frozenset[str], document: ZhipuDocument) -> Iterable[Match]:
    for index, passage in enumerate(passages_of(document)):
        if shared := len(query_words & passage.words):
            yield Match(document, index, passage, round(shared / len(query_words), 4))


HOME_ID = "1734786402936664064"
MODELS: Mapping[int, str] = {3: "Embedding-2", 11: "Embedding-3", 12: "Embedding-3-pro"}


class Account(Application[ZhipuBehaviour, ZhipuDocument]):
    """The bases and documents of one customer, without HTTP."""

    name, kinds, switches = "zhipu", KINDS, ZhipuBehaviour
    home_id, home_key = HOME_ID, "knowledge_id"

    def begin(self) -> None:
        """Create the initial contents: no agents, no callback URL, no usage."""
        self.agents: dict[str, Agent] = {}
        self.answers: dict[str, list[Match]] = {}
        self.callback: kept.Callback | None = None
        self.used_bytes = 0
        self._snowflakes = kept.Snowflakes(self._seed)
        self._ordinals = itertools.count()
        self._list_version, self._list_changes_at = ("", "", 0), math.inf
        self._list_rows: Sequence[ZhipuDocument] = ()
        super().begin()

    def change_base(self, state: str) -> None:
        """Change the base's state; a deleted one returns with its documents."""
        if state == "recreated":
            self.drop_base(HOME_ID)
            self.add_home(self.new_id())
        elif HOME_ID not in self.bases:
            self.add_home(HOME_ID)
        if state == "emptied":
            self.empty(HOME_ID, "deleted-by-others")

    def new_number(self) -> int:
        """Return a new snowflake id."""
        skew = self.behaviour.clock_skew if self.behaviour.skewed_ids else 0.0
        return self._snowflakes.make(int((self.now + skew) * 1000))

    def new_id(self) -> str:
        """Return a new base id."""
        return str(self.new_number())

    def new_base(self, base_id: str, name: str, description: str, settings: Mapping[str, Any]) -> ZhipuBase:
        """Return a new base; its name may be in use."""
        model = MODELS[settings.get("embedding_id", 11)]
        return ZhipuBase(base_id, name, description, self.now, **{**settings, "embedding_model": model})

    def document(self, ident: str) -> ZhipuDocument | None:
        """Return the document with this id if it and its base exist."""
        document = self.documents.get(ident)
        is_missing = document is None or document.is_deleted or document.base not in self.visible_bases()
        return None if is_missing else document

    def namesakes(self, base: ZhipuBase, name: str) -> list[ZhipuDocument]:
        """Return the documents of `base` with this stored name, oldest first."""
        return [document for document in self.documents_of(base.id) if document.name == name]

    def listed(self, base: ZhipuBase) -> Sequence[ZhipuDocument]:
        """Return the documents that the list of `base` shows, in its order."""
        now, order = self.now, self.behaviour.order
        # Clients read 100,000 rows in a thousand pages, so sort only after a change.
        version = base.id, order, len(self._journal)
        if self._list_version != version or now >= self._list_changes_at:
            rows = [document for document in self.documents.values() if document.base == base.id]
            times = (time for row in rows for time in (row.listed_from, row.listed_until) if time > now)
            self._list_version, self._list_changes_at = version, min(times, default=math.inf)
            rows = [document for document in rows if document.listed_from <= now < document.listed_until]
            self._list_rows = in_order(rows, order)
        return self._list_rows

    def record(self, effect: str, document: ZhipuDocument, **more: Any) -> None:
        """Add an event to the journal, with the stored name."""
        self._record(effect, document.id, document.name, document.sha256)

    def draft(
        self, base: ZhipuBase, name: str, content: bytes, slicing: kept.Slicing, form: str = ""
    ) -> ZhipuDocument:
        """Return a document with an id without storing it. `form`: how to change its name, by default the
        switch `names`.
        """
        ordinal, number, form = next(self._ordinals), self.new_number(), form or self.behaviour.names
        return ZhipuDocument(
            id=kept.written_id(number, ordinal, self.behaviour.ids),
            ordinal=ordinal,
            base=base.id,
            name=kept.stored_name(name, form, lambda candidate: bool(self.namesakes(base, candidate))),
            sent_name=name,
            content=content,
            slicing=slicing,
            created=self.now,
        )

    def store(self, document: ZhipuDocument, call: Call = NO_FAULT, effect: str = "stored") -> None:
        """Store a document in its base and start vectorizing it."""
        unlisted, undetailed = (
            float(call.arg("seconds", 15.0)) if call.plays(kind) else 0.0
            for kind in ("unlisted", "detail-missing")
        )
        document.listed_from = self.now + max(self.behaviour.list_lag, unlisted)
        document.visible_from = self.now + undetailed
        self._fill(document)
        self.add(document, effect)
        self._vectorize(document, call)

    def delete(self, document: ZhipuDocument, effect: str = "deleted", listed: float = 0.0) -> None:
        """Delete a document; the list may show it for `listed` seconds more."""
        base = self.bases[document.base]
        document.listed_until = self.now + max(self.behaviour.list_lag, listed)
        if document.counts:
            self.used_bytes -= document.size
            base.size -= document.size
        super().delete(document, effect)
        document.content, document.passages = b"", None

    def vectorize_again(self, document: ZhipuDocument, effect: str, call: Call = NO_FAULT) -> None:
        """Vectorize a document again."""
        if not document.counts:
            self._fill(document)
        self.record(effect, document)
        self._vectorize(document, call)

    def is_full_for(self, size: int) -> bool:
        """Return whether a document of `size` bytes exceeds the capacity."""
        used, words = self.used_bytes + size, self.behaviour.capacity_words
        return used > self.behaviour.capacity_bytes or 0 < words < used // kept.BYTES_PER_WORD

    def _fill(self, document: ZhipuDocument) -> None:
        document.counts = not self.is_full_for(document.size)
        if document.counts:
            self.used_bytes += document.size
            self.bases[document.base].size += document.size

    def _vectorize(self, document: ZhipuDocument, call: Call) -> None:
        """Decide all phases of the vectorizing run that begins now, with the fault of the call."""
        behaviour, now, stale = self.behaviour, self.now, self.behaviour.stale_stat
        before = document.phase(now) if document.phases else None
        document.polls = int(call.arg("n", 3)) if call.plays("polls") else 0
        info = FailInfo(int(call.arg("code", CORRUPT.code)), str(call.arg("text", CORRUPT.text)))
        is_stuck, tail = False, []
        match call.fault.kind:
            case "stuck" if call.arg("searchable"):
                distorted = replace(call, fault=Fault("stat", args={"value": 0}))
                document.distortions.append((math.inf, distorted))
            case "stuck":
                is_stuck = True
            case "fails":
                document.runs_to_fail = int(call.arg("runs", 1)) or -1
                document.failure = None if call.arg("silent") else info
            case "relapse":
                after, back = float(call.arg("after", 5.0)), float(call.arg("back", 1.0))
                tail = [Phase(after, 0), Phase(after + back, 1)]
            case "fails-later":
                tail = [Phase(float(call.arg("after", 5.0)), 2, info)]
            case "stat" | "fail-info" | "url" | "fields":
                document.distortions.append((now + float(call.arg("seconds", math.inf)), call))
        # Draw a number for every run, even an endless one, so that later draws in a test stay the same.
        ready = now + self.chance.uniform(*behaviour.vectorize)
        phases = [Phase(now, 0)]
        if before is not None:
            ready = max(ready, now + stale)
            under_way = Phase(now + stale, 0, before.info if behaviour.keeps_fail_info else None)
            phases = [Phase(now, before.stat, before.info), under_way] if stale else [under_way]
        if not behaviour.zero_balance and not is_stuck:
            end = self._end(document, ready)
            phases.append(end)
            if end.stat == 1:
                phases += [Phase(ready + late.starts_at, late.stat, late.info) for late in tail]
            if callback := document.callback or self.callback:
                self.letters += kept.letters(callback, document.id, end.stat, end.starts_at, call)
        document.phases = tuple(phases)

    def _end(self, document: ZhipuDocument, ready: float) -> Phase:
        """Return the final phase of a run."""
        if document.runs_to_fail:
            document.runs_to_fail -= 1
            return Phase(ready, 2, document.failure)
        info = kept.failure_reason(document)
        if not document.counts:
            info = kept.FULL_CHARACTERS if self.behaviour.full == "10002" else kept.FULL_SPACE
        return Phase(ready, 2, info) if info else Phase(ready, 1)

    # -- for tests

    def store_foreign(self, name: str, content: bytes, args: Mapping[str, Any]) -> ZhipuDocument:
        """Store another user's document, or the page at `url`."""
        number = next(
            (number for number, extensions in LEGAL.items() if kept.extension(name) in extensions), 1
        )
        document = self.draft(self.bases[HOME_ID], name, content, kept.Slicing(number), "as_sent")
        document.is_foreign, document.address = True, str(args.get("url", ""))
        self.store(document, effect="foreign-stored")
        return document

    def describe(self, document: ZhipuDocument) -> Json:
        """Describe a document with its status."""
        stat, knowledge_type = document.phase(self.now).stat, document.slicing.knowledge_type
        details = {"size": document.size, "address": document.address, "knowledge_type": knowledge_type}
        return {**super().describe(document), **details, "stat": stat}
