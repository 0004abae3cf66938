"""The calls that read and remove, for stores and files alike: what is not there is no error."""

from __future__ import annotations

import itertools
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from kbsync.errors import Halted, NotOffered, Rejected, TargetError, Unavailable
from kbsync.targets.http.client import Client
from kbsync.targets.http.reading import PAGE_SIZE, object_of, well_formed
from kbsync.targets.openai.shapes import GONE, page_of


class OpenaiApi:
    """What is behind one key. Every call raises `TargetError`."""

    def __init__(self, client: Client, address: str) -> None:
        self.client, self.address = client, address

    async def read(self, op: str, path: str) -> Mapping[str, Any] | None:
        """One object; None: it is not there."""
        try:
            answer = await self.client.ask(op, "GET", path)
        except Rejected as error:
            if error.code == GONE:
                return None
            raise
        return object_of(answer.body)

    async def remove(self, op: str, path: str) -> bool:
        """Whether it was there. Raises `Unavailable` where the answer does not say that it is gone."""
        try:
            answer = await self.client.ask(op, "DELETE", path)
        except Rejected as error:
            if error.code == GONE:
                return False
            raise
        is_deleted = object_of(answer.body).get("deleted") is True
        return well_formed(op, True if is_deleted else None)

    async def rows(
        self, op: str, path: str, pages: int = 0, **params: str
    ) -> AsyncGenerator[Mapping[str, Any], None]:
        """Every object of a list once, the newest first; `pages`: of so many pages at most, 0: of all."""
        seen: set[str] = set()
        params = {"limit": str(PAGE_SIZE), "order": "desc", **params}
        for number in itertools.count(1):
            try:
                rows, after = page_of(await self.client.ask(op, "GET", path, params=params))
            except Rejected as error:
                if error.code == GONE and "after" not in params:
                    raise self.no_store(path) from None
                raise Unavailable(error.reason, code=error.code) from error
            fresh = [row for row in rows if row["id"] not in seen]
            seen.update(row["id"] for row in fresh)
            for row in fresh:
                yield row
            if not after or number == pages:
                return
            # OGX begins anew where the document at the end of a page was deleted meanwhile.
            if not fresh:
                raise Unavailable(f"{op}: a page brings nothing new, and is not the last", code="list")
            params["after"] = after

    def no_store(self, path: str, why: str = "is not there") -> TargetError:
        """The halt of a mirror whose store cannot be used; the error of an address that has no stores."""
        _, first, *rest = path.split("/")
        if not rest:
            said = (
                f"{self.address} has no /{first}; correct base_url: the version path, such as /v1, is in it"
            )
            return NotOffered(said, code=GONE)
        return Halted(
            "knowledge-base-missing",
            f"vector store {rest[0]} {why}, for this api_key at {self.address}; "
            "correct vector_store_id, api_key or base_url in the config",
        )
