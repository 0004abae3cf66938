"""The example service as a target of the mirror. It keeps our marks, and indexes after it has responded."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from kbsync.contract.searching import Passage, Query
from kbsync.contract.target import Accepted, Base, DocState, DocStatus, Limits, Outgoing
from kbsync.errors import Halted, Rejected, TargetError
from kbsync.targets.http.errors import HttpResponse
from kbsync.targets.http.reading import DocumentRow, ListPage, created_id
from kbsync.targets.http.rules import GONE, ErrorRule, case_of, classify
from kbsync.targets.http.target import ServiceTarget
from tests.targets.example.config import ExampleTargetConfig

_STATES = {"indexing": DocState.INDEXING, "ready": DocState.READY, "failed": DocState.FAILED}


# -- errors
RULES = (
    # The manual: the base was deleted.
    ErrorRule(Halted, code={"no_such_base"}, halt="knowledge-base-missing", hint="correct target.base"),
    # The manual: under any status.
    ErrorRule(Halted, code={"no_credit"}, halt="quota", hint="top up the account"),
    # The manual: the base exists, the document doesn't.
    ErrorRule(Rejected, code={"no_such_document"}, as_code=GONE),
    # Any other code is a refusal.
    ErrorRule(Rejected, reported=True),
)


def classify_response(response: HttpResponse) -> TargetError | None:
    """Return the error for a service code; responses without one are classified by words and HTTP status."""
    code = response.fields.text("error")
    case = case_of(response, code=code, message=code.replace("_", " "), is_error=bool(code))
    return classify(case, RULES)


# -- target
class ExampleTarget(ServiceTarget[DocumentRow]):
    """One knowledge base."""

    _config: ExampleTargetConfig
    classify_response = staticmethod(classify_response)
    only_recipe = "1"
    takes = Limits(frozenset({"md", "txt", "pdf"}), max_bytes=3_000_000, list_lag=0.0, marks=True)

    def prepare(self) -> None:
        """Set its URLs."""
        self._base = f"/v1/bases/{self._config.base}"
        self._documents = f"{self._base}/documents"

    async def base(self) -> Base:
        """Check the base. Raises `Halted("knowledge-base-missing")`."""
        response = await self._client.request("base", "GET", self._base)
        return Base(response.body["id"], response.body["documents"], self._config.base_url)

    async def upload(self, document: Outgoing) -> Accepted:
        """Send it with its mark; the engine deletes the replaced document once this one is searchable."""
        mark = [document.name, document.path, document.digest, document.upload_id, document.recipe]
        path = f"{self._documents}?mark={quote(json.dumps(mark))}"
        return Accepted(await self._send_file(path, document, created_id, name=document.digest))

    async def page(self, number: int, size: int) -> ListPage[DocumentRow]:
        """Return a page, newest first."""
        params = {"page": str(number), "size": str(size)}
        response = await self._client.request("list", "GET", self._documents, params=params)
        return ListPage(tuple(map(_row, response.body["documents"])), response.body["total"])

    async def row(self, remote_id: str) -> DocumentRow:
        """Return the document's detail."""
        return _row((await self._client.request("status", "GET", f"{self._documents}/{remote_id}")).body)

    async def remove(self, remote_id: str) -> None:
        """Delete it."""
        await self._client.request("delete", "DELETE", f"{self._documents}/{remote_id}")

    async def matches(self, query: Query) -> Iterable[tuple[str, Passage]]:
        """Return the fifty best passages."""
        body = {"query": query.text, "limit": 50}
        response = await self._client.request("search", "POST", f"{self._base}/search", json=body)
        rows = response.body["passages"]
        return [(row["document"], Passage(row["text"], score=row["score"])) for row in rows]


def _row(item: Mapping[str, Any]) -> DocumentRow:
    """Return a document's row. An unknown status is never "ready"; a document without our mark isn't ours."""
    status = DocStatus(_STATES.get(item["state"], DocState.UNKNOWN), item.get("reason", ""))
    about = item["size"], item["created"], status
    try:
        name, path, digest, upload_id, recipe = json.loads(item["mark"])
    except (ValueError, TypeError):
        return DocumentRow(item["id"], item["mark"], *about)
    return DocumentRow(item["id"], name, *about, path, digest, upload_id, recipe)
