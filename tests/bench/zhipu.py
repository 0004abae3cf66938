"""The bench with a base at Zhipu's stand-in: the real client, TCP, and a clock that jumps."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import Any, ClassVar, Self

from kbsync.core.names import Naming
from kbsync_standin.faults import Fault
from kbsync_standin.late import Work
from kbsync_standin.messages import Request, Response
from kbsync_standin.zhipu.documents import ZhipuDocument
from tests.bench.bench import STRANGE, Change, OwnDocument, SharedBench
from tests.remote.world import RemoteWorld

CHANGED = "another text, changed"
"""It contains a word of its name, so that a search finds it."""

ANSWERS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "lost": ("lost-answer", {}),
    "done": ("lost-answer", {}),
    "down": ("rate-limited", {}),
}
"""The faults that nearly every service has."""


def edit_little(bench: ZhipuBench) -> None:
    """Edit so few files that documents are polled one by one."""
    bench.world.clock.now += 10
    bench.world.write("changed.md", CHANGED)
    bench.world.delete("gone.md")


def lose_state(bench: ZhipuBench) -> None:
    """Lose the state: the list is read, and documents whose names prove nothing."""
    bench.world.clock.now += 10
    bench.world.lose_state()
    bench.world.write("new.md", "a new file")


class ZhipuBench(SharedBench):
    """A bench that checks the base after every request that changes it, answered or not.

    It can't rename, so faults of that operation affect the re-embed instead.

    `ops`: operations with another name here. `kinds`: the stand-in's faults for each failure. `effects`:
    requests that change the base, as a guillotine names them; they are carried out even if the client dies
    before the response. `watched`: other requests after which the base is checked. `edits`: changes of the
    folder that cause an operation. `provoking`: faults in the upload of the changed file that cause an
    operation.
    """

    ops: ClassVar[Mapping[str, str]] = {"put": "upload", "status": "detail", "rename": "reembed"}
    kinds: ClassVar[Mapping[str, tuple[str, dict[str, Any]]]] = {
        **ANSWERS,
        "refused": ("failed-info", {}),
        "full": ("rate-limited", {"code": 1113}),
    }
    effects: ClassVar[Mapping[str, str]] = {
        "upload": "put",
        "upload-url": "put",
        "delete": "delete",
        "reembed": "reembed",
    }
    watched: ClassVar[Collection[str]] = ()
    edits: ClassVar[Mapping[str, Callable[[Any], None]]] = {"detail": edit_little, "file": lose_state}
    provoking: ClassVar[Mapping[str, tuple[str, dict[str, Any]]]] = {
        "list": ("lost-answer", {}),
        "reembed": ("fails", {"runs": 1}),
        "retrieve": ("stuck", {"searchable": True}),  # the status never ends: a search decides
    }
    accepted = ("put effect", "POST answer", "commit after")

    def __init__(self, world: RemoteWorld) -> None:
        super().__init__()
        self.world: RemoteWorld = world
        self._prefixes: set[str] = set()
        self._reported_count = 0
        self._touched: list[str] = []
        self._answer = world.app.answer
        world.app.answer = self._observe_answer  # type: ignore[method-assign]
        self._schedule = world.server.late.schedule
        world.server.late.schedule = self._schedule_counted  # type: ignore[method-assign]

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[Self]:
        async with self.world.serving():
            yield self

    def _schedule_counted(self, seconds: float, work: Work) -> None:
        """Schedule late work at its due time: with the next request, its lag would only begin there."""
        self._schedule(seconds, work)
        self.world.clock.ring(seconds, self.world.server.late.catch_up)

    # -- changes -------------------------------------------------------------------------------------------

    def _observe_answer(self, request: Request, fault: Fault | None) -> Response:
        """Check for documents that became searchable by themselves before any are deleted."""
        op = self.world.app.op(request)
        effect = self.effects.get(op)
        if effect is not None:
            self.on_change(Change("time", ""))
        response = self._answer(request, fault)
        if effect is not None:
            self._report_new()
            if self.world.guillotine is not None:
                self.world.guillotine.mark(f"{effect} effect")
        elif op in self.watched:
            self.on_change(Change(op, ""))
        return response

    def _report_new(self) -> None:
        for entry in self._new_entries():
            document: ZhipuDocument = self.world.app.documents[entry["id"]]
            effect = entry["effect"]
            if document.is_foreign and not effect.startswith("foreign"):
                self._touched.append(f"a document of somebody else's: {effect} {entry['name']}")
            stored = effect == "stored"
            text = document.content.decode() if stored else None
            fails = stored and any(phase.stat == 2 for phase in document.phases)
            self.on_change(Change(effect, self.path_in(document.sent_name), text, fails))

    def _new_entries(self) -> list[dict[str, Any]]:
        new: list[dict[str, Any]] = self.world.app.journal()[self._reported_count :]
        self._reported_count += len(new)
        return new

    def _namings(self) -> list[Naming]:
        """Return the naming for every prefix so far, longest first: the rest of a name is the path."""
        self._prefixes.add(self.world.settings.prefix)
        prefixes = sorted(self._prefixes, key=len, reverse=True)
        return [Naming(prefix, self.world.settings.names) for prefix in prefixes]

    def without_prefix(self, path: str) -> str:
        """Return a path at the service without the prefix that the mirror had then."""
        return path.removeprefix(
            next(naming.prefix for naming in self._namings() if path.startswith(naming.prefix))
        )

    def path_in(self, name: str) -> str:
        """Return the path of the file whose document has this name; the name itself if it has no path."""
        readings = (naming.read(name) for naming in self._namings())
        return next((reading.path for reading in readings if reading is not None and reading.path), name)

    # -- contents ------------------------------------------------------------------------------------------

    def ours(self) -> list[OwnDocument]:
        documents = self.world.app.documents.values()
        return [
            self.describe(document)
            for document in documents
            if not document.is_deleted and not document.is_foreign
        ]

    def describe(self, document: Any) -> OwnDocument:
        """Describe a document; once searchable it stays so, since searches don't check the status."""
        now = self.world.app.clock.now()
        path = self.path_in(document.sent_name)
        is_found = any(phase.stat == 1 and phase.starts_at <= now for phase in document.phases)
        search_result = (path, document.content.decode()) if is_found else None
        return OwnDocument(
            document.id,
            document.sent_name,
            path,
            document.sha256,
            search_result,
            recipe=f"k{document.slicing.knowledge_type}",
        )

    def documents(self) -> dict[str, list[str]]:
        """Group documents by path; one of ours without today's prefix is surplus."""
        result = self.world.bytes_by_path()
        surplus = len(self.ours()) - sum(map(len, result.values()))
        return {**result, "(another name)": [""] * surplus} if surplus else result

    def uploads(self) -> list[tuple[str, str]]:
        naming = Naming(self.world.settings.prefix, self.world.settings.names)
        stored = ((naming.read(effect["name"]), effect["sha256"]) for effect in self.world.effects("stored"))
        return [((reading and reading.path) or "", digest) for reading, digest in stored]

    def request_count(self) -> int:
        return self.world.request_count()

    def touched(self) -> int:
        return len(self.world.foreign - {str(document["id"]) for document in self.world.documents()})

    def violations(self) -> list[str]:
        return [*self.world.violations(), *self._touched]

    def story(self) -> list[str]:
        began = self.world.clock.epoch
        last = self.world.app.journal()[-40:]
        events = [f"{e['at'] - began:.1f} {e['effect']} {e['name']} {e['id']}" for e in last]
        return [*events, repr(self.world.server.faults.all), repr(self.world.app.behaviour)]

    # -- other users and faults ------------------------------------------------------------------------------

    def add_foreign(self, name: str, text: str = STRANGE, **fields: Any) -> str:
        planted = self.world.plant(name, text, **fields)
        self._new_entries()
        return planted

    def take_away(self, document: OwnDocument) -> None:
        self.world.app.put_foreign({"delete": document.id})
        self._new_entries()

    def fault(self, op: str, kind: str) -> None:
        name, args = self.kinds[kind]
        self.world.play(name, op=self.ops.get(op, op), effect=kind == "done", args=dict(args))

    def fail_once(self, path: str) -> None:
        """Let the document fail permanently: reindexing fails too, and a new upload replaces it."""
        self.world.play("fails", op="upload", match=f"{path.removesuffix('.md')}*", args={"runs": 0})

    def come_late(self, path: str, after: float = 5.0) -> None:
        """Delay the next upload."""
        self.world.play("late-effect", op="upload", args={"after": after})

    def keep_deleted(self) -> None:
        self.world.play("keeps-document", op="delete")

    def provoke(self, op: str) -> None:
        """Let the service act so that a pass calls `op`, which it would not otherwise."""
        if op in self.provoking:
            kind, args = self.provoking[op]
            self.world.play(kind, op="upload", match="changed*", args=args)

    def arrive(self) -> None:
        self.world.server.late.run_all()

    def clock_was_set(self) -> None:
        """Keep the service's own clock, which dates its documents."""

    def heal(self) -> None:
        self.world.server.faults.clear()

    @asynccontextmanager
    async def target(self) -> AsyncIterator[Any]:
        clock = self.world.clock
        clock.busy, before = self.world.is_talking, clock.busy
        driver = asyncio.create_task(clock.drive())
        target = self.world.make_target()
        try:
            yield target
        finally:
            await self.world.bury()
            driver.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await driver
            clock.busy = before
