"""Knowledge bases of several kinds, each with a way to see whatever it holds of ours."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from kbsync_standin.zhipu import HOME_ID
from tests.cli.vendor import KEY, ZhipuStandIn
from tests.postgres.server import Server

Documents = list[tuple[str, str]]
"""Path and SHA-256 of every document, those of one path too."""


@dataclass(frozen=True)
class KnowledgeBase:
    """`target`: what a config says to lead there. `documents`: what a base holds under a prefix."""

    target: dict[str, Any]
    documents: Callable[[str], Documents]


def files_of(folder: Path, prefix: str = "") -> Documents:
    """What a knowledge base has to hold that mirrors this folder."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return sorted(
        (prefix + str(file.relative_to(folder)), hashlib.sha256(file.read_bytes()).hexdigest())
        for file in files
    )


@contextmanager
def local(folder: Path) -> Iterator[KnowledgeBase]:
    def documents(_: str) -> Documents:
        with apsw.Connection(str(folder / "index.db"), flags=apsw.SQLITE_OPEN_READONLY) as connection:
            return sorted(connection.execute("SELECT path, digest FROM document"))

    yield KnowledgeBase({"type": "local", "path": str(folder)}, documents)


@contextmanager
def postgres(server: Server) -> Iterator[KnowledgeBase]:
    database = server.database()

    def documents(prefix: str) -> Documents:
        sql = "SELECT prefix || shown, digest FROM kbsync.document d JOIN kbsync.owner o ON o.id = d.owner"
        return sorted(row for row in server.run(database, sql) if row[0].startswith(prefix))

    yield KnowledgeBase({"type": "postgres", "dsn": server.dsn(database)}, documents)


@contextmanager
def zhipu() -> Iterator[KnowledgeBase]:
    from kbsync.core.names import Naming

    vendor = ZhipuStandIn()
    vendor.arrive()

    def documents(prefix: str) -> Documents:
        found = vendor.digests(Naming(prefix))
        return sorted((prefix + path, one) for path, digests in found.items() for one in digests)

    block = {"api_key": KEY, "knowledge_id": HOME_ID, "base_url": f"{vendor.url}/api"}
    quickly = {"poll_first": "50ms", "poll_longest": "300ms", "reembed_tries": 1, "absent_after": "2s"}
    try:
        yield KnowledgeBase({"type": "zhipu", **block, "vectorization": quickly}, documents)
    finally:
        assert vendor.violations() == []
        vendor.leave()
