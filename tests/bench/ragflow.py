"""The bench whose dataset is at the stand-in of RAGFlow: one call stores a document, another begins it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from kbsync_standin.ragflow.datasets import DONE, RagflowDocument
from tests.bench.bench import Change, OwnDocument
from tests.bench.zhipu import ZhipuBench, lose_state
from tests.targets.ragflow.world import RagflowWorld


class RagflowBench(ZhipuBench):
    """What is ours is told by its name. A failed document is parsed once more."""

    ops: ClassVar[Mapping[str, str]] = {"put": "upload", "status": "list", "rename": "parse"}
    kinds: ClassVar[Mapping[str, tuple[str, dict[str, Any]]]] = {
        "lost": ("lost-answer", {}),
        "done": ("lost-answer", {}),
        "down": ("code", {"code": 106}),
        "refused": ("code", {}),
        "full": ("code", {"code": 500, "message": "a: Exceed the maximum file number of a free user!"}),
    }
    effects: ClassVar[Mapping[str, str]] = {"upload": "put", "parse": "parse", "delete": "delete"}
    watched = ("list",)
    edits: ClassVar[Mapping[str, Callable[[Any], None]]] = {"adoption": lose_state}
    unkept = "keeps-documents"
    accepted = ("parse effect", "POST answer", "commit after")

    world: RagflowWorld

    def _tell_new(self) -> None:
        for entry in self._new_entries():
            one = self.world.app.documents[entry["id"]]
            if one.id in self.world.foreign and not entry["effect"].startswith("foreign"):
                self._touched.append(f"a document of somebody else's: {entry['effect']} {one.name}")
            effect, path = entry["effect"], self.path_in(one.sent_name)
            text = one.content.decode() if effect in ("stored", "parsed") else None
            fails = effect == "parsed" and (one.outcome != DONE or one.ready_at is None)
            self.on_change(Change(effect, path, text, fails, is_sent=effect == "stored"))

    def ours(self) -> list[OwnDocument]:
        self.world.app.catch_up()
        there = self.world.app.documents_of(self.world.config().dataset_id)
        return [self._kept_here(one) for one in there if one.id not in self.world.foreign]

    def _kept_here(self, one: RagflowDocument) -> OwnDocument:
        path = self.path_in(one.sent_name)
        shown = (path, one.content.decode()) if one.is_searchable else None
        return OwnDocument(one.id, one.sent_name, path, one.sha256, shown)

    def fail_once(self, path: str) -> None:
        """Parsed once more it is as it should be."""
        stem = f"*{path.removesuffix('.md')}*"
        self.world.play("fails", op="parse", match=stem, args={"name": stem})

    def provoke(self, op: str) -> None:
        """The service does what makes a pass ask for `op`."""
        if op == "list":
            self.world.play("lost-answer", op="upload", match="changed*")
