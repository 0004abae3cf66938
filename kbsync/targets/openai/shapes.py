"""Parses the service's responses, reads and writes our mark in its documents, and classifies its errors,
without I/O.

The attributes of a file in a store are the mark: `path` (and `path_2` and so on, for a long one), `kbsync`
with the digest, upload id and recipe, and `file_id`, which can limit a search to some files. The name of an
uploaded file ends with a tag made from store, prefix and length, which identifies our files that were never
attached.
"""

from __future__ import annotations

import hashlib
import re
from urllib.parse import quote, unquote_to_bytes

from kbsync.contract.searching import Passage
from kbsync.contract.target import DocStatus, Outgoing
from kbsync.core.names import Naming, tag_of
from kbsync.dataclass import dataclass
from kbsync.errors import NotOffered, Rejected, TargetError, Unavailable
from kbsync.targets.http import reading, rules
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.http.reading import DocumentRow, Fields, Match
from kbsync.targets.http.rules import ErrorRule, case_of, classify

PUT_BACK = "put-back"
"""The name of the call that restores passages, the only one with an empty response."""


def page_of(response: HttpResponse) -> tuple[list[Fields], str]:
    """Return the unparsed objects of a list page, and the cursor of the next page, or "" at the end.

    Raises `Unavailable` if the shape is unexpected.
    """
    body = response.fields
    listed, has_more = body.get("data"), body.get("has_more")
    rows = [row for row in reading.objects_in(listed) if row.text("id")]
    is_list = isinstance(listed, list) and isinstance(has_more, bool)
    # Take the cursor from the rows, and raise for a row without an id instead of skipping it silently.
    is_whole = is_list and len(rows) == len(listed or ()) and (bool(rows) or not has_more)
    rows = rules.require_parsed(response, rows if is_whole else None)
    return rows, rows[-1]["id"] if has_more else ""


def status_of(row: Fields) -> DocStatus:
    """Return the status reported for a file in a store."""
    match row.text("status"):
        case "in_progress":
            return rules.INDEXING
        case "completed":
            return rules.READY
        case "failed" | "cancelled":
            error = row.object("last_error")
            code = error.text("code")
            return rules.failed(error.text("message"), code, is_quota=code in _QUOTA)
    return rules.UNKNOWN


def passages_of(response: HttpResponse) -> list[Match]:
    """Return the passages that a search found, each only once.

    Raises `Unavailable` if the shape is unexpected.
    """
    matches: dict[tuple[str, str], Match] = {}
    for remote_id, passage in rules.require_parsed(
        response, reading.matches_in(response.fields.get("data"), _match)
    ):
        # OGX returns a passage that several files share once for each of them, but always under the same
        # file.
        matches.setdefault((remote_id, passage.text), (remote_id, passage))
    return list(matches.values())


def _match(row: Fields) -> tuple[object, Passage]:
    # OGX has its own id in `file_id` and the service's file id in our attributes; on OpenAI they are equal.
    remote_id = row.object("attributes").id("file_id") or row.get("file_id")
    text = "\n".join(part.text("text") for part in row.objects("content"))
    return remote_id, Passage(text, score=row.number("score") or 0.0)


# -- marks
MAX_ATTRIBUTES, MAX_VALUE_LENGTH = 16, 512
"""Maximum number of attributes, and maximum length of an attribute's value (the service's reference,
`attributes`)."""

PATH_KEYS = ("path", *(f"path_{number}" for number in range(2, MAX_ATTRIBUTES - 1)))
"""Names of the attributes that contain the path or its pieces. kbsync needs two more attributes."""

_MARK = re.compile(r"(?P<digest>[0-9a-f]{64}) (?P<upload>[0-9]{1,18}) (?P<recipe>[a-z0-9]{1,40})")
_ODD = re.compile(r"[%\x00-\x1f\x7f\ud800-\udfff]|^\s|\s$")


def path_attributes(path: str) -> dict[str, str]:
    """Return the attributes that hold a path, which includes the mirror's prefix.

    Raises `Rejected` for a path that doesn't fit.
    """
    text = _ODD.sub(lambda odd: quote(odd[0], safe="", errors="surrogateescape"), path)
    # What counts as a character is undocumented; a non-ASCII character may count as two.
    length = MAX_VALUE_LENGTH if text.isascii() else MAX_VALUE_LENGTH // 2
    pieces = [text[start : start + length] for start in range(0, len(text), length)]
    if len(pieces) > len(PATH_KEYS):
        raise Rejected("the path is too long to be stored with the file", code="path")
    return dict(zip(PATH_KEYS, pieces, strict=False))


def row_of(row: Fields, prefix: str = "") -> DocumentRow:
    """Return a file in a store as a row.

    Without our mark, or under a different prefix, it belongs to someone else.
    """
    remote_id, created, status = row.text("id"), row.count("created_at"), status_of(row)
    attributes = row.object("attributes")
    match = _MARK.fullmatch(attributes.text("kbsync"))
    encoded = "".join(attributes.text(key) for key in PATH_KEYS)
    path = unquote_to_bytes(encoded).decode("utf-8", "surrogateescape")
    if match is None or not path:
        return DocumentRow(remote_id, remote_id, None, created, status)
    mark = reading.path_below(prefix, path), match["digest"], int(match["upload"]), match["recipe"]
    return DocumentRow(remote_id, path, None, created, status, *mark)


def is_marked(row: Fields) -> bool:
    """Return whether a file in a store has any mirror's mark."""
    return row_of(row).digest is not None


_PLAIN = Naming(style="plain")
_TAGGED = re.compile(r"[~_]([a-z2-7]{8})[a-z2-7]{8}(?:\.[A-Za-z0-9]+){0,2}\Z")
_TEXT_SUFFIXES = (".txt", ".md", ".html")


def _hash_tag(*words: object) -> str:
    encoded = "\0".join(map(str, words)).encode("utf-8", "surrogateescape")
    return tag_of(hashlib.sha256(encoded).hexdigest())


@dataclass(frozen=True, slots=True)
class FileNames:
    """Makes the names of uploaded files.

    A name consists of the flattened path, `~`, a tag of store, prefix and length, and a tag of the upload.
    Some servers replace everything except letters, digits, dots and dashes with `_`. OGX chooses its reader
    by the name and recognizes few text formats, so text files get a text extension there.
    """

    store: str
    prefix: str

    def name(self, document: Outgoing, *, as_text: bool = False) -> str:
        """Return the name of an uploaded file; for example, `guides__intro~mfrggzdfa5lsqnby.md`. With
        `as_text`, the name has a text extension; for example, `main~mfrggzdfa5lsqnby.go.txt`.
        """
        plain = _PLAIN.name(self.prefix + document.path, document.digest)
        stem, _, extension = plain.rpartition(".")  # no format lacks an extension
        name = f"{stem}~{self._tags(document)}.{extension}"
        return f"{name}.txt" if as_text and not name.lower().endswith(_TEXT_SUFFIXES) else name

    def is_ours(self, row: Fields) -> bool:
        """Return whether a file in the account was uploaded for this store by a mirror with this prefix."""
        match = _TAGGED.search(row.text("filename"))
        return match is not None and match[1] == _hash_tag(self.store, self.prefix, row.get("bytes"))

    def is_of(self, document: Outgoing, row: Fields) -> bool:
        """Return whether a file in the account comes from this upload."""
        return self._tags(document) in row.text("filename") and row.get("bytes") == document.size

    def is_alike(self, row: Fields, other: Fields) -> bool:
        """Return whether two files in the account may have the same text, because they have the same length
        or are versions of one file.
        """
        plain = [_TAGGED.sub("", row.text("filename")) for row in (row, other)]
        is_version = plain[0] == plain[1] and self.is_ours(row) and self.is_ours(other)
        return is_version or row.get("bytes") == other.get("bytes")

    def _tags(self, document: Outgoing) -> str:
        own_tag = _hash_tag(self.store, self.prefix, document.size)
        return own_tag + _hash_tag(document.upload_id, document.digest)


# -- errors
_QUOTA = frozenset({"insufficient_quota", "billing_hard_limit_reached", "billing_not_active"})
_NO_SUCH = re.compile(r"not found|no such|does not exist|must match format", re.IGNORECASE)
_NO_CALL = re.compile(r"\A\s*(?:invalid url|not found\Z)", re.IGNORECASE)
_LACKS_MODEL = re.compile(rf"(?=.*\bmodel\b).*(?:{_NO_SUCH.pattern})", re.IGNORECASE | re.DOTALL)
_SCOPE_HINT = "give the key access to files and vector stores"
_STORE_FULL = re.compile(
    r"maximum number of files|(?:file|document)s? (?:count )?limit|"
    r"\bstorage\b.{0,30}\b(?:quota|limit|exceeded|exhausted|full)\b|"
    r"\bexceed(?:s|ed|ing)?\b.{0,60}\bstorage\b",
    re.IGNORECASE,
)
_OF_A_REQUEST = re.compile(f"{rules.BUSY.pattern}|{rules.ONE_DOCUMENT.pattern}", re.IGNORECASE)
_FULL_CODES = frozenset({"storage_quota_exceeded", "storage_limit_exceeded", "file_limit_exceeded"})
_ROOM_HINT = (
    "delete files from the project or vector store, or get more space; a store holds 10,000 files on OpenAI"
)
_BASE_URL_HINT = "correct base_url, which includes the version path, such as /v1"
_STORING = frozenset({"upload", "attach"})


RULES: tuple[ErrorRule, ...] = (
    # The service's page of error codes: an empty account is a 429, like too many requests.
    rules.no_quota(code=_QUOTA, hint="check the plan and billing of the account"),
    # A full store or project refuses every document, so no document is to blame. Messages about limits of
    # requests or of one file are similar.
    rules.no_quota(
        call=_STORING, status=range(400, 500), pattern=_STORE_FULL, unless=_OF_A_REQUEST, hint=_ROOM_HINT
    ),
    # The same in the error's code.
    rules.no_quota(code=_FULL_CODES, hint=_ROOM_HINT),
    # An error in the body counts even under HTTP 200 (promise 10).
    ErrorRule(Unavailable, status=rules.SUCCESS, reported=True),
    # OGX: the request for an answer names a model that the server lacks.
    ErrorRule(Rejected, call={rules.CHAT}, status={400, 404}, pattern=_LACKS_MODEL, as_code="model"),
    # OGX: its embedding model is unavailable, which is no document's fault.
    ErrorRule(Unavailable, status={400, 404}, pattern=_LACKS_MODEL, as_code="model"),
    # A message for a path that the server doesn't have, which says nothing about a store or file.
    ErrorRule(NotOffered, status={404}, pattern=_NO_CALL, hint=_BASE_URL_HINT),
    # OGX responds to this call with an empty body.
    ErrorRule(None, status={204}, call={PUT_BACK}),
    # OpenAI: no such store or file.
    ErrorRule(Rejected, status={404}, when=lambda case: bool(case.message), as_code=rules.GONE),
    # OGX: no such store or file.
    ErrorRule(Rejected, status={400}, pattern=_NO_SUCH, as_code=rules.GONE),
    # The key has restricted rights.
    rules.no_access(status={403}, pattern=rules.PERMISSION, hint=_SCOPE_HINT),
)
"""The service's rules; the common rules come after them. For a missing object, OpenAI returns 404 and OGX
returns 400.
"""


def classify_response(response: HttpResponse) -> TargetError | None:
    """Classify a response. Return None if the HTTP status and the envelope both report success."""
    body = response.fields
    error = body.object("error")
    code, kind = error.text("code"), error.text("type")
    case = case_of(
        response,
        codes={code, kind} - {""},
        code=next((value for value in (code, kind) if value in _QUOTA), code),
        message=error.text("message") or body.text("error") or body.text("detail"),
        is_error=bool(body.get("error")),
    )
    return classify(case, RULES)
