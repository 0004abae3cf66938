"""Builds the metadata of a document for services that store it: the path, and the tags from the front
matter.
"""

from __future__ import annotations

from typing import Any

from kbsync.contract.target import Outgoing
from kbsync.core.text import extension_of

_WITH_TAGS = frozenset({"md", "mdx", "markdown"})
_TAG_KEYS = ("tags", "tag", "keywords")
_MAX_FRONT_MATTER_BYTES = 8192
_MAX_TAGS, _MAX_TAG_LENGTH = 20, 100


def metadata_of(document: Outgoing, prefix: str) -> dict[str, Any]:
    """Return a document's metadata: its `path` with the mirror's prefix, and `tags` if its front matter has
    any.
    """
    # JSON can't hold a file name's undecodable bytes.
    path = (prefix + document.path).encode("utf-8", "replace").decode()
    fields: dict[str, Any] = {"path": path}
    if extension_of(document.path) in _WITH_TAGS:
        with document.body.open() as stream:
            tags = tags_in(stream.read(_MAX_FRONT_MATTER_BYTES).decode("utf-8", "replace"))
        fields |= {"tags": tags} if tags else {}
    return fields


def tags_in(text: str) -> list[str]:
    """Return the tags in front matter, which may list them on one line or on several. If the front matter has
    no end, return no tags.

    This reads the front matter line by line, because kbsync parses a document's YAML only in the sandbox and
    this function runs outside it.
    """
    first, *lines = text.removeprefix("\ufeff").splitlines() or [""]
    if first.rstrip() != "---":
        return []
    tags: list[str] = []
    is_in_list = False
    for line in lines:
        if line.rstrip() in ("---", "..."):
            cleaned = (tag.strip(" \t\"'#")[:_MAX_TAG_LENGTH] for tag in tags)
            return list(dict.fromkeys(tag for tag in cleaned if tag))[:_MAX_TAGS]
        item = line.lstrip()
        if is_in_list and item.startswith("- "):
            tags.append(item[2:])
            continue
        key, colon, value = line.partition(":")
        is_in_list = bool(colon) and key.lower() in _TAG_KEYS
        if is_in_list:
            tags += value.strip().removeprefix("[").removesuffix("]").split(",")
    return []
