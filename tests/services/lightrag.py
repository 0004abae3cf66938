"""LightRAG for tests: its worlds, and its faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from kbsync_standin.faults import Fault
from kbsync_standin.lightrag.storage import LightragDocument
from tests.bench.bench import STRANGE, Change, OwnDocument
from tests.bench.zhipu import ANSWERS, ZhipuBench, edit_little
from tests.conformance.served import ServedWorld
from tests.conformance.world import SuiteWorld
from tests.remote.world import RemoteWorld
from tests.services.row import ServiceRow, unclear


class LightragWorld(RemoteWorld):
    """A folder mirrored to a LightRAG server."""

    service = "lightrag"


class ServedLightrag(ServedWorld):
    """A stand-in and a client on the same clock. A document without text fails."""

    service = "lightrag"
    unknown_id = "nobody~aaaaaaaa.md"
    only_base_reports_loss = True

    def failing_bytes(self, path: str) -> bytes:
        return b" \n"

    async def recreate(self) -> None:
        """Skip the test: the server has one base without an id, which can't be recreated."""
        await SuiteWorld.recreate(self)


class LightragBench(ZhipuBench):
    """A bench without reindexing and without full accounts, which it replaces by too much work."""

    ops: ClassVar[Mapping[str, str]] = {"put": "upload", "status": "list", "rename": "upload"}
    kinds: ClassVar[Mapping[str, tuple[str, dict[str, Any]]]] = {
        **ANSWERS,
        "refused": ("refused", {}),
        "full": ("rate-limited", {}),
    }
    provoking: ClassVar[Mapping[str, tuple[str, dict[str, Any]]]] = {}
    effects: ClassVar[Mapping[str, str]] = {"upload": "put", "delete": "delete"}
    watched = ("list", "deletion")
    edits: ClassVar[Mapping[str, Callable[[Any], None]]] = {"list": edit_little}
    has_gaps_in_renames = True

    world: LightragWorld

    def _report_new(self) -> None:
        for entry in self._new_entries():
            if entry["id"] in self.world.foreign and entry["effect"] == "deleted":
                self._touched.append(f"a document of somebody else's: deleted {entry['name']}")
            document = self.world.app.documents.get(entry["id"])
            is_stored = entry["effect"] == "stored" and document is not None
            text = document.text if is_stored and document is not None else None
            fails = document is not None and (bool(document.error) or document.ready_at is None)
            self.on_change(Change(entry["effect"], self.path_in(entry["name"]), text, fails))

    def describe(self, document: LightragDocument) -> OwnDocument:
        status, path = document.status(self.world.app.clock.now()), self.path_in(document.name)
        search_result = (path, document.text) if status == "processed" else None
        return OwnDocument(
            document.id, document.name, path, document.sha256, search_result, status == "failed"
        )

    def add_foreign(self, name: str, text: str = STRANGE, **fields: Any) -> str:
        """Add a document under a name without our tag: names are ids, and a tagged one would be ours."""
        return super().add_foreign(f"their-{name}", text, **fields)

    def fail_once(self, path: str) -> None:
        self.world.play("fails", op="upload", match=f"{path.removesuffix('.md').replace('/', '__')}*")


ROW = ServiceRow(
    LightragBench,
    LightragWorld,
    ServedLightrag,
    [{}, {}, {"list_lag": 3.0}, {"deleting": 5.0}, {"most_at_once": 3}, {"extra_fields": True}],
    [
        *unclear("upload"),
        Fault("name-taken", "upload"),
        Fault("not-stored", "upload"),
        Fault("clearing", "upload"),
        Fault("no-receipt", "upload"),
        Fault("no-receipt", "upload", args={"stored": True}),
        Fault("fails", "upload"),
        Fault("not-queued", "upload"),
        Fault("stuck", "upload"),
        Fault("left-out", "list", args={"name": "f*"}),
        Fault("odd-status", "list", args={"value": "SURPRISE"}),
        Fault("shape", "list", args={"form": "nulls"}),
        Fault("busy", "delete"),
        Fault("keeps-document", "delete"),
        Fault("miscounts", "deletion"),
        Fault("slow", "delete", args={"seconds": 20}),
    ],
)
