"""The damage that others can do at each service, and our documents' form there, for `verify` to find."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from kbsync.core.names import Naming
from kbsync.targets.gptbots.config import MARKER_BASE
from kbsync.targets.lightrag.shapes import document_id
from kbsync.targets.openai.shapes import Mark
from kbsync.targets.openwebui.shapes import metadata_of
from kbsync_standin.dify.workspace import DifyDocument
from kbsync_standin.faults import Fault
from kbsync_standin.gptbots.bot import BotDocument
from kbsync_standin.lightrag.storage import LightragDocument
from kbsync_standin.openai.project import HOME_ID, Attached
from kbsync_standin.openwebui.store import File
from kbsync_standin.ragflow.datasets import RagflowDocument
from tests.bench.bench import OwnDocument
from tests.services.dify import DifyWorld
from tests.services.gptbots import GptbotsWorld
from tests.services.lightrag import LightragWorld
from tests.services.openai import OpenaiWorld
from tests.services.openwebui import OpenWebuiWorld
from tests.services.ragflow import RagflowWorld
from tests.torture.mess import Mess
from tests.torture.repairs import RepairedMirror, text_of

ANOTHER = 77777777
"""An upload of another kbsync's."""


class GptbotsMirror(RepairedMirror):
    """What is ours is told by an address beside it."""

    at = "gptbots"
    lists = (
        {"page_cap": 10},
        {"page_cap": 4, "page_beyond": "repeats"},
        {"page_cap": 10, "order": "shuffled", "total": "zero"},
        {"list_lag": 8.0},
        {"order": "oldest", "extra_fields": True, "unknown_ids": "refused"},
        {"stale_status": 5.0, "failed": "objects", "total": "string"},
    )
    trouble = (
        Fault("rate-limited", "status", times=2),
        Fault("unmarked", "list"),
        Fault("unmarked", "list", args={"cut": True}),
        Fault("shape", "list", args={"form": "nulls"}),
    )
    world: GptbotsWorld

    def messes(self) -> Sequence[Mess]:
        return (*super().messes(), self.lose_mark)

    def stored(self, remote_id: str) -> BotDocument:
        return self.world.app.documents[remote_id]

    def plant_copy(self, one: OwnDocument) -> str:
        url = self.stored(one.id).source_url
        return self.bench.add_foreign(one.name, text_of(one), source_url=url)

    def plant_replacement(self, one: OwnDocument) -> None:
        self.bench.add_foreign(one.name, self.new_text(), source_url="https://docs.example/theirs")

    def plant_lookalike(self, path: str, text: str) -> None:
        """Sometimes with our very bytes."""
        text = self.chance.choice((text, self.text(path)))
        digest = sha256(text.encode()).hexdigest()
        url = f"{MARKER_BASE}/{path}#sha256={digest}&u={ANOTHER}&r=t600"
        planted = self.bench.add_foreign(self.kept(path).name, text, source_url=url)
        self.expect_marked(planted, path, text)

    def undelete(self, one: OwnDocument) -> None:
        self.stored(one.id).deleted_at = None

    async def lose_mark(self) -> None:
        """Others clear the address of a document of ours, or cut it; it is told by its id."""
        path = self.chance.choice(sorted(self.steady))
        one = self.stored(self.kept(path).id)
        self.untold[one.id] = path
        one.source_url = self.chance.choice(("", one.source_url.partition("#")[0]))


class OpenaiMirror(RepairedMirror):
    """What is ours is told by attributes."""

    at = "openai"
    world: OpenaiWorld

    def messes(self) -> Sequence[Mess]:
        return (*super().messes(), self.lose_mark, self.detach)

    def stored(self, remote_id: str) -> Attached:
        store = self.world.app.bases[HOME_ID]
        return store.files.get(remote_id) or next(one for one in store.past if one.id == remote_id)

    def plant_copy(self, one: OwnDocument) -> str:
        return self.bench.add_foreign(one.name, text_of(one), attributes=self.stored(one.id).attributes)

    def plant_lookalike(self, path: str, text: str) -> None:
        """Sometimes with our very bytes."""
        text = self.chance.choice((text, self.text(path)))
        mark = Mark(path, sha256(text.encode()).hexdigest(), ANOTHER, "auto")
        planted = self.bench.add_foreign(path, text, attributes=mark.attributes("file-theirs"))
        self.expect_marked(planted, path, text)

    def give_name(self, one: OwnDocument, name: str) -> None:
        self.stored(one.id).attributes["path"] = name

    async def lose_mark(self) -> None:
        """Others set attributes of their own on a file of ours; it is told by its id."""
        path = self.chance.choice(sorted(self.steady))
        one = self.stored(self.kept(path).id)
        self.untold[one.id] = path
        one.attributes = self.chance.choice(({}, {"topic": "guides"}, {"path": path}))

    async def detach(self) -> None:
        """Others take a file of ours out of the store, and leave it in the project."""
        path = self.pick()
        self.world.app.detach(self.world.app.bases[HOME_ID], self.kept(path).id)
        self.want("missing", path)


class OgxMirror(OpenaiMirror):
    """At a server that speaks as OpenAI does, where files of equal text share their passages."""

    def __init__(self, place: Path, chance: random.Random) -> None:
        super().__init__(place, chance)
        self.world.turn(dialect="ogx")


class OpenWebuiMirror(RepairedMirror):
    """What is ours is told by metadata. Of files with one text the second is refused, so copies have more."""

    at = "openwebui"
    hidden = 1  # states are read from the list
    world: OpenWebuiWorld

    def messes(self) -> Sequence[Mess]:
        return (*super().messes(), self.move_ours, self.unlink)

    def stored(self, remote_id: str) -> File:
        return self.world.app.documents[remote_id]

    def plant_copy(self, one: OwnDocument) -> str:
        """Its text was told from ours before it came into the base."""
        there = self.stored(one.id)
        planted = self.world.app.store(there.name, there.content, "text/plain", dict(there.sent))
        planted.extracted = f"{there.content.decode()}\n\n(file {planted.id})"
        return planted.id

    def plant_lookalike(self, path: str, text: str) -> None:
        planted = self.stored(self.bench.add_foreign(path, text))
        digest = sha256(text.encode()).hexdigest()
        planted.sent |= metadata_of(ANOTHER, "1", path, digest, str(planted.sent["knowledge_id"]))
        self.expect_marked(planted.id, path, text)

    async def move_ours(self) -> None:
        """Others put a document of ours into a folder of theirs."""
        path = self.chance.choice(sorted(self.steady))
        one = self.stored(self.kept(path).id)
        self.untold[one.id] = path
        [base] = self.world.app.bases.values()
        base.folders["theirs"] = ("their guides", None)
        one.folder[base.id] = "theirs"

    async def unlink(self) -> None:
        """Others take a document of ours out of the base, and leave the file."""
        path = self.pick()
        [base] = self.world.app.bases.values()
        self.world.app.remove(self.stored(self.kept(path).id), base)
        self.want("missing", path)


class NamedMirror(RepairedMirror):
    """What is ours is told by its name and its length."""

    def messes(self) -> Sequence[Mess]:
        return (*super().messes(), self.take_name)

    @property
    def naming(self) -> Naming:
        return Naming("", self.world.settings.names)

    def their_text(self) -> str:
        """What others have under a name of ours. Where that has a tag, our length would be proof enough."""
        text = self.new_text()
        return text if self.naming.style == "plain" else f"{text}, and longer than any text of ours"

    def plant_named(self, name: str) -> None:
        """Others have another text under a name of ours."""
        planted = self.bench.add_foreign(name, self.their_text())
        if self.naming.style == "tagged":
            self.tagged.add(planted)

    def plant_replacement(self, one: OwnDocument) -> None:
        self.plant_named(one.name)

    def plant_lookalike(self, path: str, text: str) -> None:
        """Also under our very name, which proves nothing of other bytes."""
        if self.chance.random() >= 0.5:
            self.plant_named(self.kept(path).name)
        elif self.naming.style == "tagged":
            super().plant_lookalike(path, text)
        else:
            self.bench.add_foreign(self.naming.name(path, sha256(text.encode()).hexdigest()), text)

    async def take_name(self) -> None:
        """Others have the name that a file's next version would have; then it changes."""
        path, text = self.pick(), self.new_text()
        self.plant_named(self.naming.name(path, sha256(text.encode()).hexdigest()))
        self.world.write(path, text)
        self.want("stale", path)


class DifyMirror(NamedMirror):
    """Names may be plain: then bytes are read."""

    at = "dify"
    world: DifyWorld

    def stored(self, remote_id: str) -> DifyDocument:
        return self.world.app.documents[remote_id]

    def undelete(self, one: OwnDocument) -> None:
        self.stored(one.id).deleted_at = None


class RagflowMirror(NamedMirror):
    """A second document of a name gets a number."""

    at = "ragflow"
    hidden = 1  # states are read from the list
    world: RagflowWorld

    def messes(self) -> Sequence[Mess]:
        return (*super().messes(), self.parse_again)

    def stored(self, remote_id: str) -> RagflowDocument:
        return self.world.app.documents[remote_id]

    def undelete(self, one: OwnDocument) -> None:
        self.stored(one.id).deleted_at = None

    async def parse_again(self) -> None:
        """Others have a document of ours parsed once more, and it is not found meanwhile."""
        self.world.app.parse(self.stored(self.kept(self.pick()).id))


class LightragMirror(RepairedMirror):
    """A document is its name: there is no second one of it, none by another name, and no text twice."""

    at = "lightrag"
    hidden = 1  # states are read from the list
    world: LightragWorld

    def messes(self) -> Sequence[Mess]:
        return (
            self.delete_ours,
            self.make_lookalike,
            self.bring_back,
            self.keep_busy,
            self.come_late,
            self.leave,
            self.edit,
        )

    def stored(self, remote_id: str) -> LightragDocument:
        return self.world.app.documents[remote_id]

    def plant_copy(self, one: OwnDocument) -> str:
        """The bench would give it a name of its own."""
        return self.world.plant(one.name, text_of(one))

    def plant_lookalike(self, path: str, text: str) -> None:
        """Of the same path, by a name that proves other bytes."""
        self.lookalikes.add(self.world.plant(Naming().name(path, sha256(text.encode()).hexdigest()), text))

    def id_of(self, remote_id: str | None) -> str:
        return document_id(remote_id or "")

    async def keep_busy(self) -> None:
        """Others have the server at work on a deletion, which refuses everybody else meanwhile."""
        self.world.app.start_deletion(["doc-theirs"], 20.0, "")


REPAIRED: Mapping[str, type[RepairedMirror]] = {
    "gptbots": GptbotsMirror,
    "openai": OpenaiMirror,
    "ogx": OgxMirror,
    "openwebui": OpenWebuiMirror,
    "lightrag": LightragMirror,
    "dify": DifyMirror,
    "ragflow": RagflowMirror,
}
