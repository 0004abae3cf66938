"""A user's datasets: one call stores a document, another one parses it, then searches find it."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from kbsync_standin.application import NO_FAULT, Application, Base, Call, Document, Json
from kbsync_standin.ragflow.behaviour import KINDS, RagflowBehaviour
from kbsync_standin.rules import Refused

HOME_ID = "7898da028a0511efbf750242ac120005"
"""The id of the initial dataset."""

UNSTART, RUNNING, CANCEL, DONE, FAIL = "UNSTART", "RUNNING", "CANCEL", "DONE", "FAIL"
DIGITS = {UNSTART: "0", RUNNING: "1", CANCEL: "2", DONE: "3", FAIL: "4"}

_COUNTER = re.compile(r"(.*?)\((\d+)\)", re.DOTALL)


@dataclass(slots=True, kw_only=True, eq=False)
class RagflowDocument(Document):
    """A document. `ready_at`: when parsing ends with `outcome`; None: never. `progress`: its progress
    messages.

    `fields`: its metadata.
    """

    run: str = UNSTART
    outcome: str = DONE
    chunks: int = 0
    progress: str = ""
    is_enabled: bool = True
    fields: Json = field(default_factory=dict)

    def catch_up(self, now: float) -> None:
        """Apply everything that is over by `now`."""
        if self.run == RUNNING and self.is_over(now):
            empty = self.outcome == "empty"
            self.run = DONE if empty else self.outcome
            self.chunks = int(self.outcome == DONE)
            if empty:
                self.progress = f"12:00:01 No chunk built from {self.name}"

    def is_searchable(self, now: float) -> bool:
        """Return whether searches may find it."""
        return self.chunks > 0 and self.is_enabled and not self.is_deleted


def folded(name: str) -> str:
    """Fold a name as the database compares it: case and accents are ignored (utf8mb4_unicode_ci)."""
    bare = unicodedata.normalize("NFKD", name)
    return "".join(character for character in bare if not unicodedata.combining(character)).casefold()


class User(Application[RagflowBehaviour, RagflowDocument]):
    """One user."""

    name, kinds, switches = "ragflow", KINDS, RagflowBehaviour
    home_id, home_name, home_key = HOME_ID, "home", "dataset_id"
    id_form = "[0-9a-f]{32}"

    def begin(self) -> None:
        """Create the initial contents: no dataset has an index."""
        self._indexed: set[str] = set()
        super().begin()

    def new_id(self) -> str:
        """Return an id like `uuid1().hex`."""
        return f"{self.chance.getrandbits(48):012x}11f0{self.chance.getrandbits(64):016x}"

    def new_base(self, base_id: str, name: str, description: str, settings: Mapping[str, Any]) -> Base:
        """Return a new dataset; if its name is in use it gets a number."""
        free = _free(name, {folded(dataset.name) for dataset in self.visible_bases().values()})
        return Base(base_id, free, description, self.now, dict(settings))

    def dataset(self, ident: str) -> Base:
        """Return the dataset. Raises `Refused`."""
        if (base := self.visible_bases().get(ident)) is None:
            raise Refused(f"You don't own the dataset {ident}. ")
        assert isinstance(base, Base)
        return base

    def catch_up(self) -> None:
        """Finish the parsing that is due."""
        for document in self.documents.values():
            document.catch_up(self.now)

    def store(self, dataset: str, name: str, content: bytes, call: Call = NO_FAULT) -> RagflowDocument:
        """Store a document; a name in use gets a number (`duplicate_name`, api/db/services/__init__.py)."""
        names_in_use = {folded(document.name) for document in self.documents_of(dataset)}
        if call.plays("other-name"):
            names_in_use.add(folded(name))
        about: Json = {"id": self.new_id(), "base": dataset, "created": self.now}
        return self.add(
            RagflowDocument(**about, name=_free(name, names_in_use), sent_name=name, content=content)
        )

    def parse(self, document: RagflowDocument, call: Call = NO_FAULT) -> None:
        """Start parsing a document; its old chunks are deleted immediately. Raises `Refused` if it is already
        being parsed.
        """
        document.catch_up(self.now)
        kind = call.fault.kind if call.plays(call.fault.kind, document.name) else ""
        if document.run == RUNNING or kind == "begun-already":
            raise Refused("Can't parse document that is currently being processed")
        document.run, document.chunks, document.progress = RUNNING, 0, "12:00:00 Task has been received."
        document.outcome = {"fails": FAIL, "no-chunks": "empty", "stopped": CANCEL}.get(kind, DONE)
        if kind == "fails":
            document.progress += f"\n12:00:01 [ERROR]{call.arg('said', 'cannot be read')}"
        document.ready_at = self.ready_at(call, document.name)
        if document.outcome == DONE:
            self._indexed.add(document.base)
        self.record("parsed", document)
        document.catch_up(self.now)

    def remove(self, ids: Collection[str], dataset: str) -> None:
        """Delete documents of this dataset."""
        for document in self.documents_of(dataset):
            if document.id in ids:
                self.delete(document)

    def find(self, question: str, datasets: Sequence[str], ids: Sequence[str]) -> list[Json]:
        """Return chunks that share words with the question, best first. Raises `Refused` if there is no
        index.
        """
        if self.behaviour.no_index == "error" and self._indexed.isdisjoint(datasets):
            raise Refused("No chunk found, please upload file and parse it.", code=100)
        documents = [
            document
            for dataset in datasets
            for document in self.documents_of(dataset)
            if not ids or document.id in ids
        ]
        return [
            {
                "id": hashlib.sha256(document.id.encode()).hexdigest()[:32],
                "content": document.text[:2000],
                "document_id": document.id,
                "document_keyword": document.name,
                "dataset_id": document.base,
                "positions": [[1, 1, 1, 1, 1]],
                "similarity": share,
            }
            for share, document in self.rank(question, documents)
            if share >= 0.2
        ]

    def store_foreign(self, name: str, content: bytes, args: Mapping[str, Any]) -> RagflowDocument:
        """Store another user's document and parse it."""
        document = self.store(HOME_ID, name, content)
        self.parse(document)
        return document

    def put_foreign(self, args: Json) -> Json:
        """Store or delete as another user; `{"disable": id}` disables a document."""
        if "disable" not in args:
            return super().put_foreign(args)
        self.documents[args["disable"]].is_enabled = False
        return self.describe(self.documents[args["disable"]])

    def describe(self, document: RagflowDocument) -> Json:
        """Describe a document and its parsing."""
        return {**super().describe(document), "run": document.run}


def _free(name: str, names_in_use: set[str]) -> str:
    while folded(name) in names_in_use:
        path = PurePath(name)
        numbered = _COUNTER.fullmatch(path.stem)
        stem, number = (numbered[1].rstrip(), int(numbered[2])) if numbered else (path.stem, 0)
        name = f"{stem}({number + 1}){path.suffix}"
    return name
