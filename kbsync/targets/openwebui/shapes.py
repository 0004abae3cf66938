"""Parses the server's responses, reads and writes our mark in its files, and classifies its errors, without
I/O.

A file's metadata contains the data that the client sent with it (`meta.data`), a SHA-256 of its bytes
(`meta.file_hash`) and, in the list of a base, its folder (`directory_path`). Our mark is a string in
`meta.data`, such as `12 1 guides/intro.md`: the upload, the recipe and the escaped path.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from kbsync.contract.searching import Passage
from kbsync.contract.target import BaseCard, DocStatus, Listed
from kbsync.core.text import printable
from kbsync.dataclass import dataclass
from kbsync.errors import Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.http import reading, rules
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.http.reading import Fields, ListPage, Match, T, value_at
from kbsync.targets.http.rules import ErrorCase, ErrorRule, case_of, classify

MARK = "kbsync_mark"
"""The key of our mark, which is stored next to `knowledge_id`, `directory_id` and `file_hash` from the
server."""

_MARK = re.compile(r"(?P<upload>[0-9]{1,18}) (?P<recipe>[A-Za-z0-9]{1,40}) (?P<path>[!-~]+)")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DUPLICATE = "Duplicate content"
_UNSAFE = re.compile(r'[\x00-\x1f\x7f"\\/\ud800-\udfff]')


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file on the server.

    `folder`: "" for none, or None if unknown. `base`: the base that it was sent to. `text_hash`: the hash of
    its indexed text. `collection`: the collection that it was last indexed into, its own or a base's.
    `content`: its text, if requested. `status` and `error` are as reported by the server. Times are in epoch
    seconds.
    """

    id: str
    name: str
    folder: str | None
    folder_id: str | None
    base: str
    digest: str | None
    text_hash: str
    size: int | None
    created: float
    updated: float
    collection: str
    status: str
    error: str
    content: str
    mark: tuple[int, str, str] | None

    @property
    def path(self) -> str:
        """The path of the file in the base.

        This is the path in the mark, unless someone moved or renamed the file there.
        """
        if self.mark is not None:
            sent = self.mark[2]
            is_there = self.folder is None or self.folder == safe_folder(sent)
            if is_there and self.name == safe(sent.rpartition("/")[2]):
                return sent
        return f"{self.folder}/{self.name}" if self.folder else self.name

    @property
    def is_in_own_collection(self) -> bool:
        """Whether the file's text has been indexed for the file itself, but not yet for the base, which is
        the next step.
        """
        return self.collection.startswith("file-")

    @property
    def is_left_out(self) -> bool:
        """Whether the server finished with the file without adding it to a base, such as one that the key's
        user could not change at that moment.
        """
        return self.status == "completed" and self.is_in_own_collection

    @property
    def is_searchable(self) -> bool:
        """Whether searches find the file's current text.

        A listed file has passages in the base. If the file has no hash, these passages are from an older
        text.
        """
        return bool(self.text_hash) and not self.is_in_own_collection

    @property
    def is_refused_copy(self) -> bool:
        """Whether the server refused the file because the base already has its text."""
        return self.status == "failed" and _DUPLICATE in self.error

    @property
    def has_own_line(self) -> bool:
        """Whether the file's text ends with our line.

        The server stores the line before it indexes the text.
        """
        return self.content.endswith(self._own_line)

    @property
    def with_own_line(self) -> str:
        """Return the file's text with our line at the end.

        The line contains the file's current path and a part that is unique to the file.
        """
        added = "" if self.has_own_line else f"\n\n({printable(self.path)}{self._own_line}"
        return self.content + added

    @property
    def _own_line(self) -> str:
        return f", {self.id[:8]})\n"

    def listed(self, prefix: str, status: DocStatus) -> Listed:
        """Return the file as a row of the list.

        If the file has another mirror's prefix, the row has no path.
        """
        full_path = self.path
        upload_id, recipe, _ = self.mark or (None, None, "")
        about = reading.path_below(prefix, full_path), self.digest, upload_id, recipe
        return Listed(self.id, full_path, self.size, self.created or None, status.state, *about)


def metadata_of(upload_id: int, recipe: str, path: str, digest: str, base: str) -> dict[str, str]:
    """Return the metadata to send with a file.

    The mark is ASCII, and its path has no spaces, whatever bytes the path contains.
    """
    mark = f"{upload_id} {recipe} {quote(path.encode('utf-8', 'surrogateescape'))}"
    return {"knowledge_id": base, "file_hash": digest, MARK: mark}


def safe(name: str) -> str:
    """Return a name that survives a form unchanged, because the server doesn't unescape names in forms."""
    return _UNSAFE.sub("_", name)


def safe_folder(path: str) -> str:
    """Return the folder of the file at `path`, or "" for none.

    Empty names are avoided, because the server would create a new folder for them each time.
    """
    return "/".join(map(safe, filter(None, path.split("/")[:-1])))


@reading.row_reader
def file_of(row: Fields) -> StoredFile:
    """Parse a file, from either a list entry or a response of its own."""
    meta, data = row.object("meta"), row.object("data")
    sent = meta.object("data")
    digest, folder = meta.text("file_hash"), row.get("directory_path")
    match = _MARK.fullmatch(sent.text(MARK))
    path = match and unquote_to_bytes(match["path"]).decode("utf-8", "surrogateescape")
    return StoredFile(
        id=row["id"],
        name=row.text("filename"),
        folder=folder if isinstance(folder, str) else None,
        folder_id=row.id("directory_id") or sent.id("directory_id"),
        base=sent.text("knowledge_id"),
        digest=digest if _DIGEST.fullmatch(digest) else None,
        text_hash=row.text("hash"),
        size=meta.count("size"),
        created=float(row.count("created_at") or 0),
        updated=float(row.count("updated_at") or 0),
        collection=meta.text("collection_name"),
        status=data.text("status"),
        error=data.text("error"),
        content=data.text("content"),
        mark=(int(match["upload"]), match["recipe"], path) if match and path else None,
    )


def status_in(body: Any) -> str | None:
    """Return a file's status from a response without the file, or None if the shape is unexpected."""
    return reading.object_of(body).text("status") or None


def is_confirmed(body: Any) -> bool | None:
    """Return True if the server says that it did what was requested, otherwise None."""
    return reading.object_of(body).get("status") is True or None


def page_of(body: Any, read: Callable[[Any], T | None]) -> ListPage[T] | None:
    """Return a page of the list with rows parsed by `read`, or None if the list or the count is missing."""
    page = reading.page_in(value_at(body, "items"), value_at(body, "total"), read)
    # On a database error the server returns an empty list and a count of 0, which proves nothing.
    return None if page is None or page.total is None else replace(page, is_null=not page.rows)


@reading.row_reader
def card_of(row: Fields) -> BaseCard:
    """Parse a knowledge base. Only list responses contain the number of its files."""
    count = row.count("file_count")
    return BaseCard(row["id"], row.text("name"), row.text("description"), documents=count)


def folders_of(body: Any) -> dict[str, str] | None:
    """Return the folders of a base as a mapping from path to id."""
    folders = reading.object_of(body).get("directory_map")
    if not isinstance(folders, dict):
        return None
    return {path: folder for path, value in folders.items() if (folder := reading.id_of(value)) is not None}


def matches_of(body: Any) -> tuple[Match, ...] | None:
    """Return the passages that a search found, or None if the shape is unexpected.

    In the response, the passages are three parallel lists of lists.
    """
    columns = [reading.object_of(body).get(key) for key in ("documents", "metadatas", "distances")]
    batches = [column[0] for column in columns if isinstance(column, list) and column]
    lists = [batch for batch in batches if isinstance(batch, list)]
    if len(lists) < len(columns) or len(set(map(len, lists))) > 1:
        return None
    return tuple(
        (remote_id, Passage(reading.text_of(text), score=reading.number(score) or 0.0))
        for text, fact, score in zip(*lists, strict=True)
        if (remote_id := reading.object_of(fact).id("file_id"))
    )


_NOT_FOUND = re.compile(r"\AWe could not find what you're looking for")
_UPLOAD_ENDED = re.compile(r"Error uploading file")
_NOT_MADE = re.compile(r"Failed to create directory")

OF_BASE = frozenset({"base", "list", "folders", "make-folder", "cleanup", "delete-base"})
"""Calls that name only a base, so that a 404 means that the base is missing."""

_PAGE_HINT = "base_url must be the server's URL without a path such as /api"
_RIGHTS = "check the permissions of the user that api_key belongs to"


def _may_be_rights(case: ErrorCase) -> bool:
    """Return whether a refusal may mean that the key lacks permission.

    Such a refusal is the server's own message, not a firewall's page, and isn't about money.
    """
    return case.is_error and rules.ACCOUNT.search(case.matched_text) is None


RULES: tuple[ErrorRule, ...] = (
    # For a wrong URL the server returns its start page with 200.
    ErrorRule(Unsure, status=rules.SUCCESS, when=lambda case: case.is_page, hint=_PAGE_HINT, as_code="page"),
    # Seen with 0.12.4: 400 or 404 by route.
    rules.no_base(call=OF_BASE, status={400, 404}, pattern=_NOT_FOUND),
    # Seen with 0.12.4: 400 or 404 by route.
    ErrorRule(Rejected, status={400, 404}, pattern=_NOT_FOUND, as_code=rules.GONE),
    # The server caught an internal error, before or after it stored the file.
    ErrorRule(Unsure, status={400}, call={"upload"}, pattern=_UPLOAD_ENDED),
    # The key lacks rights.
    rules.no_access(status={403}, when=_may_be_rights, hint=_RIGHTS, as_code="403"),
    # Any other refusal of a call on a base means missing rights, regardless of the status.
    rules.no_access(status={400}, call=OF_BASE, unless=_NOT_MADE, when=_may_be_rights, hint=_RIGHTS),
    # Observed with 0.12.4: the server can't embed the question.
    ErrorRule(Unavailable, status={400}, call={"search"}, reported=True, hint="check its embedding model"),
    # The server has finished with the file, whose status has the reason.
    ErrorRule(Unavailable, status={500}, call={"update"}, reported=True),
)
"""The server's rules: an error is `{"detail": "…"}` under an HTTP status, and a web page with 200 isn't a
success. The common rules come after them.
"""


def classify_response(response: HttpResponse) -> TargetError | None:
    """Classify a response. Return None on success."""
    is_error = bool(response.fields.text("detail")) and not response.is_success
    return classify(case_of(response, is_error=is_error), RULES)
