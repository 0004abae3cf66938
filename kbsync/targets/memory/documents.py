"""What a base in memory holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from kbsync.contract.mirroring import DocState, DocStatus, Listed
from kbsync.targets.memory.behaviour import Subject


@dataclass(frozen=True, slots=True)
class Content:
    """One version of a document, as it was sent. `upload_id` is None for what others put there."""

    name: str
    path: str
    digest: str
    data: bytes = field(repr=False)
    recipe: str = ""
    upload_id: int | None = None
    mtime: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The bytes as text; what is not UTF-8 becomes U+FFFD."""
        return self.data.decode("utf-8", "replace")

    def is_same_upload(self, other: Content) -> bool:
        """Whether `other` is this very upload, sent again."""
        mine = (self.upload_id, self.path, self.digest)
        return mine == (other.upload_id, other.path, other.digest)


@dataclass(slots=True, eq=False)
class Document:
    """A remote document: `content` is the newest version accepted, `shown` the one that is searchable.

    The two differ while an update is indexed, and after one failed. `foreign`: nobody may touch it.
    `stale` is an old status that is told until `stale_until`.
    """

    remote_id: str
    content: Content
    created: float
    foreign: bool = False
    shown: Content | None = None
    state: DocState = DocState.INDEXING
    reason: str = ""
    code: str = ""
    halt: str = ""
    stale: DocStatus | None = None
    stale_until: float = 0.0
    supersedes: str | None = None
    round: int = 0
    due: float = 0.0
    polls_left: int = 0
    ready_looks: int = 0
    hidden_reads: int = 0
    hidden_until: float = 0.0
    removed: bool = False

    @property
    def name(self) -> str:
        """The remote name."""
        return self.content.name

    @property
    def path(self) -> str:
        """The path it was sent or renamed to."""
        return self.content.path

    @property
    def digest(self) -> str:
        """SHA-256 of the newest version."""
        return self.content.digest

    @property
    def data(self) -> bytes:
        """The bytes of the newest version."""
        return self.content.data

    @property
    def size(self) -> int:
        """Length of the newest version in bytes."""
        return len(self.content.data)

    @property
    def recipe(self) -> str:
        """The recipe of the newest version."""
        return self.content.recipe

    @property
    def upload_id(self) -> int | None:
        """The upload that brought the newest version."""
        return self.content.upload_id

    @property
    def settings(self) -> Mapping[str, Any]:
        """The settings of the newest version."""
        return self.content.settings

    @property
    def subject(self) -> Subject:
        """Itself, as matchers see it."""
        return Subject(self.remote_id, self.name, self.path, self.digest)

    @property
    def status(self) -> DocStatus:
        """The truth about it, which a base may keep to itself."""
        return DocStatus(self.state, self.reason, self.code, self.halt)

    def rename(self, path: str, name: str, mtime: float) -> None:
        """Every version of it is known under `path` and `name` from now on."""
        self.content = replace(self.content, path=path, name=name, mtime=mtime)
        if self.shown is not None:
            self.shown = replace(self.shown, path=path, name=name, mtime=mtime)

    def row(self, state: DocState, *, marks: bool, tells_size: bool, tells_created: bool) -> Listed:
        """Itself as a row of the list, said to be in `state`; without `marks` nothing of ours comes back."""
        row = Listed(
            self.remote_id,
            self.name,
            size=self.size if tells_size else None,
            created=self.created if tells_created else None,
            state=state,
        )
        if not marks or self.upload_id is None:
            return row
        return replace(row, path=self.path, digest=self.digest, upload_id=self.upload_id, recipe=self.recipe)


@dataclass(slots=True, eq=False)
class Ghost:
    """A deleted document that the list still shows, for `reads` more reads or until a moment, the later."""

    document: Document
    until: float
    reads: int
