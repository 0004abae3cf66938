"""The damage that others can do at each service, and our documents' form there, for `verify` to find."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from kbsync.core.names import Naming
from kbsync.targets.gptbots.config import MARKER_BASE
from kbsync.targets.lightrag.shapes import document_id
from kbsync.targets.openai.shapes import path_attributes
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
"""An upload id of another kbsync."""


class GptbotsMirror(RepairedMirror):
    """A mirror whose documents are marked by an address."""

    service = "gptbots"
    lists = (
        {"page_cap": 10},
        {"page_cap": 4, "page_beyond": "repeats"},
        {"page_cap": 10, "order": "shuffled", "total": "zero"},
        {"list_lag": 8.0},
        {"order": "oldest", "extra_fields": True, "unknown_ids": "refused"},
        {"stale_status": 5.0, "failed": "objects", "total": "string"},
    )
    faults = (
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

    def plant_copy(self, document: OwnDocument) -> str:
        url = self.stored(document.id).source_url
        return self.bench.add_foreign(document.name, text_of(document), source_url=url)

    def plant_replacement(self, document: OwnDocument) -> None:
        self.bench.add_foreign(document.name, self.new_text(), source_url="https://docs.example/theirs")

    def plant_lookalike(self, path: str, text: str) -> None:
        """Sometimes with the same bytes as ours."""
        text = self.chance.choice((text, self.text(path)))
        digest = sha256(text.encode()).hexdigest()
        url = f"{MARKER_BASE}/{path}#sha256={digest}&u={ANOTHER}&r=t600"
        planted = self.bench.add_foreign(self.document_of(path).name, text, source_url=url)
        self.expect_marked(planted, path, text)

    def undelete(self, document: OwnDocument) -> None:
        self.stored(document.id).deleted_at = None

    async def lose_mark(self) -> None:
        """Clear or shorten the address of one of our documents as another user; its id still identifies
        it.
        """
        path = self.chance.choice(sorted(self.steady))
        document = self.stored(self.document_of(path).id)
        self.untold[document.id] = path
        document.source_url = self.chance.choice(("", document.source_url.partition("#")[0]))


class OpenaiMirror(RepairedMirror):
    """A mirror whose documents are marked by attributes."""

    service = "openai"
    world: OpenaiWorld

    def messes(self) -> Sequence[Mess]:
        return (*super().messes(), self.lose_mark, self.detach)

    def stored(self, remote_id: str) -> Attached:
        store = self.world.app.bases[HOME_ID]
        return store.files.get(remote_id) or next(
            document for document in store.past if document.id == remote_id
        )

    def plant_copy(self, document: OwnDocument) -> str:
        return self.bench.add_foreign(
            document.name, text_of(document), attributes=self.stored(document.id).attributes
        )

    def plant_lookalike(self, path: str, text: str) -> None:
        """Sometimes with the same bytes as ours."""
        text = self.chance.choice((text, self.text(path)))
        mark = f"{sha256(text.encode()).hexdigest()} {ANOTHER} auto"
        attributes = {"file_id": "file-theirs", "kbsync": mark, **path_attributes(path)}
        planted = self.bench.add_foreign(path, text, attributes=attributes)
        self.expect_marked(planted, path, text)

    def give_name(self, document: OwnDocument, name: str) -> None:
        self.stored(document.id).attributes["path"] = name

    async def lose_mark(self) -> None:
        """Set other attributes on one of our files as another user; its id still identifies it."""
        path = self.chance.choice(sorted(self.steady))
        document = self.stored(self.document_of(path).id)
        self.untold[document.id] = path
        document.attributes = self.chance.choice(({}, {"topic": "guides"}, {"path": path}))

    async def detach(self) -> None:
        """Remove one of our files from the store as another user, leaving it in the project."""
        path = self.pick()
        self.world.app.detach(self.world.app.bases[HOME_ID], self.document_of(path).id)
        self.want("missing", path)


class OgxMirror(OpenaiMirror):
    """A mirror at a server with OpenAI's API, where files of equal text share their passages."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        super().__init__(folder, chance)
        self.world.turn(dialect="ogx")


class OpenWebuiMirror(RepairedMirror):
    """A mirror whose documents are marked by metadata. The server refuses equal texts, so copies differ."""

    service = "openwebui"
    hidden = 1  # states are read from the list
    world: OpenWebuiWorld

    def messes(self) -> Sequence[Mess]:
        return (*super().messes(), self.move_ours, self.unlink)

    def stored(self, remote_id: str) -> File:
        return self.world.app.documents[remote_id]

    def plant_copy(self, document: OwnDocument) -> str:
        """Its text was made different before it entered the base."""
        original = self.stored(document.id)
        planted = self.world.app.store(original.name, original.content, "text/plain", dict(original.sent))
        planted.extracted = f"{original.content.decode()}\n\n(file {planted.id})"
        return planted.id

    def plant_lookalike(self, path: str, text: str) -> None:
        planted = self.stored(self.bench.add_foreign(path, text))
        digest = sha256(text.encode()).hexdigest()
        planted.sent |= metadata_of(ANOTHER, "1", path, digest, str(planted.sent["knowledge_id"]))
        self.expect_marked(planted.id, path, text)

    async def move_ours(self) -> None:
        """Move one of our documents into another user's folder."""
        path = self.chance.choice(sorted(self.steady))
        document = self.stored(self.document_of(path).id)
        self.untold[document.id] = path
        [base] = self.world.app.bases.values()
        base.folders["theirs"] = ("their guides", None)
        document.folder[base.id] = "theirs"

    async def unlink(self) -> None:
        """Remove one of our documents from the base as another user, leaving the file."""
        path = self.pick()
        [base] = self.world.app.bases.values()
        self.world.app.remove(self.stored(self.document_of(path).id), base)
        self.want("missing", path)


class NamedMirror(RepairedMirror):
    """A mirror whose documents are identified by name and length."""

    def messes(self) -> Sequence[Mess]:
        return (*super().messes(), self.take_name)

    @property
    def naming(self) -> Naming:
        return Naming("", self.world.settings.names)

    def their_text(self) -> str:
        """Return another user's text under our name. With a tag in the name, our length would be proof
        enough.
        """
        text = self.new_text()
        return text if self.naming.style == "plain" else f"{text}, and longer than any text of ours"

    def plant_named(self, name: str) -> None:
        """Upload another text under one of our names as another user."""
        planted = self.bench.add_foreign(name, self.their_text())
        if self.naming.style == "tagged":
            self.tagged.add(planted)

    def plant_replacement(self, document: OwnDocument) -> None:
        self.plant_named(document.name)

    def plant_lookalike(self, path: str, text: str) -> None:
        """Also under exactly our name, which proves nothing about other bytes."""
        if self.chance.random() >= 0.5:
            self.plant_named(self.document_of(path).name)
        elif self.naming.style == "tagged":
            super().plant_lookalike(path, text)
        else:
            self.bench.add_foreign(self.naming.name(path, sha256(text.encode()).hexdigest()), text)

    async def take_name(self) -> None:
        """Take the name of a file's next version as another user, then change the file."""
        path, text = self.pick(), self.new_text()
        self.plant_named(self.naming.name(path, sha256(text.encode()).hexdigest()))
        self.world.write(path, text)
        self.want("stale", path)


class DifyMirror(NamedMirror):
    """Names may be plain; then kbsync compares bytes."""

    service = "dify"
    world: DifyWorld

    def stored(self, remote_id: str) -> DifyDocument:
        return self.world.app.documents[remote_id]

    def undelete(self, document: OwnDocument) -> None:
        self.stored(document.id).deleted_at = None


class RagflowMirror(NamedMirror):
    """A second document with the same name gets a number."""

    service = "ragflow"
    hidden = 1  # states are read from the list
    world: RagflowWorld

    def messes(self) -> Sequence[Mess]:
        return (*super().messes(), self.parse_again)

    def stored(self, remote_id: str) -> RagflowDocument:
        return self.world.app.documents[remote_id]

    def undelete(self, document: OwnDocument) -> None:
        self.stored(document.id).deleted_at = None

    async def parse_again(self) -> None:
        """Let another user parse one of our documents again; searches miss it meanwhile."""
        self.world.app.parse(self.stored(self.document_of(self.pick()).id))


class LightragMirror(RepairedMirror):
    """A document is its name: there is no second one with it, none with another name, and no text twice."""

    service = "lightrag"
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

    def plant_copy(self, document: OwnDocument) -> str:
        """Use the document's own name; the bench would choose another one."""
        return self.world.plant(document.name, text_of(document))

    def plant_lookalike(self, path: str, text: str) -> None:
        """Add a document of the same path, under a name that proves other bytes."""
        self.lookalikes.add(self.world.plant(Naming().name(path, sha256(text.encode()).hexdigest()), text))

    def id_of(self, remote_id: str | None) -> str:
        return document_id(remote_id or "")

    async def keep_busy(self) -> None:
        """Keep the server busy with another user's deletion, so that it refuses all others."""
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
