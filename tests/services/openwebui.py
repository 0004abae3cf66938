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
        there = [one for one in self.app.snapshot()["documents"] if not one["deleted"]]
        return [one for one in there if one["linked"] or one["status"] in ("pending", "processing")]

    def path_of(self, document: dict[str, Any]) -> str | None:
        prefix, path = self.settings.prefix, str(document["path"])
        is_ours = document["id"] not in self.foreign and path.startswith(prefix)
        return path.removeprefix(prefix) if is_ours else None


class ServedOpenWebui(ServedWorld):
    """A stand-in and a client on the same clock, which advances while the client waits."""

    service = "openwebui"
    style = "marked"
    unknown_id = "4e741f2c-6b1d-4f0c-9a53-000000000000"
    repeats_puts = False

    def spoiled(self, path: str) -> bytes:
        self.server.faults.add(Fault("fails", op="upload", match=path, args={"runs": 0}))
        return b"About spoiled things"

    def fix_failures(self) -> None:
        for one in self.app.documents.values():
            one.fails = 0


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
    unkept = "keeps-files"
    renames = True

    world: OpenWebuiWorld

    def __init__(self, world: OpenWebuiWorld) -> None:
        self._failed: set[str] = set()
        self._paths: dict[str, str] = {}
        self._moving: dict[str, str] = {}
        super().__init__(world)

    def _answered(self, request: Request, fault: Fault | None) -> Response:
        """Continue the work of a killed client without it."""
        guillotine, op = self.world.guillotine, self.world.app.op(request)
        if op in ("update", "link") and not fault and guillotine is not None and guillotine.falls_next:
            fault = Fault("goes-on", args={"seconds": 10})
        return super()._answered(request, fault)

    def _tell_new(self) -> None:
        for entry in self._new_entries():
            one = self.world.app.documents[entry["id"]]
            if one.is_foreign and not entry["effect"].startswith("foreign"):
                self._touched.append(f"a document of somebody else's: {entry['effect']} {one.name}")
            text = one.content.decode() if entry["effect"] == "stored" else None
            fails = one.never_linked or one.ready_at is None
            path = self._path_of(one)
            if entry["effect"] == "moved":
                self._moving[one.id] = self._paths.get(one.id, path)
            else:
                self._moving.pop(one.id, None)
                self._paths[one.id] = path
            self.on_change(Change(entry["effect"], path, text, fails))
        for one in self.world.app.documents.values():
            if one.status == "failed" and not one.is_foreign and one.id not in self._failed:
                self._failed.add(one.id)
                text = one.content.decode()
                self.on_change(Change("failed", self._path_of(one), text, fails=True, is_sent=False))

    def _path_of(self, one: File) -> str:
        """Return the file's path, whatever its prefix."""
        base = next((self.world.app.bases[key] for key in one.folder), None)
        if base is None:
            base = self.world.app.bases.get(one.sent["knowledge_id"])
        folder = one.folder[base.id] if base and one.folder else one.sent.get("directory_id")
        place = base.path(folder) if base else ""
        path = f"{place}/{one.name}" if place else one.name
        sent = unquote(one.sent.get(MARK, "").rpartition(" ")[2])
        if path == f"{safe_folder(sent)}/{safe(sent.rpartition('/')[2])}".removeprefix("/"):
            path = sent  # only the mark preserves some characters of a path
        prefix = next(naming.prefix for naming in self._namings() if path.startswith(naming.prefix))
        return path.removeprefix(prefix)

    def ours(self) -> list[OwnDocument]:
        self.world.app.catch_up()
        there = [
            one
            for one in self.world.app.present()
            if not one.is_foreign and (one.folder or one.status in ("pending", "processing"))
        ]
        return [self.own(one) for one in there]

    def own(self, one: File) -> OwnDocument:
        bases = [self.world.app.bases[key] for key in one.folder]
        is_found = any(chunk.file == one.id for base in bases for chunk in base.chunks)
        path = self._path_of(one)
        shown = (self._moving.get(one.id, path), one.content.decode()) if is_found else None
        return OwnDocument(one.id, one.name, path, one.sha256, shown)

    def documents(self) -> dict[str, list[str]]:
        return self.world.bytes_by_path()

    def sent(self) -> list[tuple[str, str]]:
        journal = self.world.app.journal()
        files = self.world.app.documents
        return [
            (self._path_of(files[one["id"]]), one["sha256"])
            for one in journal
            if one["effect"] == "stored" and not files[one["id"]].is_foreign
        ]

    def fail_once(self, path: str) -> None:
        self.world.play("fails", op="upload", match=f"*{path.rpartition('/')[2]}*", args={"runs": 1})

    def come_late(self, path: str, after: float = 5.0) -> None:
        self.world.play("late-effect", op="upload", args={"after": after})


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
        Fault("keeps-files", "cleanup"),
        Fault("no-base", "list"),
    ],
)
