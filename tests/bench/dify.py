"""The bench whose base is at the stand-in of Dify."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from kbsync_standin.dify.workspace import DifyDocument
from tests.bench.bench import Change, OwnDocument
from tests.bench.zhipu import ZhipuBench, edit_little, lose_state
from tests.targets.dify.world import DifyWorld


class DifyBench(ZhipuBench):
    """As at Zhipu; there is nothing that it indexes again when asked."""

    ops: ClassVar[Mapping[str, str]] = {"put": "upload", "status": "list", "rename": "detail"}
    kinds: ClassVar[Mapping[str, tuple[str, dict[str, Any]]]] = {
        "lost": ("lost-answer", {}),
        "done": ("lost-answer", {}),
        "down": ("rate-limited", {}),
        "refused": ("error", {}),
        "full": ("documents-full", {}),
    }
    effects: ClassVar[Mapping[str, str]] = {"upload": "put", "delete": "delete"}
    edits: ClassVar[Mapping[str, Callable[[Any], None]]] = {"detail": edit_little, "file": lose_state}

    world: DifyWorld

    def _tell_new(self) -> None:
        for entry in self._new_entries():
            one = self.world.app.documents[entry["id"]]
            if one.is_foreign and not entry["effect"].startswith("foreign"):
                self._touched.append(f"a document of somebody else's: {entry['effect']} {one.name}")
            text = one.content.decode() if entry["effect"] == "stored" else None
            fails = bool(one.error or one.hidden) or one.ready_at is None
            self.on_change(Change(entry["effect"], self.path_in(one.sent_name), text, fails))

    def ours(self) -> list[OwnDocument]:
        there = self.world.app.documents.values()
        return [self._kept_here(one) for one in there if one.deleted_at is None and not one.is_foreign]

    def _kept_here(self, one: DifyDocument) -> OwnDocument:
        path = self.path_in(one.sent_name)
        is_found = one.is_searchable(self.world.app.clock.now())
        shown = (path, one.content.decode()) if is_found else None
        return OwnDocument(one.id, one.sent_name, path, one.sha256, shown, bool(one.error))

    def fail_once(self, path: str) -> None:
        name = f"{path.removesuffix('.md')}*"
        self.world.play("fails", op="upload", match=name, args={"name": name})

    def provoke(self, op: str) -> None:
        """The service does what makes a pass ask for `op`."""
        if op == "list":
            self.world.play("lost-answer", op="upload", match="changed*")
