"""OpenAI, and OGX with the same API, for tests: their worlds, and their faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from kbsync.targets.http.reading import Fields
from kbsync.targets.openai.shapes import is_marked, row_of
from kbsync_standin.faults import Fault
from kbsync_standin.openai.project import HOME_ID, Attached
from tests.bench.bench import Change, OwnDocument
from tests.bench.zhipu import ANSWERS, ZhipuBench, edit_little, lose_state
from tests.conformance.served import ServedWorld
from tests.remote.world import RemoteWorld
from tests.services.row import ServiceRow, unclear


class OpenaiWorld(RemoteWorld):
    """A folder mirrored to a vector store."""

    service = "openai"

    def __init__(self, tmp_path: Path, *, dialect: str = "openai", **settings: Any) -> None:
        super().__init__(tmp_path, **settings)
        self.turn(dialect=dialect)

    def documents(self) -> list[dict[str, Any]]:
        return [file for file in self.app.snapshot()["documents"] if file["base"] == HOME_ID]

    def orphans(self) -> list[str]:
        """Return names of our files that are attached to no store."""
        attached = {file["id"] for file in self.app.snapshot()["documents"]}
        files = self.app.snapshot()["files"]
        return [file["name"] for file in files if file["id"] not in attached | self.foreign]

    def path_of(self, document: dict[str, Any]) -> str | None:
        return row_of(Fields(document), self.settings.prefix).path


class ServedOpenai(ServedWorld):
    """A stand-in and a client on the same clock."""

    service = "openai"
    settings: ClassVar = {"max_bytes": 3_000_000}
    style = "marked"
    neutral_settings: ClassVar[Mapping[str, Any]] = {}
    unknown_id = "file-00000000000000000000000000000000"
    repeats_puts = False

    def failure(self, stem: str) -> Fault:
        return Fault("fails", op="attach", match=f"{stem}*")


class OpenaiBench(ZhipuBench):
    """A document exists once it is attached; its attributes identify it as ours."""

    ops: ClassVar[Mapping[str, str]] = {"put": "attach"}
    kinds: ClassVar[Mapping[str, tuple[str, dict[str, Any]]]] = {
        **ANSWERS,
        "refused": ("error", {"status": 400, "message": "unsupported file"}),
        "full": ("no-quota", {}),
    }
    provoking: ClassVar[Mapping[str, tuple[str, dict[str, Any]]]] = {"files": ("lost-answer", {})}
    effects: ClassVar[Mapping[str, str]] = {"attach": "put", "delete": "delete", "rename": "rename"}
    watched = ("status", "list")
    edits: ClassVar[Mapping[str, Callable[[Any], None]]] = {"files": edit_little, "list": lose_state}
    # The upload is answered first, then the file is attached.
    stored = ("POST answer", "put effect")
    accepted = ("put effect", "POST answer", "commit after")
    renames = True

    world: OpenaiWorld

    def _report_new(self) -> None:
        for entry in self._new_entries():
            effect, attached = entry["effect"], self._attached.get(entry["id"])
            if entry["id"] in self.world.foreign and effect in ("detached", "attached-deleted", "renamed"):
                self._touched.append(f"a file of somebody else's: {effect} {entry['name']}")
            if effect == "attached":
                attached = self._attached[entry["id"]] = self.world.app.bases[HOME_ID].files[entry["id"]]
                text = attached.file.content.decode()
                fails = bool(attached.error) or attached.ready_at is None
                self.on_change(Change("stored", self._path_in(attached), text, fails))
            elif attached is not None and effect in ("detached", "renamed"):
                change = "deleted" if effect == "detached" else effect
                self.on_change(Change(change, self._path_in(attached)))

    def __init__(self, world: OpenaiWorld) -> None:
        self._attached: dict[str, Attached] = {}
        super().__init__(world)

    def _path_in(self, attached: Attached) -> str:
        """Return the file's path, whatever its prefix."""
        row = Fields(attributes=attached.attributes)
        return self.without_prefix(row_of(row).name if is_marked(row) else attached.file.sent_name)

    def ours(self) -> list[OwnDocument]:
        store = self.world.app.bases[HOME_ID]
        return [
            self.describe(attached)
            for attached in store.files.values()
            if attached.id not in self.world.foreign
        ]

    def describe(self, attached: Attached) -> OwnDocument:
        status, path = attached.status(self.world.app.clock.now()), self._path_in(attached)
        search_result = (path, attached.file.content.decode()) if status == "completed" else None
        recipe = row_of(Fields(attributes=attached.attributes)).recipe or ""
        return OwnDocument(
            attached.id,
            attached.file.sent_name,
            path,
            attached.file.sha256,
            search_result,
            status == "failed",
            recipe,
        )

    def uploads(self) -> list[tuple[str, str]]:
        journal = self.world.app.journal()
        return [(effect["name"], effect["sha256"]) for effect in journal if effect["effect"] == "attached"]

    def fail_once(self, path: str) -> None:
        self.world.play("fails", op="attach", match=f"{path.removesuffix('.md')}*")

    def come_late(self, path: str, after: float = 5.0) -> None:
        """Delay the next file that is attached."""
        self.world.play("late-effect", op="attach", args={"after": after})


ROW = ServiceRow(
    OpenaiBench,
    OpenaiWorld,
    ServedOpenai,
    [{}, {}, {"list_lag": 8.0}, {"extra_fields": True}, {"dialect": "ogx"}],
    [
        *unclear("upload"),
        *unclear("attach"),
        *unclear("put-back"),
        Fault("no-id", "upload"),
        Fault("fails", "attach"),
        Fault("stuck", "attach"),
        Fault("odd-status", "status", args={"value": "SURPRISE"}),
        Fault("odd-status", "list", args={"missing": True}),
        Fault("left-out", "list", args={"name": "f*"}),
        Fault("shape", "list", args={"form": "nulls"}),
        Fault("lost-answer", "files"),
        Fault("lost-answer", "rename"),
        Fault("lost-answer", "delete-file"),
        Fault("not-deleted", "delete-file"),
        Fault("keeps-document", "delete"),
        Fault("not-deleted", "delete"),
        Fault("unauthorized", "attach"),
    ],
)
