"""Dify for tests: its worlds, and its faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from kbsync_standin.dify.workspace import DifyDocument
from kbsync_standin.faults import Fault
from tests.bench.bench import Change, OwnDocument
from tests.bench.zhipu import ANSWERS, ZhipuBench, edit_little, lose_state
from tests.conformance.served import ServedWorld
from tests.remote.world import RemoteWorld
from tests.services.row import ServiceRow, unclear


class DifyWorld(RemoteWorld):
    """A folder mirrored to Dify."""

    service = "dify"


class ServedDify(ServedWorld):
    """A stand-in and a client on the same clock."""

    service = "dify"
    unknown_id = "2d0a1b1f-0000-4000-8000-000000000000"

    def failure(self, stem: str) -> Fault:
        return Fault("fails", "upload", f"{stem}*", times=0, args={"name": f"{stem}*"})


class DifyBench(ZhipuBench):
    """Works like Zhipu's bench, but without reindexing."""

    ops: ClassVar[Mapping[str, str]] = {"put": "upload", "status": "list", "rename": "detail"}
    kinds: ClassVar[Mapping[str, tuple[str, dict[str, Any]]]] = {
        **ANSWERS,
        "refused": ("error", {}),
        "full": ("documents-full", {}),
    }
    effects: ClassVar[Mapping[str, str]] = {"upload": "put", "delete": "delete"}
    edits: ClassVar[Mapping[str, Callable[[Any], None]]] = {"detail": edit_little, "file": lose_state}

    world: DifyWorld

    def _report_new(self) -> None:
        for entry in self._new_entries():
            document = self.world.app.documents[entry["id"]]
            if document.is_foreign and not entry["effect"].startswith("foreign"):
                self._touched.append(f"a document of somebody else's: {entry['effect']} {document.name}")
            text = document.content.decode() if entry["effect"] == "stored" else None
            fails = bool(document.error or document.hidden) or document.ready_at is None
            self.on_change(Change(entry["effect"], self.path_in(document.sent_name), text, fails))

    def describe(self, document: DifyDocument) -> OwnDocument:
        path = self.path_in(document.sent_name)
        is_found = document.is_searchable(self.world.app.clock.now())
        search_result = (path, document.content.decode()) if is_found else None
        return OwnDocument(
            document.id, document.sent_name, path, document.sha256, search_result, bool(document.error)
        )

    def fail_once(self, path: str) -> None:
        name = f"{path.removesuffix('.md')}*"
        self.world.play("fails", op="upload", match=name, args={"name": name})


ROW = ServiceRow(
    DifyBench,
    DifyWorld,
    ServedDify,
    [
        {},
        {},
        {"fresh": True},
        {"deleted": "number"},
        {"deleted": "object", "extra_fields": True},
        {"indexing_deletion": "refused"},
        {"files_url": "missing"},
        {"list_lag": 3.0, "page_cap": 3},
    ],
    [
        *unclear("upload"),
        Fault("no-lock", "upload"),
        Fault("no-id", "upload"),
        Fault("other-name", "upload"),
        Fault("fails", "upload"),
        Fault("stuck", "upload"),
        Fault("hidden", "upload"),
        Fault("odd-status", "list", args={"value": "paused"}),
        Fault("odd-status", "detail", args={"missing": True, "field": "indexing_status"}),
        Fault("left-out", "list", args={"name": "f*"}),
        Fault("shape", "list", args={"form": "nulls"}),
        Fault("not-found", "list"),
        Fault("keeps-document", "delete"),
        Fault("error-after", "delete", args={"status": 500, "code": "unknown"}),
        Fault("truncated-json", "file"),
    ],
    ["tagged", "tagged", "plain"],
)
