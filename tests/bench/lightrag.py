"""The bench whose base is at the stand-in of LightRAG: each text is there once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from kbsync_standin.lightrag.storage import LightragDocument
from tests.bench.bench import STRANGE, Change, OwnDocument
from tests.bench.zhipu import ZhipuBench, edit_little
from tests.targets.lightrag.world import LightragWorld


class LightragBench(ZhipuBench):
    """Nothing is indexed again when asked, and no account is ever full: then there is too much work."""

    ops: ClassVar[Mapping[str, str]] = {"put": "upload", "status": "list", "rename": "upload"}
    kinds: ClassVar[Mapping[str, tuple[str, dict[str, Any]]]] = {
        "lost": ("lost-answer", {}),
        "done": ("lost-answer", {}),
        "down": ("rate-limited", {}),
        "refused": ("refused", {}),
        "full": ("rate-limited", {}),
    }
    effects: ClassVar[Mapping[str, str]] = {"upload": "put", "delete": "delete"}
    watched = ("list", "deletion")
    edits: ClassVar[Mapping[str, Callable[[Any], None]]] = {"list": edit_little}
    has_gaps_in_renames = True

    world: LightragWorld

    def _tell_new(self) -> None:
        for entry in self._new_entries():
            if entry["id"] in self.world.foreign and entry["effect"] == "deleted":
                self._touched.append(f"a document of somebody else's: deleted {entry['name']}")
            one = self.world.app.documents.get(entry["id"])
            is_stored = entry["effect"] == "stored" and one is not None
            text = one.text if is_stored and one is not None else None
            fails = one is not None and (bool(one.error) or one.ready_at is None)
            self.on_change(Change(entry["effect"], self.path_in(entry["name"]), text, fails))

    def ours(self) -> list[OwnDocument]:
        there = self.world.app.documents.values()
        return [self._kept_here(one) for one in there if not one.is_foreign]

    def _kept_here(self, one: LightragDocument) -> OwnDocument:
        status, path = one.status(self.world.app.clock.now()), self.path_in(one.name)
        shown = (path, one.text) if status == "processed" else None
        return OwnDocument(one.id, one.name, path, one.sha256, shown, status == "failed")

    def add_foreign(self, name: str, text: str = STRANGE, **more: Any) -> str:
        """Under a name of its own: the name is the id, and one with our tag would be ours."""
        return super().add_foreign(f"their-{name}", text, **more)

    def fail_once(self, path: str) -> None:
        self.world.play("fails", op="upload", match=f"{path.removesuffix('.md').replace('/', '__')}*")

    def provoke(self, op: str) -> None:
        """Every operation is asked for as it is."""
