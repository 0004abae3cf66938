"""Knowledge bases of several kinds, each with a function that lists all documents of ours in it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import apsw

from kbsync_standin import server as standin
from tests.cli.zhipu import ZhipuStandIn
from tests.postgres.server import Server
from tests.services import access

Documents = list[tuple[str, str]]
"""Path and SHA-256 of every document, several for one path included."""


@dataclass(frozen=True)
class KnowledgeBase:
    """A base. `target`: its config. `documents`: returns its documents with a prefix."""

    target: dict[str, Any]
    documents: Callable[[str], Documents]


def files_of(folder: Path, prefix: str = "") -> Documents:
    """Return the documents that a base must have if it mirrors this folder."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return sorted(
        (prefix + str(file.relative_to(folder)), hashlib.sha256(file.read_bytes()).hexdigest())
        for file in files
    )


def documents_in(folder: Path) -> Documents:
    """Return the documents of a built-in base in this folder."""
    if not (folder / "index.db").exists():
        return []
    with apsw.Connection(str(folder / "index.db"), flags=apsw.SQLITE_OPEN_READONLY) as connection:
        if not connection.table_exists(None, "document"):  # kbsync was killed before it created the tables
            return []
        return sorted(connection.execute("SELECT path, digest FROM document"))


@contextmanager
def local(folder: Path) -> Iterator[KnowledgeBase]:
    yield KnowledgeBase({"type": "local", "path": str(folder)}, lambda _: documents_in(folder))


@contextmanager
def in_state(config: Path) -> Iterator[KnowledgeBase]:
    """Yield the base of a config's first mirror in the state directory."""

    def documents(_: str) -> Documents:
        settings = json.loads(config.read_text())
        return documents_in(Path(settings["state_dir"]) / "kb" / settings["mirrors"][0]["name"])

    yield KnowledgeBase({"type": "local"}, documents)


@contextmanager
def postgres(server: Server) -> Iterator[KnowledgeBase]:
    yield of_database(server, server.database())


def of_database(server: Server, database: str) -> KnowledgeBase:
    def documents(prefix: str) -> Documents:
        if not server.run(database, "SELECT to_regclass('kbsync.document')")[0][0]:
            return []
        sql = "SELECT prefix || shown, digest FROM kbsync.document d JOIN kbsync.owner o ON o.id = d.owner"
        return sorted(row for row in server.run(database, sql) if row[0].startswith(prefix))

    return KnowledgeBase({"type": "postgres", "dsn": server.dsn(database)}, documents)


@contextmanager
def zhipu() -> Iterator[KnowledgeBase]:
    from kbsync.core.names import Naming

    service = ZhipuStandIn()
    service.arrive()

    def documents(prefix: str) -> Documents:
        result = service.digests(Naming(prefix))
        return sorted((prefix + path, digest) for path, digests in result.items() for digest in digests)

    quickly = {"poll_first": "50ms", "poll_longest": "300ms", "reembed_tries": 1, "absent_after": "2s"}
    try:
        target = access.settings(service.server.app, service.url, key=service.key)
        yield KnowledgeBase({**target, "vectorization": quickly}, documents)
    finally:
        assert service.violations() == []
        service.leave()


NAMING = ("name", "sent_name", "path", "source_url", "attributes")
"""The fields of a stand-in's document that may contain its file's path."""


@contextmanager
def service(name: str) -> Iterator[KnowledgeBase]:
    """Yield a base at a stand-in. A document's path is all its naming fields as one text."""
    app = access.stand_in(name, 7, (0.02, 0.1))
    server = standin.Server(app)

    def label(document: Mapping[str, Any]) -> str:
        return unquote(json.dumps([document.get(key) for key in NAMING], ensure_ascii=False))

    def documents(_: str) -> Documents:
        documents = (document for document in app.snapshot()["documents"] if not document.get("deleted"))
        return sorted((label(document), document["sha256"]) for document in documents)

    quickly = {"poll_first": "20ms", "poll_longest": "200ms", "absent_after": "1s"}
    with server.in_thread():
        yield KnowledgeBase({**access.settings(app, server.url), "vectorization": quickly}, documents)
        assert app.violations == []


@contextmanager
def knowledge_base(kind: str, root: Path) -> Iterator[KnowledgeBase]:
    """Yield a base of any type, for a `Sandbox` in `root`; `in-state`: built-in, without a `path`."""
    with ExitStack() as stack:
        match kind:
            case "postgres":
                yield stack.enter_context(postgres(stack.enter_context(Server())))
            case "local":
                yield stack.enter_context(local(root / "base"))
            case "in-state":
                yield stack.enter_context(in_state(root / "home" / ".config" / "kbsync" / "config.yaml"))
            case _:
                yield stack.enter_context(service(kind))
