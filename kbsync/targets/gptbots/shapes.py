"""Parses the service's responses, reads and writes our marker in its documents, and classifies its errors,
without I/O.

Parsers ignore unknown fields and return None for an unexpected shape. A success has no envelope; a failure is
`{"code": 40000, "message": "…"}` under any HTTP status. The marker is in `source_url`, the only field that we
can set and that lists return: `https://kbsync.invalid/guides/intro.md#sha256=…&u=12&r=t600&w=1699843200`
contains the path, the digest, the upload and the recipe, and for an update the document's previous
`update_time`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any
from urllib.parse import quote, unquote_to_bytes

from kbsync.contract.searching import Passage
from kbsync.contract.target import BaseCard
from kbsync.core.names import Naming
from kbsync.core.text import number_in
from kbsync.dataclass import dataclass
from kbsync.errors import NotOffered, Rejected, TargetError, Unavailable, Unsure
from kbsync.targets.http import reading, rules
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.http.reading import DocumentRow, Fields, ListPage, Match
from kbsync.targets.http.rules import ErrorCase, ErrorRule, case_of, classify


@dataclass(frozen=True, slots=True)
class MarkedRow(DocumentRow):
    """A row of the list.

    `updated`: its `update_time` in whole seconds, or 0 if unknown. `is_through`: whether the version in
    the marker is stored. That is the case if the marker came with a new document, or if the document has
    changed since the marker was written.
    """

    updated: int = 0
    is_through: bool = True


_LISTS = ("list", "data", "data.list")
"""Where a response's list is if the response isn't the list itself, depending on the version."""


def bases_of(body: Any) -> ListPage[BaseCard] | None:
    """Return the bases in a response.

    Depending on the version, they are in `knowledge_base`, `data` or `data.list`.
    """
    return reading.page_in(reading.list_at(body, "knowledge_base", *_LISTS), None, _base)


@reading.row_reader
def _base(row: Fields) -> BaseCard:
    return BaseCard(row["id"], row.text("name"), row.text("desc"), documents=row.count("doc"))


def page_of(body: Any, base: str, prefix: str) -> ListPage[MarkedRow] | None:
    """Parse a page of documents.

    All markers are URLs below `base`; those of this mirror are below `prefix`.
    """
    # A count of 0 doesn't prove that the list is empty: check that the base exists (promise 1).
    total = reading.object_of(body).count("total") or None
    read = reading.row_reader(partial(_row, base, prefix))
    return reading.page_in(reading.list_at(body, *_LISTS), total, read)


def _row(base: str, prefix: str, fields: Fields) -> MarkedRow:
    """Parse a row of the list. The path comes from the row's marker or, failing that, from its name.

    The list doesn't include states. A row under a different prefix or URL isn't a file of this mirror, but
    may be an earlier upload of such a file.
    """
    remote_id, url = fields["id"], fields.text("source_url")
    name, extension = fields.text("name"), fields.text("format")
    # some versions return the name without its extension, and the extension in `format`
    if extension and not name.lower().endswith(f".{extension.lower()}"):
        name = f"{name}.{extension}"
    created, updated = fields.seconds("create_time"), int(fields.seconds("update_time") or 0)
    marker = read_marker(base, url)
    if marker is None:
        # A document with a different URL isn't ours, whatever its name (promise 6).
        parsed = None if url else Naming(prefix, "plain").read_mangled(name)
        path, marker = parsed.path if parsed else None, Marker("")
    else:
        path = reading.path_below(prefix, marker.path)
    is_through = marker.was is None or updated not in (0, marker.was)
    about = path, marker.digest, marker.upload_id, marker.recipe
    row = remote_id, marker.path or name, None, created, rules.UNKNOWN, *about
    return MarkedRow(*row, updated=updated, is_through=is_through)


def states_of(body: Any) -> Mapping[str, str] | None:
    """Return `data_status` by id, in uppercase. A missing status is ""."""
    rows = reading.list_at(body, *_LISTS, "doc")
    if rows is None:
        return None
    return {
        remote_id: row.text("data_status").strip().upper()
        for row in reading.objects_in(rows)
        if (remote_id := row.id("data_id"))
    }


def matches_of(body: Any) -> tuple[Match, ...] | None:
    """Return the passages that a search found, each with its document's id, or None if the shape is
    unexpected.
    """
    return reading.matches_in(reading.list_at(body, *_LISTS), _match)


def _match(row: Fields) -> tuple[object, Passage]:
    return row.get("data_id"), Passage(row.text("content"), score=row.number("score") or 0.0)


_FRAGMENT = re.compile(
    r"sha256=(?P<digest>[0-9a-f]{64})&u=(?P<upload>[0-9]{1,18})&r=(?P<recipe>[A-Za-z0-9]{1,40})"
    r"(?:&w=(?P<was>[0-9]{1,12}))?"
)
_ESCAPES = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")


@dataclass(frozen=True, slots=True)
class Marker:
    """The content of a marker.

    `path` includes the mirror's prefix. Without `digest`, the other fields are missing, too. A marker without
    `path` is under a different URL: it belongs to another mirror, or to ours before its settings changed.
    `was`: the document's `update_time` (whole seconds) before the update that wrote the marker, or None if
    the marker was written with the new document.
    """

    path: str
    digest: str | None = None
    upload_id: int | None = None
    recipe: str | None = None
    was: int | None = None


def write_marker(base: str, marker: Marker) -> str:
    """Return the marker's URL. It is ASCII and well formed for any path."""
    was = "" if marker.was is None else f"&w={marker.was}"
    rest = f"sha256={marker.digest}&u={marker.upload_id}&r={marker.recipe}{was}"
    return f"{base.rstrip('/')}/{quote(marker.path.encode('utf-8', 'surrogateescape'))}#{rest}"


def read_marker(base: str, url: str) -> Marker | None:
    """Parse a marker's URL.

    Return None for a URL that isn't ours. If the fragment is damaged, only the path is set.
    """
    where, _, rest = url.partition("#")
    written = where.removeprefix(base.rstrip("/") + "/")
    is_below = written != where and _ESCAPES.fullmatch(written) is not None
    path = unquote_to_bytes(written).decode("utf-8", "surrogateescape") if is_below else ""
    fragment = _FRAGMENT.fullmatch(rest)
    if fragment is None:
        return Marker(path) if path else None
    was = None if fragment["was"] is None else int(fragment["was"])
    return Marker(path, fragment["digest"], int(fragment["upload"]), fragment["recipe"], was)


TOO_MANY = "40332"

_BOT_GONE, _WRONG_KEY, INVALID = "20059", "40127", "40000"
_QUOTA = re.compile(r"\bquota\b|配额|额度", re.IGNORECASE)


_REGION_HINT = "check api_key, and check that base_url is for the key's region (sg, jp or th)"
_BOT_HINT = (
    "the bot's knowledge bases were deleted with it; set another bot's api_key and knowledge_base_id in "
    "the config"
)
_CREDITS_HINT = "check the account's credits in the service's console"
_RIGHTS_HINT = "check api_key and its permissions"


def classify_response(response: HttpResponse) -> TargetError | None:
    """Classify a response. Return None on success."""
    body = response.fields
    # An error is flat, or inside `error`, which may be a text; 0 means success.
    source = body.object("error") or body
    no_code = "0" if body.get("error") is None else ""
    code = number_in(source.id("code") or no_code)  # the documentation has only numbers
    case = case_of(response, code=str(code or ""), is_error=code != 0)
    return classify(case, RULES, partial(rules.describe_answer, sentences=SENTENCES))


def _leaves_open(case: ErrorCase) -> bool:
    """Return whether the outcome is unknown.

    True if the error has no numeric code, has the code 200, or comes from a server or gateway.
    """
    number = number_in(case.code)
    is_vague = number is None or number >= 50000 or number in range(500, 600) or number == 200
    return case.is_error and (is_vague or case.status in rules.SERVER_ERROR)


def _refuses(case: ErrorCase) -> bool:
    """Return whether the service refused the request without doing anything."""
    return case.is_error and (case.status in (401, 403) or not _leaves_open(case))


RULES: tuple[ErrorRule, ...] = (
    # Documented; also returned for a key from a different region.
    rules.no_access(code={_WRONG_KEY}, hint=_REGION_HINT),
    # Documented.
    rules.no_base(code={_BOT_GONE}, hint=_BOT_HINT),
    # The codes of an empty account are undocumented; only the message shows it, regardless of code and
    # status.
    rules.no_money(reported=True, says="the account has no credits left", hint=_CREDITS_HINT),
    # Documented: a wrong parameter or file, or more files than one request accepts.
    ErrorRule(Rejected, code={INVALID, TOO_MANY}),
    # RFC 6585, as the status with any code, or as the code.
    rules.slow_down(reported=True, when=lambda case: 429 in (case.status, number_in(case.code))),
    # Not documented, and the same everywhere.
    ErrorRule(Unavailable, code={"408"}),
    # A missing route, unless the body has a more specific code.
    ErrorRule(
        NotOffered,
        status={404, 405, 501},
        reported=True,
        when=lambda case: number_in(case.code) in (None, case.status),
    ),
    # Any message about a busy service, regardless of the status.
    rules.slow_down(pattern=rules.BUSY, when=_refuses),
    # A quota, unless it limits requests.
    rules.no_quota(pattern=_QUOTA, unless=rules.BUSY, reported=True, hint=_CREDITS_HINT),
    # Full.
    rules.no_room(when=_refuses),
    # The key lacks rights, in the service's own body; "insufficient" may also mean credits.
    rules.no_access(pattern=rules.PERMISSION, reported=True, hint=_RIGHTS_HINT),
    # May be about one document only.
    ErrorRule(Rejected, status={403}, reported=True, when=lambda case: case.is_of_document, may_pass=True),
    # In the service's own body, not a firewall's page.
    rules.no_access(status={401, 403}, reported=True, hint=_RIGHTS_HINT),
    # 50000 and unknown codes: the request may have been carried out.
    ErrorRule(Unsure, when=_leaves_open),
    # Any other code is a failure, regardless of the status.
    ErrorRule(Rejected, reported=True),
)
"""The service's rules, in order; the common rules come after them.

Only five codes are documented, and the message and the status are more reliable.
"""


SENTENCES = {
    _WRONG_KEY: "the service does not recognize the API key",
    _BOT_GONE: "the bot was deleted",
    INVALID: "part of the request is invalid",
    TOO_MANY: "too many documents in one request",
    "50000": "the service had an internal error",
    "408": "the request timed out",
    "429": "too many requests",
}
"""The meanings of the known codes."""
