"""Counts the requests of a pass at each service, polls included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.remote.world import RemoteWorld
from tests.services.rows import ROWS
from tests.share import enumerated, long

Edit = Callable[[RemoteWorld], object]

FILES = 120
"""Mirrored before: more than one page of most lists has."""


def nothing(_world: RemoteWorld) -> None: ...


def lost_state(world: RemoteWorld) -> None:
    world.lose_state()


def new(world: RemoteWorld) -> None:
    world.write("new.md", "a new file")


def many_new(world: RemoteWorld) -> None:
    for number in range(100):
        world.write(f"deep/er/new{number}.md", f"new text {number}")


def changed(world: RemoteWorld) -> None:
    world.write("f1.md", "another text")


def many_changed(world: RemoteWorld) -> None:
    for number in range(100):
        world.write(f"f{number}.md", f"text {number} once more")


def moved(world: RemoteWorld) -> None:
    world.move("f1.md", "sub/moved.md")


def many_deleted(world: RemoteWorld) -> None:
    for number in range(20):
        world.delete(f"f{number}.md")


COSTS: dict[Edit, dict[str, dict[str, int]]] = {
    nothing: {service: {} for service in ROWS},
    lost_state: {
        "zhipu": {"list": 2},
        "gptbots": {"list": 4, "status": 3},
        "openai": {"base": 1, "list": 2, "files": 1},
        "openwebui": {"newest": 1, "list": 2},
        "lightrag": {"list": 2},
        "dify": {"list": 2},
        "ragflow": {"list": 2},
    },
    new: {
        "zhipu": {"capacity": 1, "upload": 1, "detail": 1},
        "gptbots": {"add": 1, "status": 1},
        "openai": {"upload": 1, "attach": 1, "status": 1},
        "openwebui": {"upload": 1, "list": 1},
        "lightrag": {"upload": 1, "list": 1},
        "dify": {"upload": 1, "detail": 1, "describe": 1},
        "ragflow": {"upload": 1, "describe": 1, "parse": 1, "list": 1},
        "ogx": {"upload": 1, "attach": 1},
    },
    many_new: {
        "zhipu": {"capacity": 1, "upload": 100, "list": 1},
        "gptbots": {"add": 12, "status": 2},
        "openai": {"upload": 100, "attach": 100, "list": 1},
        "openwebui": {"folders": 1, "make-folder": 2, "upload": 100, "list": 1},
        "lightrag": {"upload": 100, "list": 1},
        "dify": {"upload": 100, "list": 1, "describe": 1},
        "ragflow": {"upload": 100, "describe": 100, "parse": 12, "list": 1},
    },
    changed: {
        "zhipu": {"capacity": 1, "upload": 1, "detail": 1, "delete": 1},
        "gptbots": {"list": 2, "update": 1, "status": 1},
        "openai": {"upload": 1, "attach": 1, "status": 1, "delete": 1, "delete-file": 1},
        "openwebui": {"upload": 1, "list": 2, "cleanup": 1, "state": 1},
        "lightrag": {"upload": 1, "list": 1, "delete": 1, "deletion": 1},
        "dify": {"upload": 1, "detail": 1, "describe": 1, "delete": 1},
        "ragflow": {"upload": 1, "describe": 1, "parse": 1, "list": 1, "delete": 1},
        "ogx": {"upload": 1, "attach": 1, "list": 2, "text": 10, "delete": 1, "delete-file": 1},
    },
    many_changed: {
        "zhipu": {"capacity": 1, "upload": 100, "list": 1, "delete": 100},
        "gptbots": {"list": 5, "update": 4, "status": 2},
        "openai": {"upload": 100, "attach": 100, "list": 1, "delete": 100, "delete-file": 100},
        "openwebui": {"upload": 100, "list": 101, "cleanup": 100, "state": 100},
        "lightrag": {"upload": 100, "list": 1, "delete": 50, "deletion": 50},
        "dify": {"upload": 100, "list": 1, "describe": 1, "delete": 100},
        "ragflow": {"upload": 100, "describe": 100, "parse": 12, "list": 1, "delete": 12},
    },
    moved: {
        "zhipu": {"capacity": 1, "upload": 1, "detail": 1, "delete": 1},
        "gptbots": {"list": 2, "update": 1, "status": 1},
        "openai": {"status": 1, "rename": 1},
        "openwebui": {"folders": 1, "make-folder": 1, "move": 1, "rename": 1},
        "lightrag": {"delete": 1, "deletion": 1, "upload": 1, "list": 1},
        "dify": {"upload": 1, "detail": 1, "describe": 1, "delete": 1},
        "ragflow": {"upload": 1, "describe": 1, "parse": 1, "list": 1, "delete": 1},
        "ogx": {"status": 1, "rename": 1},
    },
    many_deleted: {
        "zhipu": {"delete": 20},
        "gptbots": {"base": 4, "delete": 4, "status": 4},
        "openai": {"delete": 20, "delete-file": 20},
        "openwebui": {"list": 20, "cleanup": 20, "state": 20},
        "lightrag": {"delete": 10, "deletion": 10},
        "dify": {"delete": 20},
        "ragflow": {"delete": 4},
    },
}
"""The requests of a pass besides its check of the base, by edit, service and operation."""


@long
@enumerated("service")
@pytest.mark.parametrize(("edit", "service"), [(edit, service) for edit in COSTS for service in COSTS[edit]])
async def test_pass_costs_few_requests(tmp_path: Path, edit: Edit, service: str) -> None:
    dialect = {"dialect": "ogx"} if service == "ogx" else {}
    world = ROWS["openai" if dialect else service].world(tmp_path, vectorize=(0.5, 0.5), **dialect)
    world.is_offline = True
    async with world.serving():
        await world.mirrored(FILES)
        world.clock.now += 10
        world.server.requests.clear()
        edit(world)
        await world.ends_equal()
        check = {"base": 1, "readers": 1} if dialect else {"base": 1}
        assert Counter(world.server.requests.by_op) <= Counter(COSTS[edit][service]) + Counter(check)
