"""GPTBots for tests: its worlds, and its faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from urllib.parse import unquote, urlsplit

from kbsync.targets.gptbots import shapes
from kbsync.targets.gptbots.config import MARKER_BASE
from kbsync_standin.faults import Fault
from kbsync_standin.gptbots.bot import BotDocument
from tests.bench.bench import Change, OwnDocument
from tests.bench.zhipu import ANSWERS, ZhipuBench, lose_state
from tests.conformance.served import ServedWorld
from tests.remote.world import RemoteWorld
from tests.services.row import ServiceRow, unclear


class GptbotsWorld(RemoteWorld):
    """A folder mirrored to GPTBots, where each document has a marker."""

    service = "gptbots"

    def bytes_by_path(self, *, searchable: bool = False) -> dict[str, list[str]]:
        """Group texts by the path in the document's marker, under today's prefix."""
        results: dict[str, list[str]] = {}
        for document in self.documents():
            path = self.path_of(document)
            if path is not None and (document["serving"] or not searchable):
                results.setdefault(path, []).append(document["serving" if searchable else "sha256"])
        return results

    def path_of(self, document: dict[str, Any]) -> str | None:
        path = unquote(urlsplit(document["source_url"]).path).removeprefix("/")
        is_ours = document["source_url"].startswith(MARKER_BASE) and path.startswith(self.settings.prefix)
        return path.removeprefix(self.settings.prefix) if is_ours else None


class ServedGptbots(ServedWorld):
    """A stand-in and a client on the same clock."""

    service = "gptbots"
    style = "marked"
    recipe_settings: ClassVar[Mapping[str, Any]] = {"splitter": "\n\n"}
    neutral_settings: ClassVar[Mapping[str, Any]] = {"header_row": 2}  # an .md file has no rows
    unknown_id = "67457fea6f658672d6489999"
    repeats_puts = False

    def failure(self, stem: str) -> Fault:
        return Fault("fails", match=f"*{stem}*", args={"name": f"{stem}*"})


class GptbotsBench(ZhipuBench):
    """The marker identifies our documents. The service doesn't reindex on request."""

    ops: ClassVar[Mapping[str, str]] = {"put": "[au]*", "rename": "update"}
    kinds: ClassVar[Mapping[str, tuple[str, dict[str, Any]]]] = {
        **ANSWERS,
        "refused": ("refused-item", {}),
        "full": ("code", {"code": 50111, "message": "insufficient credits"}),
    }
    provoking: ClassVar[Mapping[str, tuple[str, dict[str, Any]]]] = {}
    effects: ClassVar[Mapping[str, str]] = {"add": "put", "update": "put", "delete": "delete"}
    watched = ("status", "list")
    edits: ClassVar[Mapping[str, Callable[[Any], None]]] = {"adoption": lose_state}
    accepted = ("put effect", "PUT answer", "commit after")

    world: GptbotsWorld

    def _report_new(self) -> None:
        for entry in self._new_entries():
            document = self.world.app.documents[entry["id"]]
            if document.id in self.world.foreign and entry["effect"] in ("updated", "deleted"):
                self._touched.append(f"a document of somebody else's: {entry['effect']} {document.name}")
            version = document.coming or document.serving
            if entry["effect"] == "deleted" or version is None:
                self.on_change(Change(entry["effect"], self._path_in(document.source_url)))
            else:
                path, text = self._path_in(version.source_url), version.content.decode()
                self.on_change(Change(entry["effect"], path, text, version.fails))

    def _path_in(self, url: str) -> str:
        """Return the file's path, whatever its prefix."""
        marker = shapes.read_marker(MARKER_BASE, url)
        return self.without_prefix(url if marker is None else marker.path)

    def ours(self) -> list[OwnDocument]:
        alive = self.world.app.present()
        return [self.describe(document) for document in alive if document.id not in self.world.foreign]

    def describe(self, document: BotDocument) -> OwnDocument:
        document.catch_up(self.world.app.clock.now())
        latest, serving = document.coming or document.serving, document.serving
        search_result = serving and (self._path_in(serving.source_url), serving.content.decode())
        return OwnDocument(
            document.id,
            document.name,
            self._path_in(document.source_url),
            latest.sha256 if latest else "",
            search_result,
        )

    def uploads(self) -> list[tuple[str, str]]:
        journal = self.world.app.journal()
        return [
            (effect["name"], effect["sha256"])
            for effect in journal
            if effect["effect"] in ("stored", "updated")
        ]

    def fail_once(self, path: str) -> None:
        self.world.play("fails", match=f"*{path}*", args={"name": path})

    def come_late(self, path: str, after: float = 5.0) -> None:
        for op in ("add", "update"):
            name = path.replace("/", "__")
            self.world.play("late-effect", op=op, match=f"*{name}*", args={"after": after})


ROW = ServiceRow(
    GptbotsBench,
    GptbotsWorld,
    ServedGptbots,
    [
        {},
        {},
        {"list_lag": 8.0, "order": "shuffled"},
        {"names": "bare", "total": "missing", "times": "ms"},
        {"stale_status": 5.0, "failed": "objects"},
    ],
    [
        *unclear("add"),
        *unclear("update"),
        Fault("left-out", "list"),
        Fault("left-out", "status"),
        Fault("keeps-document", "delete"),
        Fault("truncated-json", "list"),
    ],
)
