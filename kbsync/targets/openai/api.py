"""Calls that read and delete vector stores and files.

A missing object isn't an error. Every call may raise `TargetError`.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator

from kbsync.errors import NotOffered, Rejected, Unavailable
from kbsync.targets.http.client import Client
from kbsync.targets.http.reading import PAGE_SIZE, Fields, require_id
from kbsync.targets.http.rules import GONE, require_parsed, unless_gone
from kbsync.targets.openai.shapes import page_of


async def read(client: Client, op: str, path: str) -> Fields | None:
    """Return the object at `path`, which ends with its id, or None if it doesn't exist."""
    response = await unless_gone(client.request(op, "GET", path))
    if response is None:
        return None
    require_id(op, response.fields.id("id"), path.rpartition("/")[2])
    return response.fields


async def remove(client: Client, op: str, path: str) -> bool:
    """Delete an object.

    Return whether it existed. Raises `Unavailable` if the response doesn't confirm the deletion.
    """
    response = await unless_gone(client.request(op, "DELETE", path))
    if response is None:
        return False
    require_parsed(response, response.fields.get("deleted") is True or None)
    return True


async def rows(
    client: Client, op: str, path: str, pages: int = 0, **params: str
) -> AsyncGenerator[Fields, None]:
    """Yield every object in a list once, newest first, or nothing if its store doesn't exist.

    `pages`: the maximum number of pages; 0 means all.
    """
    listed_ids: set[str] = set()
    params = {"limit": str(PAGE_SIZE), "order": "desc", **params}
    for number in itertools.count(1):
        try:
            rows, after = page_of(await client.request(op, "GET", path, params=params))
        except NotOffered:
            raise
        except Rejected as error:
            if error.code == GONE and number == 1:
                return
            raise Unavailable(error.reason, code=error.code) from error
        fresh = [row for row in rows if row["id"] not in listed_ids]
        listed_ids.update(row["id"] for row in fresh)
        for row in fresh:
            yield row
        if not after or number == pages:
            return
        # OGX restarts the list if someone has deleted the last document of a page in the meantime.
        if not fresh:
            raise Unavailable(f"{op}: a page has no new rows, but isn't the last page", code="list")
        params["after"] = after
