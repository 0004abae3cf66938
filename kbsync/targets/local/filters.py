"""Which documents a search may find."""

from __future__ import annotations

import apsw

from kbsync.contract.searching import Query
from kbsync.errors import UsageError
from kbsync.state.connection import unbind


def allowed(connection: apsw.Connection, query: Query) -> set[int] | None:
    """The ids of the documents that `query` admits; None: all. Raises `UsageError` for a bad pattern."""
    if query.path is None and not query.types and query.after is None:
        return None
    after = float("-inf") if query.after is None else query.after
    rows = connection.execute("SELECT id, path FROM document WHERE modified >= ?", (after,))
    paths = {document: unbind(path) for document, path in rows}
    return _of_types(_matching(paths, query.path), query.types)


def _matching(paths: dict[int, str], pattern: str | None) -> dict[int, str]:
    """Those that the gitignore pattern selects."""
    if pattern is None:
        return paths
    import pathspec

    try:
        spec = pathspec.GitIgnoreSpec.from_lines([pattern])
    except ValueError as error:
        raise UsageError(f"--path {pattern!r} is not a gitignore pattern: {error}") from error
    return {document: path for document, path in paths.items() if spec.match_file(path)}


def _of_types(paths: dict[int, str], types: tuple[str, ...]) -> set[int]:
    """Those with one of the extensions; without types all."""
    endings = tuple(f".{each.lower().lstrip('.')}" for each in types)
    return {document for document, path in paths.items() if not types or path.lower().endswith(endings)}
