"""Prepares a document for the web page: its text in parts, and links that open its file on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_from_bytes

from starlette.requests import Request

from kbsync.config.target import is_loopback
from kbsync.engine.explain import PathExplanation
from kbsync.engine.status import may_succeed
from kbsync.file_systems import access_within
from kbsync.search import find_passage
from kbsync.server.auth import host_of

PART = 50_000
"""Length of one part of a document's text, in characters."""

LEAD = 1500
"""Number of characters of context to show before a passage."""

CHECK_SECONDS = 0.5
"""Maximum number of seconds to wait for a folder."""

FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "via")


def part_of(explanation: PathExplanation, offset: int, before: int, passage: str) -> dict[str, Any]:
    """Return a part of the text, and why searches do or don't find the document.

    The part begins at `offset` or, if the text contains the `passage`, shortly before it; with `before`, it
    ends there. `mark`: start and end of the passage in the whole text; `next`: the offset of the following
    part. `text` is None if the knowledge base can't return it. `may_succeed`: it failed, and a retry may
    succeed without a change.
    """
    text, mark = explanation.text or "", None
    if passage and (mark := find_passage(passage, text)) is not None:
        lead = max(0, mark[0] - LEAD)
        offset = text.rfind("\n", 0, lead) + 1 if lead else 0
        offset = offset if lead - offset < LEAD else lead
    elif before:
        offset = max(0, before - PART)
    end = min(len(text), before if before and mark is None else offset + PART)
    entry = explanation.entry
    return {
        "mirror": explanation.mirror,
        "path": explanation.path,
        "state": None if entry is None else entry.status.word,
        "may_succeed": entry is not None and may_succeed(entry, explanation.uploads),
        "found": explanation.is_found,
        "answer": explanation.answer,
        "sentences": list(explanation.sentences),
        "text": None if explanation.text is None else text[offset:end],
        "offset": min(offset, len(text)),
        "total": len(text),
        "next": end if end < len(text) else None,
        "mark": mark,
    }


def is_from_this_machine(request: Request) -> bool:
    """Return whether the browser is on this machine, as far as the request shows.

    There must be no proxy, and both ends must have loopback addresses.
    """
    is_proxied = any(name in request.headers for name in FORWARDED)
    client = "" if request.client is None else request.client.host
    return not is_proxied and is_loopback(client) and is_loopback(host_of(request.headers.get("host", "")))


def is_vault(folder: Path) -> bool:
    """Return whether the folder is an Obsidian vault, or False if it doesn't respond in time."""
    try:
        return access_within(folder, (folder / ".obsidian").is_dir, CHECK_SECONDS)
    except OSError:
        return False


def links_to(folder: Path, path: str, *, in_vault: bool) -> dict[str, str]:
    """Return the URLs that open the file at `path` in a mirror's folder.

    `in_vault`: whether the folder is an Obsidian vault.
    """
    absolute = folder / path
    links = {"file": f"file://{quote_from_bytes(bytes(absolute))}"}
    if in_vault and path.endswith(".md") and str(absolute).isprintable():
        links["obsidian"] = f"obsidian://open?path={quote(str(absolute), safe='')}"
    return links
