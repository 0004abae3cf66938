"""Open WebUI for tests: its worlds, and its faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar
from urllib.parse import unquote

from kbsync.targets.openwebui.shapes import MARK, safe, safe_folder
from kbsync_standin.faults import Fault
from kbsync_standin.messages import Request, Response
from kbsync_standin.openwebui.store import File
from tests.bench.bench import Change, OwnDocument
from tests.bench.zhipu import ANSWERS, ZhipuBench, lose_state
from tests.conformance.served import ServedWorld
from tests.remote.world import RemoteWorld
from tests.services.row import ServiceRow, unclear


class OpenWebuiWorld(RemoteWorld):
    """A folder mirrored to Open WebUI."""

    service = "openwebui"

    def documents(self) -> list[dict[str, Any]]:
        """Return the files in the base and those being added."""
        existing = [file for file in self.app.snapshot()["documents"] if not file["deleted"]]
        return [file for file in existing if file["linked"] or file["status"] in ("pending", "processing")]

    def path_of(self, document: dict[str, Any]) -> str | None:
        prefix, path = self.settings.prefix, str(document["path"])
        is_ours = document["id"] not in self.foreign and path.startswith(prefix)
        return path.removeprefix(prefix) if is_ours else None

    def target_version(self) -> Any:
        """A file that ends being processed without a link isn't in the base."""
        return super().target_version(), [file.status for file in self.app.present()]


class ServedOpenWebui(ServedWorld):
    """A stand-in and a client on the same clock, which advances while the client waits."""

    service = "openwebui"
    style = "marked"
    unknown_id = "4e741f2c-6b1d-4f0c-9a53-000000000000"
    repeats_puts = False

    def failure(self, stem: str) -> Fault:
        return Fault("fails", op="upload", match=f"{stem}.*", args={"runs": 0})

    def fix_failures(self) -> None:
        for file in self.app.documents.values():
            file.fails = 0


def copy_file(bench: ZhipuBench) -> None:
    """Write a file whose text is in the base already."""
    bench.world.clock.now += 10
    bench.world.write("copy.md", "the first text of kept.md")


class OpenWebuiBench(ZhipuBench):
    """A file belongs to the base once it is linked; before that it isn't a document.

    A rename takes two requests. Between them a file has its old name in its new folder, where another file
    may have the same name; until the second request its old path counts, `_moving`.
    """

    ops: ClassVar[Mapping[str, str]] = {"put": "upload"}
    kinds: ClassVar[Mapping[str, tuple[str, dict[str, Any]]]] = {
        **ANSWERS,
        "down": ("status", {"status": 429}),
        "refused": ("refused", {}),
        "full": ("status", {"status": 429}),
    }
    provoking: ClassVar[Mapping[str, tuple[str, dict[str, Any]]]] = {
        "list": ("lost-answer", {}),
        "delete": ("fails", {"runs": 0}),  # for a file that was never linked
        "link": ("fails", {"runs": 1}),
    }
    effects: ClassVar[Mapping[str, str]] = {
        "upload": "put",
        "cleanup": "delete",
        "delete": "delete",
        "move": "rename",
        "rename": "rename",
        "update": "update",
        "link": "link",
        "make-folder": "folder",
    }
    watched = ("status", "state", "list", "newest")
    edits: ClassVar[Mapping[str, Callable[[Any], None]]] = {
        "adoption": lose_state,
        "status": copy_file,
        "update": copy_file,
        "link": copy_file,
    }
    renames = True

    world: OpenWebuiWorld

    def __init__(self, world: OpenWebuiWorld) -> None:
        self._failed: set[str] = set()
        self._paths: dict[str, str] = {}
        self._moving: dict[str, str] = {}
        super().__init__(world)

    def _observe_answer(self, request: Request, fault: Fault | None) -> Response:
        """Continue the work of a killed client without it."""
        guillotine, op = self.world.guillotine, self.world.app.op(request)
        if op in ("update", "link") and not fault and guillotine is not None and guillotine.falls_next:
            fault = Fault("goes-on", args={"seconds": 10})
        return super()._observe_answer(request, fault)

    def _report_new(self) -> None:
        for entry in self._new_entries():
            file = self.world.app.documents[entry["id"]]
            if file.is_foreign and not entry["effect"].startswith("foreign"):
                self._touched.append(f"a document of somebody else's: {entry['effect']} {file.name}")
            text = file.content.decode() if entry["effect"] == "stored" else None
            fails = file.never_linked or file.ready_at is None
            path = self._path_of(file)
            if entry["effect"] == "moved":
                self._moving[file.id] = self._paths.get(file.id, path)
            else:
                self._moving.pop(file.id, None)
                self._paths[file.id] = path
            self.on_change(Change(entry["effect"], path, text, fails))
        for file in self.world.app.documents.values():
            if file.status == "failed" and not file.is_foreign and file.id not in self._failed:
                self._failed.add(file.id)
                text = file.content.decode()
                self.on_change(Change("failed", self._path_of(file), text, fails=True, is_sent=False))

    def _path_of(self, file: File) -> str:
        """Return the file's path, whatever its prefix."""
        base = next((self.world.app.bases[key] for key in file.folder), None)
        if base is None:
            base = self.world.app.bases.get(file.sent["knowledge_id"])
        folder = file.folder[base.id] if base and file.folder else file.sent.get("directory_id")
        directory = base.path(folder) if base else ""
        path = f"{directory}/{file.name}" if directory else file.name
        sent = unquote(file.sent.get(MARK, "").rpartition(" ")[2])
        if path == f"{safe_folder(sent)}/{safe(sent.rpartition('/')[2])}".removeprefix("/"):
            path = sent  # only the mark preserves some characters of a path
        return self.without_prefix(path)

    def ours(self) -> list[OwnDocument]:
        self.world.app.catch_up()
        files = [
            file
            for file in self.world.app.present()
            if not file.is_foreign and (file.folder or file.status in ("pending", "processing"))
        ]
        return [self.describe(file) for file in files]

    def describe(self, file: File) -> OwnDocument:
        bases = [self.world.app.bases[key] for key in file.folder]
        is_found = any(chunk.file == file.id for base in bases for chunk in base.chunks)
        path = self._path_of(file)
        search_result = (self._moving.get(file.id, path), file.content.decode()) if is_found else None
        return OwnDocument(file.id, file.name, path, file.sha256, search_result)

    def documents(self) -> dict[str, list[str]]:
        return self.world.bytes_by_path()

    def uploads(self) -> list[tuple[str, str]]:
        journal = self.world.app.journal()
        files = self.world.app.documents
        return [
            (self._path_of(files[effect["id"]]), effect["sha256"])
            for effect in journal
            if effect["effect"] == "stored" and not files[effect["id"]].is_foreign
        ]

    def fail_once(self, path: str) -> None:
        self.world.play("fails", op="upload", match=f"*{path.rpartition('/')[2]}*", args={"runs": 1})


ROW = ServiceRow(
    OpenWebuiBench,
    OpenWebuiWorld,
    ServedOpenWebui,
    [{}, {}, {"page_size": 3}, {"looks_late": False}, {"extra_fields": True}, {"list_lag": 3.0}],
    [
        *unclear("upload"),
        Fault("no-id", "upload"),
        Fault("busy-database", "upload"),
        Fault("fails", "upload"),
        Fault("fails", "upload", args={"runs": 0}),
        Fault("stuck", "upload"),
        Fault("unlinked", "upload"),
        Fault("lost-answer", "move"),
        Fault("lost-answer", "rename"),
        Fault("lost-answer", "make-folder"),
        Fault("not-made", "make-folder"),
        Fault("lost-answer", "link"),
        Fault("lost-answer", "update"),
        Fault("odd-status", "state", args={"value": "SURPRISE"}),
        Fault("left-out", "list"),
        Fault("empty-list", "list"),
        Fault("shape", "list", args={"form": "nulls"}),
        Fault("keeps-document", "cleanup"),
        Fault("no-base", "list"),
    ],
)
