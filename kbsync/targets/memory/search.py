"""Search by substring: enough to ask whether a document is searchable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kbsync.contract.searching import Hit, Passage, Query
from kbsync.targets.memory.documents import Content, Document
from kbsync.targets.memory.strict import extension


def find(documents: Iterable[Document], query: Query) -> Sequence[Hit]:
    """The `query.top_k` documents that contain `query.text` most often, whatever its case."""
    hits = [_hit(d, d.shown, query) for d in documents if d.shown is not None and _fits(d.shown, query)]
    hits.sort(key=lambda hit: (-hit.score, hit.path or "", hit.remote_id))
    return hits[: query.top_k]


def _fits(content: Content, query: Query) -> bool:
    if query.types and extension(content.path) not in query.types:
        return False
    if query.after is not None and content.mtime < query.after:
        return False
    return query.text.casefold() in content.text.casefold() and _is_below(content.path, query.path)


def _is_below(path: str, pattern: str | None) -> bool:
    if pattern is None:
        return True
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines([pattern]).match_file(path)


def _hit(document: Document, content: Content, query: Query) -> Hit:
    text = content.text
    found = text.casefold().count(query.text.casefold())
    line = text.casefold().partition(query.text.casefold())[0].count("\n") + 1
    passage = Passage(text[:2000], line=line, score=float(found))
    return Hit(document.remote_id, float(found), (passage,), path=content.path, modified=content.mtime)
