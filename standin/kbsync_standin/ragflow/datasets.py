"""A user's datasets: one call stores a document, another one parses it, then searches find it."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from kbsync_standin.application import UNPLAYED, Application, Base, Call, Document, Json
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

    @property
    def is_searchable(self) -> bool:
        """Whether a search may find it."""
        return self.chunks > 0 and self.is_enabled and not self.is_deleted


def folded(name: str) -> str:
    """Fold a name as the database compares it: case and accents are ignored (utf8mb4_unicode_ci)."""
    bare = unicodedata.normalize("NFKD", name)
    return "".join(one for one in bare if not unicodedata.combining(one)).casefold()


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
        free = _free(name, {folded(one.name) for one in self.visible_bases().values()})
        return Base(base_id, free, description, self.now, dict(settings))

    def own(self, dataset: str) -> Base:
        """Return the dataset. Raises `Refused`."""
        if (one := self.visible_bases().get(dataset)) is None:
            raise Refused(f"You don't own the dataset {dataset}. ")
        assert isinstance(one, Base)
        return one

    def catch_up(self) -> None:
        """Finish the parsing that is due."""
        for one in self.documents.values():
            one.catch_up(self.now)

    def store(self, dataset: str, name: str, content: bytes, call: Call = UNPLAYED) -> RagflowDocument:
        """Store a document; a name in use gets a number (`duplicate_name`, api/db/services/__init__.py)."""
        taken = {folded(one.name) for one in self.documents_of(dataset)}
        if call.plays("other-name"):
            taken.add(folded(name))
        about: Json = {"id": self.new_id(), "base": dataset, "created": self.now}
        return self.add(RagflowDocument(**about, name=_free(name, taken), sent_name=name, content=content))

    def parse(self, one: RagflowDocument, call: Call = UNPLAYED) -> None:
        """Start parsing a document; its old chunks go at once. Raises `Refused` if it is already being
        parsed.
        """
        one.catch_up(self.now)
        kind = call.fault.kind if call.plays(call.fault.kind, one.name) else ""
        if one.run == RUNNING or kind == "begun-already":
            raise Refused("Can't parse document that is currently being processed")
        one.run, one.chunks, one.progress = RUNNING, 0, "12:00:00 Task has been received."
        one.outcome = {"fails": FAIL, "no-chunks": "empty", "stopped": CANCEL}.get(kind, DONE)
        if kind == "fails":
            one.progress += f"\n12:00:01 [ERROR]{call.arg('said', 'cannot be read')}"
        one.ready_at = self.ready_at(call, one.name)
        if one.outcome == DONE:
            self._indexed.add(one.base)
        self.record("parsed", one)
        one.catch_up(self.now)

    def remove(self, ids: Collection[str], dataset: str) -> None:
        """Delete documents of this dataset."""
        for one in self.documents_of(dataset):
            if one.id in ids:
                self.delete(one)

    def find(self, question: str, datasets: Sequence[str], ids: Sequence[str]) -> list[Json]:
        """Return chunks that share words with the question, best first. Raises `Refused` if there is no
        index.
        """
        if self.behaviour.no_index == "error" and self._indexed.isdisjoint(datasets):
            raise Refused("No chunk found, please upload file and parse it.", code=100)
        known: Iterable[RagflowDocument] = (one for dataset in datasets for one in self.documents_of(dataset))
        known = [one for one in known if one.is_searchable and (not ids or one.id in ids)]
        return [
            {
                "id": hashlib.sha256(one.id.encode()).hexdigest()[:32],
                "content": one.text[:2000],
                "document_id": one.id,
                "document_keyword": one.name,
                "dataset_id": one.base,
                "positions": [[1, 1, 1, 1, 1]],
                "similarity": share,
            }
            for share, one in self.rank(question, known)
            if share >= 0.2
        ]

    def store_foreign(self, name: str, content: bytes, args: Mapping[str, Any]) -> RagflowDocument:
        """Store another user's document and parse it."""
        one = self.store(HOME_ID, name, content)
        self.parse(one)
        return one

    def put_foreign(self, args: Json) -> Json:
        """Store or delete as another user; `{"disable": id}` disables a document."""
        if "disable" not in args:
            return super().put_foreign(args)
        self.documents[args["disable"]].is_enabled = False
        return self.describe(self.documents[args["disable"]])

    def describe(self, one: RagflowDocument) -> Json:
        """Describe a document and its parsing."""
        return {**super().describe(one), "run": one.run, "searchable": one.is_searchable}


def _free(name: str, taken: set[str]) -> str:
    while folded(name) in taken:
        path = PurePath(name)
        numbered = _COUNTER.fullmatch(path.stem)
        stem, number = (numbered[1].rstrip(), int(numbered[2])) if numbered else (path.stem, 0)
        name = f"{stem}({number + 1}){path.suffix}"
    return name
