"""The values of a mirror: files, uploads and documents.

Paths are `str`, relative to the mirror's root, with `/` between the parts. Bytes that aren't UTF-8 become
surrogate escapes, as with `os.fsdecode`. Digests are lowercase hex SHA-256. Times are seconds since the epoch
(float) unless the name ends in `_ns`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from dataclasses import field

from kbsync.dataclass import dataclass


@dataclass(frozen=True, slots=True)
class Stamp:
    """A file's metadata from `stat`, used to detect changes. Compare stamps only for equality, never for
    order."""

    # `dev` is left out because it may change with every mount.
    size: int
    mtime_ns: int
    ctime_ns: int  # `touch -r` and `cp -p` can leave size and mtime unchanged
    ino: int

    @property
    def newest(self) -> float:
        """The later of mtime and ctime, in seconds: the time of the last change."""
        return max(self.mtime_ns, self.ctime_ns) / 1e9


NO_STAMP = Stamp(-1, 0, 0, 0)
"""A stamp that no file has, so that the next scan checks the file."""


@dataclass(frozen=True, slots=True)
class RootIdentity:
    """Identifies a root folder.

    `dev` is stable only until the next mount; the rest is stable across runs. `ino` is 0 on file systems on
    which it changes (`file_systems.has_lasting_inodes`). `mount`: for a mount point, what is mounted there
    (`roots.identify_mount`), and on those file systems also for other folders, or "" if unknown.
    """

    dev: int
    ino: int
    fs_type: str
    is_mount: bool
    mount: str = ""

    def is_at(self, dev: int, ino: int) -> bool:
        """Return whether a folder with these numbers is this one. Call this in the same run."""
        return dev == self.dev and self.ino in (0, ino)


UNMOUNTED = "was a mount point, but nothing is mounted there now; mount it again"
"""The problem of a directory whose files are unknown because their disk isn't mounted."""


class FileKind(enum.Enum):
    """The kind of a directory entry."""

    FILE = "file"
    FOLDER = "folder"
    SYMLINK = "symlink"
    SPECIAL = "special file"  # socket, fifo, device


class Presence(enum.IntEnum):
    """Whether the last check of the disk found the path."""

    PRESENT = 0
    MISSING = 1  # absent at one check; a second one, `settle` seconds later, must confirm it
    GONE = 2  # absent at two checks below a root whose identity was checked
    UNKNOWN = 3  # can't be checked: never a reason to delete


GONE, DESELECTED, EMPTIED = "gone", "deselected", "emptied"
"""The reasons why a path must no longer have a document, as shown to users."""


class FileChoice(enum.IntEnum):
    """Whether a file is mirrored, and if not, why."""

    SELECTED = 0
    EXCLUDED = 1  # by the user's include, exclude or ignore file, or by the defaults; not listed
    SKIPPED = 2  # needs no action (empty, symlink, format not accepted); listed, exit 0
    REFUSED = 3  # the user named it, but it can't be mirrored (too large, format refused); listed, exit 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """The decision on whether to mirror a file, with a reason for users.

    `rule` identifies the deciding rule, such as `docs/.kbsyncignore:3` or `exclude[0]`. `pattern`: the
    pattern that excludes the file. The state doesn't store it.
    """

    choice: FileChoice
    reason: str = ""
    rule: str = ""
    pattern: str = field(default="", compare=False)


SELECTED = Verdict(FileChoice.SELECTED)


class Status(enum.IntEnum):
    """The state of a file as users see it (contract, JSON)."""

    READY = 0
    INDEXING = 1
    PENDING = 2
    FAILED = 3
    HELD = 4
    SKIPPED = 5
    EXCLUDED = 6  # not shown
    KEPT = 7  # its file is deleted or excluded, and its document stays (`deletions: never`)

    @property
    def word(self) -> str:
        """The word used in JSON and on the terminal."""
        return self.name.lower()


class UploadState(enum.IntEnum):
    """The state of an upload. Each upload represents a single remote document."""

    INTENDED = 0
    SENDING = 1
    UNSURE = 2
    PRESUMED_LOST = 3
    INDEXING = 4
    SERVING = 5
    HELD = 6  # still serves; its deletion waits for the user
    RETIRING = 7
    TOMBSTONE = 8
    FAILED = 9
    ADOPTING = 10  # found at the target, not yet proven ours
    DROPPED = 11  # final: never reached the target
    GONE = 12  # final: no longer at the target

    @property
    def is_final(self) -> bool:
        """Whether no work is left for the upload."""
        return self in FINAL

    @property
    def serves(self) -> bool:
        """Whether searches find the document under its path."""
        return self in SERVING

    @property
    def in_flight(self) -> bool:
        """Whether the target may have the document although it isn't searchable yet."""
        return self in IN_FLIGHT


UNANSWERED = (UploadState.SENDING, UploadState.UNSURE)
"""Sent, outcome unknown."""

OUTCOME_OPEN = (*UNANSWERED, UploadState.PRESUMED_LOST)
"""States of uploads that may have created a document that no row records."""

TO_BE_SENT = (UploadState.INTENDED, *UNANSWERED)
"""States in which the target is not known to have the document."""

IN_FLIGHT = (*UNANSWERED, UploadState.INDEXING)
"""States in which the target may have the document, but the document doesn't serve its path yet. At most one
upload of a version is in flight (invariant 2).
"""

ON_THE_WAY = (UploadState.INTENDED, *IN_FLIGHT)
"""States before a document becomes searchable, in order."""

SERVING = (UploadState.SERVING, UploadState.HELD)
"""States in which the document serves its path: searches find it under that path. At most one upload of a
path serves it (invariant 1)."""

SEARCHABLE = (*SERVING, UploadState.INDEXING)
"""States in which a search may find the document: services list it as searchable only after searches find
it."""

PROVEN = (*SERVING, UploadState.INDEXING, UploadState.RETIRING, UploadState.FAILED)
"""States in which a row with a remote id proves that the document is ours, and the document may exist
(invariant 3).
"""

LOOKED_FOR = (UploadState.PRESUMED_LOST, UploadState.TOMBSTONE)
"""States in which the document is presumed absent, although a later list may have it."""

WITHOUT_FILE = (*LOOKED_FOR, UploadState.ADOPTING)
"""States in which an upload needs no row for its file."""

TO_BE_DONE = (
    UploadState.INTENDED,  # to be sent
    UploadState.SENDING,
    UploadState.RETIRING,  # to be deleted
    UploadState.SERVING,  # to be renamed
    UploadState.ADOPTING,  # to be read
)
"""States in which `due_at` is the time to act. Checks and polls have separate lists."""

FINAL = (UploadState.DROPPED, UploadState.GONE)
"""States with no work left. The row stays for a while as proof that the document was ours."""


class Purpose(enum.IntEnum):
    """What to do with an upload once its pending outcome is known."""

    SERVE = 0
    RETIRE = 1


class Phase(enum.StrEnum):
    """The phase of an upload within its state. The state stores the word, and `explain` shows it."""

    PLAIN = ""
    ASKED_AGAIN = "reembedding"  # INDEXING: asked to index again, may still show the old failure
    NO_ROOM = "quota"  # INDEXING: the account had no room for it
    NO_MODEL = "target-rejects"  # INDEXING: the service could not use its model
    TO_CUT = "reslice"  # INDEXING: the request to split its text again is still to be sent
    UNRENAMED = "unrenamed"  # SERVING: the target refused to rename it, so its path gets another document
    LISTED_READY = "ready"  # ADOPTING: the target's own list reported it as searchable
    MARKED = "marked"  # ADOPTING: its mark, or the base it is in, proves it is ours
    MARKED_READY = "marked-ready"  # ADOPTING: both


AWAITING = (Phase.NO_ROOM, Phase.NO_MODEL)
"""Phases of documents that failed although nothing is wrong with them, named like the halt that follows."""

UNREADABLE = "?"
TAG = "tag:"


def by_tag(tag: str) -> str:
    """Return a substitute for a digest when only its tag, which is part of a name, is known.

    Return '' if there is no tag.
    """
    return TAG + tag if tag else ""


SCANNED, NO_TEXT = "scanned", "no-text"
"""A target's codes for a document without text: scanned pages, or nothing at all."""

NEEDS_CHANGE = frozenset(
    {
        SCANNED,
        NO_TEXT,
        "encrypted",
        "damaged",
        "binary",
        "bomb",
        "no-picture",
        "too-large",
        "output",  # its text is too long
        "memory",
        "crash",
        "unreadable",
        "unstorable",
        "format",
        "empty",
    }
)
"""Codes of failures that would recur on every retry until the file or the settings change."""


@dataclass(frozen=True, slots=True)
class Upload:
    """One row of the journal: one remote object, or the intent to create one.

    `id` is 0 until the store assigns one. `label` is the path under which the target has the document; `path`
    is where its file is now. `predecessor` is the upload it replaces once ready. `attempts` counts the
    requests of its state: sends, deletes, reads. `repairs` counts failures of its document and carries over
    to the upload that is sent instead. `names_tried` counts names that were taken at the target, `postponed`
    how often its delete waited for a check of the file, `reappeared` how often a list had it after its
    delete. `losses` counts consecutive sends without a response and carries over as `repairs` does. `checks`
    counts the lists and polls since its last step, `absences` those that didn't find it. `code` is the
    target's code for a failure, or ours (`NO_TEXT`). For a document found at the target, `digest` has the
    known part: nothing (''), the tag in its name (`by_tag`), or that its bytes can't be read (`UNREADABLE`).
    `recipe` is '' if it is unknown how the document is split. `wanted_recipe` is the recipe that its file
    needs while the document serves the same bytes under a different recipe and indexing costs money; ''
    otherwise.
    """

    id: int
    mirror: int
    binding: int
    path: str
    label: str
    name: str
    digest: str
    size: int
    recipe: str
    state: UploadState
    purpose: Purpose = Purpose.SERVE
    remote_id: str | None = None
    predecessor: int | None = None
    attempts: int = 0
    repairs: int = 0
    names_tried: int = 0
    postponed: int = 0
    reappeared: int = 0
    losses: int = 0
    checks: int = 0
    absences: int = 0
    created_at: float = 0.0
    sent_at: float | None = None
    accepted_at: float | None = None
    elapsed: float = 0.0
    checked_at: float | None = None
    due_at: float | None = None
    rank: float = 0.0
    reason: str = ""
    code: str = ""
    phase: Phase = Phase.PLAIN
    wanted_recipe: str = ""

    @property
    def version(self) -> tuple[str, str]:
        """The digest and the recipe. Uploads of a path with equal versions have the same content."""
        return self.digest, self.recipe

    @property
    def known_size(self) -> int | None:
        """The length in bytes, or None for a document found at a target that doesn't report it."""
        return self.size if self.size >= 0 else None

    @property
    def is_marked(self) -> bool:
        """Whether the document was found at the target and is proven to be ours by more than its path and
        bytes.
        """
        return self.state is UploadState.ADOPTING and self.phase in (Phase.MARKED, Phase.MARKED_READY)

    @property
    def is_listed_ready(self) -> bool:
        """Whether the document was found at the target, in a list that reported it as searchable."""
        ready_phases = (Phase.LISTED_READY, Phase.MARKED_READY)
        return self.state is UploadState.ADOPTING and self.phase in ready_phases

    @property
    def is_without_text(self) -> bool:
        """Whether the target found no text to search in the document, which isn't an error."""
        return self.state is UploadState.FAILED and self.code in (SCANNED, NO_TEXT)


def serving(uploads: Iterable[Upload]) -> Upload | None:
    """Return the upload of this path that searches find, or None if there isn't one."""
    return next((upload for upload in uploads if upload.state.serves), None)


@dataclass(frozen=True, slots=True)
class Desired:
    """The desired state of one path, as input for `planner.decide`.

    `digest` is None while the content is unknown (being written, unreadable, or over a limit).
    """

    path: str
    presence: Presence
    verdict: Verdict
    digest: str | None
    size: int
    recipe: str
    by_person: bool = True
    """Whether the user excluded the file; if a kbsync upgrade excluded it, its document stays."""
    may_renew: bool = True
    """Whether kbsync may reindex the document with a different recipe, because this is free or the user has
    allowed it."""
    keeps: bool = False
    """Whether the document that serves the path stays even if its file no longer exists."""


@dataclass(frozen=True, slots=True)
class Abilities:
    """A target's optional abilities, beyond put, status, delete and list."""

    renames: bool = False
    updates: bool = False
    reembeds: bool = False
    reslices: bool = False
    reads: bool = False
    asks_before_reindexing: bool = False  # a new recipe costs money, so many need approval
    rename_policy: str = "replace"  # replace | keep
    adopt: str = "content"  # content | name
    keeps: bool = False  # the document of a deleted file stays


@dataclass(frozen=True)
class Formats:
    """Which documents a target accepts. Sizes are in bytes."""

    extensions: frozenset[str] = frozenset()
    """Extensions to send, in lower case without the dot; files with any other extension would always fail
    (promise 9)."""

    names: frozenset[str] = frozenset()
    """Exact names of the extensionless files to send; any other file without an extension would always fail
    (promise 9)."""

    max_bytes: int | None = None
    """Maximum file size, or None for no limit. kbsync refuses larger files without sending them
    (promise 9).
    """

    max_bytes_by_extension: Mapping[str, int] = field(default_factory=dict)
    """Maximum file sizes for formats that have their own limits (promise 9)."""


@dataclass(frozen=True)
class Waiting:
    """How long to wait for a target. Times are in seconds."""

    list_lag: float = 15.0
    """How long an accepted upload may be missing from the list; 0: if a response was lost, a single list is
    enough to decide whether the upload succeeded (promise 3).
    """

    reembed_tries: int = 3
    """How many times kbsync retries a failed document before it quarantines it (promise 9)."""

    give_up: float = 1800.0
    """Time after which a document that still isn't searchable counts as failed (promise 9)."""

    poll_first: float = 1.0
    """Time from an upload to the first poll of its state; until then, the old version continues to serve the
    path (promise 2).
    """

    poll_longest: float = 15.0
    """Maximum time between polls (promise 2)."""

    reembed_grace: float = 0.0
    """How long after a reindex request a reported failure may still be the previous one (promise 9)."""
