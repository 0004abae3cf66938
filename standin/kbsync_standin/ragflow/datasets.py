"""A user's datasets: documents that are stored by one call and parsed by another, and what searches find."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from kbsync_standin import rules
from kbsync_standin.faults import Fault, hits
from kbsync_standin.older import Holdings, shared_words
from kbsync_standin.ragflow.behaviour import RagflowBehaviour

HOME_ID = "7898da028a0511efbf750242ac120005"
"""The dataset that is there from the start."""

UNSTART, RUNNING, CANCEL, DONE, FAIL = "UNSTART", "RUNNING", "CANCEL", "DONE", "FAIL"
DIGITS = {UNSTART: "0", RUNNING: "1", CANCEL: "2", DONE: "3", FAIL: "4"}

_COUNTER = re.compile(r"(.*?)\((\d+)\)", re.DOTALL)


class Refused(rules.Refused):
    """The server refuses, and the client made no mistake."""

    def __init__(self, words: str, code: int = 102) -> None:
        super().__init__(words, code=code)


@dataclass(slots=True)
class Dataset:
    """`fields`: as they were given."""

    id: str
    name: str
    created: float
    fields: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Document:
    """`over_at`: when what goes on is over, with `outcome`; None: never. `said`: its progress."""

    id: str
    dataset: str
    name: str
    sent_name: str
    content: bytes
    created: float
    run: str = UNSTART
    over_at: float | None = None
    outcome: str = DONE
    chunks: int = 0
    said: str = ""
    is_enabled: bool = True
    is_deleted: bool = False
    fields: dict[str, Any] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Of the content, in hex."""
        return hashlib.sha256(self.content).hexdigest()

    def get_on(self, now: float) -> None:
        """What is over by `now` has happened."""
        if self.run == RUNNING and self.over_at is not None and self.over_at <= now:
            empty = self.outcome == "empty"
            self.run = DONE if empty else self.outcome
            self.chunks = int(self.outcome == DONE)
            if empty:
                self.said = f"12:00:01 No chunk built from {self.name}"

    @property
    def is_searchable(self) -> bool:
        """A search may find it."""
        return self.chunks > 0 and self.is_enabled and not self.is_deleted


def folded(name: str) -> str:
    """Equal for names that the database calls equal: case and accents do not count (utf8mb4_unicode_ci)."""
    bare = unicodedata.normalize("NFKD", name)
    return "".join(one for one in bare if not unicodedata.combining(one)).casefold()


class User(Holdings[RagflowBehaviour]):
    """One user."""

    def _begin(self) -> None:
        self.documents: dict[str, Document] = {}
        self.datasets = {HOME_ID: Dataset(HOME_ID, "home", self.clock.now())}
        self._indexed: set[str] = set()

    def _turned(self, before: RagflowBehaviour) -> None:
        base = self.behaviour.base
        if base not in (before.base, "present"):
            self.documents = {key: one for key, one in self.documents.items() if one.dataset != HOME_ID}
            if base == "recreated":
                del self.datasets[HOME_ID]
                self.make("home", {})

    # -- datasets

    def alive_datasets(self) -> Sequence[Dataset]:
        """Those that are there, the newest first."""
        is_home_gone = self.behaviour.base == "deleted"
        rows = [one for key, one in self.datasets.items() if not (is_home_gone and key == HOME_ID)]
        return rows[::-1]

    def own(self, dataset: str) -> Dataset:
        """Raises `Refused`."""
        for one in self.alive_datasets():
            if one.id == dataset:
                return one
        raise Refused(f"You don't own the dataset {dataset}. ")

    def make(self, name: str, fields: Mapping[str, Any]) -> Dataset:
        """A second one of a name gets a number."""
        taken = {folded(one.name) for one in self.alive_datasets()}
        one = Dataset(self._new_id(), _free(name, taken), self.clock.now(), dict(fields))
        self.datasets[one.id] = one
        return one

    def drop(self, dataset: str) -> None:
        """With all in it."""
        for one in list(self.alive(dataset)):
            self.delete(one)
        del self.datasets[dataset]

    # -- documents

    def alive(self, dataset: str) -> Iterator[Document]:
        """Those that are there, the oldest first."""
        now = self.clock.now()
        for one in self.documents.values():
            if one.dataset == dataset and not one.is_deleted:
                one.get_on(now)
                yield one

    def store(self, dataset: str, name: str, content: bytes, fault: Fault) -> Document:
        """A name that is taken gets a number (`duplicate_name`, api/db/services/__init__.py)."""
        taken = {folded(one.name) for one in self.alive(dataset)}
        if fault.kind == "other-name":
            taken.add(folded(name))
        one = Document(self._new_id(), dataset, _free(name, taken), name, content, self.clock.now())
        self.documents[one.id] = one
        self._note("stored", one)
        return one

    def parse(self, one: Document, fault: Fault) -> None:
        """What it had in the index goes at once. Raises `Refused` for what is being parsed."""
        one.get_on(self.clock.now())
        kind = fault.kind if hits(fault, fault.kind, one.name) else ""
        if one.run == RUNNING or kind == "begun-already":
            raise Refused("Can't parse document that is currently being processed")
        one.run, one.chunks, one.said = RUNNING, 0, "12:00:00 Task has been received."
        one.outcome = {"fails": FAIL, "no-chunks": "empty", "stopped": CANCEL}.get(kind, DONE)
        if kind == "fails":
            one.said += f"\n12:00:01 [ERROR]{fault.args.get('said', 'cannot be read')}"
        span = self._chance.uniform(*self.behaviour.vectorize)
        one.over_at = None if kind == "stuck" else self.clock.now() + span
        if one.outcome == DONE:
            self._indexed.add(one.dataset)
        self._note("parsed", one)
        one.get_on(self.clock.now())

    def remove(self, ids: Sequence[str], dataset: str) -> None:
        """Documents of this dataset."""
        for one in list(self.alive(dataset)):
            if one.id in ids:
                self.delete(one)

    def present(self) -> Iterator[Document]:
        """In every dataset."""
        return (one for one in self.documents.values() if not one.is_deleted)

    def delete(self, one: Document, effect: str = "deleted") -> None:
        """A document that is there."""
        one.is_deleted = True
        self._note(effect, one)

    def found(self, question: str, datasets: Sequence[str], ids: Sequence[str]) -> list[dict[str, Any]]:
        """Chunks that share words with the question, best first. Raises `Refused` where there is no index."""
        if self.behaviour.no_index == "error" and self._indexed.isdisjoint(datasets):
            raise Refused("No chunk found, please upload file and parse it.", 100)
        rows = []
        for one in (each for dataset in datasets for each in self.alive(dataset)):
            text = one.content.decode("utf-8", "replace")
            share = shared_words(question, text)
            if share >= 0.2 and one.is_searchable and (not ids or one.id in ids):
                rows.append(
                    {
                        "id": hashlib.sha256(one.id.encode()).hexdigest()[:32],
                        "content": text[:2000],
                        "document_id": one.id,
                        "document_keyword": one.name,
                        "dataset_id": one.dataset,
                        "positions": [[1, 1, 1, 1, 1]],
                        "similarity": share,
                    }
                )
        return sorted(rows, key=lambda row: -row["similarity"])

    def snapshot(self) -> dict[str, Any]:
        """Every document, deleted ones too, and the datasets."""
        documents = []
        for one in self.documents.values():
            one.get_on(self.clock.now())
            told = {key: getattr(one, key) for key in ("id", "name", "sent_name", "sha256", "run")}
            more = {"deleted": one.is_deleted, "searchable": one.is_searchable, "dataset": one.dataset}
            documents.append({**told, **more})
        return {
            "documents": documents,
            "bases": [{"id": one.id, "settings": dict(one.fields)} for one in self.alive_datasets()],
        }

    def _new_id(self) -> str:
        """As `uuid1().hex`."""
        return f"{self._chance.getrandbits(48):012x}11f0{self._chance.getrandbits(64):016x}"

    def _note(self, effect: str, one: Document) -> None:
        self.journal.append({"effect": effect, "id": one.id, "name": one.sent_name, "sha256": one.sha256})


def _free(name: str, taken: set[str]) -> str:
    while folded(name) in taken:
        path = PurePath(name)
        numbered = _COUNTER.fullmatch(path.stem)
        stem, number = (numbered[1].rstrip(), int(numbered[2])) if numbered else (path.stem, 0)
        name = f"{stem}({number + 1}){path.suffix}"
    return name
