"""RAGFlow for tests: its worlds, and its faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from kbsync_standin.faults import Fault
from kbsync_standin.ragflow.datasets import DONE, RagflowDocument
from tests.bench.bench import Change, OwnDocument
from tests.bench.zhipu import ANSWERS, ZhipuBench, lose_state
from tests.conformance.served import ServedWorld
from tests.remote.world import RemoteWorld
from tests.services.row import ServiceRow, unclear


class RagflowWorld(RemoteWorld):
    """A folder mirrored to RAGFlow."""

    service = "ragflow"


class ServedRagflow(ServedWorld):
    """A stand-in and a client on the same clock."""

    service = "ragflow"
    settings: ClassVar = {"max_bytes": 3_000_000}
    neutral_settings: ClassVar[Mapping[str, Any]] = {"chunk_method": "qa"}  # a setting of the dataset
    unknown_id = "00000000000011f00000000000000000"

    def failure(self, stem: str) -> Fault:
        """Documents fail once and are then parsed correctly."""
        return Fault("fails", op="parse", match=f"*{stem}*", args={"name": f"{stem}*"})


class RagflowBench(ZhipuBench):
    """Names identify our documents. A failed document is parsed once more."""

    ops: ClassVar[Mapping[str, str]] = {"put": "upload", "status": "list", "rename": "parse"}
    kinds: ClassVar[Mapping[str, tuple[str, dict[str, Any]]]] = {
        **ANSWERS,
        "down": ("code", {"code": 106}),
        "refused": ("code", {}),
        "full": ("code", {"code": 500, "message": "a: Exceed the maximum file number of a free user!"}),
    }
    effects: ClassVar[Mapping[str, str]] = {"upload": "put", "parse": "parse", "delete": "delete"}
    watched = ("list",)
    edits: ClassVar[Mapping[str, Callable[[Any], None]]] = {"adoption": lose_state}
    accepted = ("parse effect", "POST answer", "commit after")

    world: RagflowWorld

    def _report_new(self) -> None:
        for entry in self._new_entries():
            document = self.world.app.documents[entry["id"]]
            if document.id in self.world.foreign and not entry["effect"].startswith("foreign"):
                self._touched.append(f"a document of somebody else's: {entry['effect']} {document.name}")
            effect, path = entry["effect"], self.path_in(document.sent_name)
            text = document.content.decode() if effect in ("stored", "parsed") else None
            fails = effect == "parsed" and (document.outcome != DONE or document.ready_at is None)
            self.on_change(Change(effect, path, text, fails, is_sent=effect == "stored"))

    def ours(self) -> list[OwnDocument]:
        self.world.app.catch_up()
        documents = self.world.app.documents_of(self.world.config().dataset_id)
        return [self.describe(document) for document in documents if document.id not in self.world.foreign]

    def describe(self, document: RagflowDocument) -> OwnDocument:
        path = self.path_in(document.sent_name)
        search_result = (path, document.content.decode()) if document.is_searchable else None
        return OwnDocument(document.id, document.sent_name, path, document.sha256, search_result)

    def fail_once(self, path: str) -> None:
        """Let the document fail; parsing it again succeeds."""
        stem = f"*{path.removesuffix('.md')}*"
        self.world.play("fails", op="parse", match=stem, args={"name": stem})


ROW = ServiceRow(
    RagflowBench,
    RagflowWorld,
    ServedRagflow,
    [
        {},
        {},
        {"ids_filter": False, "runs": "digits"},
        {"unknown_ids": "reported", "no_ids": "all"},
        {"page_cap": 3, "page_beyond": "repeats", "total": "missing"},
        {"statuses": "mapped", "extra_fields": True},
        {"pipeline": True},
        {"list_lag": 3.0},
    ],
    [
        *unclear("upload"),
        Fault("lost-answer", "parse"),
        Fault("lost-answer", "parse", effect=False),
        Fault("no-id", "upload"),
        Fault("two-ids", "upload"),
        Fault("other-name", "upload"),
        Fault("begun-already", "parse"),
        Fault("fails", "parse"),
        Fault("stuck", "parse"),
        Fault("no-chunks", "parse"),
        Fault("stopped", "parse"),
        Fault("odd-status", "list", args={"value": "SURPRISE"}),
        Fault("left-out", "list", args={"name": "f*"}),
        Fault("shape", "list", args={"form": "null"}),
        Fault("keeps-document", "delete"),
        Fault("code-after", "delete", args={"code": 100}),
    ],
)
