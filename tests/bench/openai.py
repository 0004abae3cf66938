"""The bench whose base is a vector store at the stand-in of OpenAI: files are uploaded, then attached."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from kbsync.targets.openai.shapes import mark_in
from kbsync_standin.openai.project import HOME_ID, Attached
from tests.bench.bench import Change, OwnDocument
from tests.bench.zhipu import ZhipuBench, edit_little, lose_state
from tests.targets.openai.world import OpenaiWorld


class OpenaiBench(ZhipuBench):
    """A document is there when it is attached; what is ours is told by the attributes."""

    ops: ClassVar[Mapping[str, str]] = {"put": "attach"}
    kinds: ClassVar[Mapping[str, tuple[str, dict[str, Any]]]] = {
        "lost": ("lost-answer", {}),
        "done": ("lost-answer", {}),
        "down": ("rate-limited", {}),
        "refused": ("error", {"status": 400, "message": "unsupported file"}),
        "full": ("no-quota", {}),
    }
    effects: ClassVar[Mapping[str, str]] = {"attach": "put", "delete": "delete", "rename": "rename"}
    watched = ("status", "list")
    edits: ClassVar[Mapping[str, Callable[[Any], None]]] = {"files": edit_little, "list": lose_state}
    unkept = "keeps-file"
    # The upload is answered first, then comes the attaching.
    stored = ("POST answer", "put effect")
    accepted = ("put effect", "POST answer", "commit after")
    renames = True

    world: OpenaiWorld

    def _tell_new(self) -> None:
        for entry in self._new_entries():
            effect, one = entry["effect"], self._seen.get(entry["id"])
            if entry["id"] in self.world.foreign and effect in ("detached", "file-deleted", "renamed"):
                self._touched.append(f"a file of somebody else's: {effect} {entry['name']}")
            if effect == "attached":
                one = self._seen[entry["id"]] = self.world.app.bases[HOME_ID].files[entry["id"]]
                text = one.file.content.decode()
                fails = bool(one.error) or one.ready_at is None
                self.on_change(Change("stored", self._path_in(one), text, fails))
            elif one is not None and effect in ("detached", "renamed"):
                word = "deleted" if effect == "detached" else effect
                self.on_change(Change(word, self._path_in(one)))

    def __init__(self, world: OpenaiWorld) -> None:
        self._seen: dict[str, Attached] = {}
        super().__init__(world)

    def _path_in(self, one: Attached) -> str:
        """Of the file, whatever prefix was before it."""
        mark = mark_in({"attributes": one.attributes})
        path = one.file.sent_name if mark is None else mark.path
        return path.removeprefix(
            next(each.prefix for each in self._namings() if path.startswith(each.prefix))
        )

    def ours(self) -> list[OwnDocument]:
        store = self.world.app.bases[HOME_ID]
        return [self._own(one) for one in store.files.values() if one.id not in self.world.foreign]

    def _own(self, one: Attached) -> OwnDocument:
        status, path = one.status(self.world.app.clock.now()), self._path_in(one)
        shown = (path, one.file.content.decode()) if status == "completed" else None
        mark = mark_in({"attributes": one.attributes})
        recipe = "" if mark is None else mark.recipe
        return OwnDocument(
            one.id, one.file.sent_name, path, one.file.sha256, shown, status == "failed", recipe
        )

    def sent(self) -> list[tuple[str, str]]:
        journal = self.world.app.journal()
        return [(one["name"], one["sha256"]) for one in journal if one["effect"] == "attached"]

    def fail_once(self, path: str) -> None:
        self.world.play("fails", op="attach", match=f"{path.removesuffix('.md')}*")

    def come_late(self, path: str, after: float = 5.0) -> None:
        """Whatever is attached next."""
        self.world.play("late-effect", op="attach", args={"after": after})

    def provoke(self, op: str) -> None:
        """The service does what makes a pass ask for `op`."""
        if op == "files":
            self.world.play("lost-answer", op="upload", match="changed*")
