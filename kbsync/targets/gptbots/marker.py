"""Our marker in `source_url`, the one field of a document that is ours and comes back in lists. Pure.

`https://kbsync.invalid/guides/intro.md#sha256=…&u=12&r=t600&w=1699843200`: where the file is, which bytes,
which upload, by which recipe, and for an update the document's `update_time` from before it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote, unquote_to_bytes

_FRAGMENT = re.compile(
    r"sha256=(?P<digest>[0-9a-f]{64})&u=(?P<upload>[0-9]{1,18})&r=(?P<recipe>[A-Za-z0-9]{1,40})"
    r"(?:&w=(?P<was>[0-9]{1,12}))?"
)
_ESCAPES = re.compile(r"(?:[^%]|%[0-9A-Fa-f]{2})*")


@dataclass(frozen=True, slots=True)
class Marker:
    """What a marker says. `path` has the mirror's prefix before it; without `digest` the rest is lost.

    Without `path` it is one under another address: of another mirror, or of ours before its settings changed.

    `was`: `update_time` (whole seconds) before the update that wrote it; None: it came with the document.
    """

    path: str
    digest: str | None = None
    upload_id: int | None = None
    recipe: str | None = None
    was: int | None = None


def write(base: str, marker: Marker) -> str:
    """The URL: ASCII, well formed, whatever the path."""
    was = "" if marker.was is None else f"&w={marker.was}"
    rest = f"sha256={marker.digest}&u={marker.upload_id}&r={marker.recipe}{was}"
    return f"{base.rstrip('/')}/{quote(marker.path.encode('utf-8', 'surrogateescape'))}#{rest}"


def read(base: str, url: str) -> Marker | None:
    """What `url` says; None where it is none of ours. A damaged fragment leaves the path."""
    where, _, rest = url.partition("#")
    path = _path(base, where)
    told = _FRAGMENT.fullmatch(rest)
    if told is None:
        return Marker(path) if path else None
    was = None if told["was"] is None else int(told["was"])
    return Marker(path, told["digest"], int(told["upload"]), told["recipe"], was)


def _path(base: str, where: str) -> str:
    """Empty where the address is under another base."""
    written = where.removeprefix(base.rstrip("/") + "/")
    if written == where or not _ESCAPES.fullmatch(written):
        return ""
    return unquote_to_bytes(written).decode("utf-8", "surrogateescape")
