"""What trials at Zhipu and at GPTBots have of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from kbsync.core.names import Naming
from tests.remote.ordeal import CHANGED, Service
from tests.remote.world import RemoteWorld
from tests.targets.gptbots.world import GptbotsWorld

# -- Zhipu -------------------------------------------------------------------------------------------------


def _edit_little(world: RemoteWorld) -> None:
    """So that documents are looked at one by one."""
    world.clock.now += 10
    world.write("changed.md", CHANGED)
    world.delete("gone.md")


def _lose_state(world: RemoteWorld) -> None:
    """The state is lost: the list is read for what is there, and documents where names prove nothing."""
    world.clock.now += 10
    world.lose_state()
    world.write("new.md", "a new file")


_EDITS: Mapping[str, Callable[[RemoteWorld], None]] = {"detail": _edit_little, "file": _lose_state}


def _provoke(world: RemoteWorld, op: str) -> None:
    match op:
        case "list":
            world.play("lost-answer", op="upload", match="changed*")
        case "reembed":
            world.play("fails", op="upload", match="changed*", args={"runs": 1})
        case "retrieve":  # called unfinished for ever: a search decides
            world.play("stuck", op="upload", match="changed*", args={"searchable": True})


def _ready_once(world: RemoteWorld) -> set[str]:
    naming, now = Naming(world.settings.prefix, world.settings.names), world.clock.wall()
    return {
        reading.path
        for document in world.app._account.documents.values()
        if document.deleted is None and any(one.stat == 1 and one.at <= now for one in document.phases)
        if (reading := naming.read(document.sent_name)) is not None and reading.path is not None
    }


def _sent(world: RemoteWorld) -> Iterator[tuple[str, str]]:
    naming = Naming(world.settings.prefix, world.settings.names)
    for one in world.effects("stored"):
        reading = naming.read(one["name"])
        yield (reading.path if reading and reading.path else "", one["sha256"])


ZHIPU = Service(
    RemoteWorld, watched=("delete",), covered=_ready_once, sent=_sent, edits=_EDITS, provoke=_provoke
)

# -- GPTBots -----------------------------------------------------------------------------------------------


def _serving(world: GptbotsWorld) -> set[str]:
    """Everything a search finds, also what lost its marker or kept the one before."""
    return set(world.bytes_by_path(searchable=True))


def _delivered(world: GptbotsWorld) -> Iterator[tuple[str, str]]:
    for one in world.app.journal():
        if one["effect"] in ("stored", "updated"):
            yield (one["name"], one["sha256"])


GPTBOTS = Service(
    GptbotsWorld,
    watched=("add", "update", "status", "list", "delete"),
    covered=_serving,
    sent=_delivered,
    edits={"adoption": _lose_state},
)
