"""The embedded knowledge base with vectors and ranking from a service."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbsync_standin.server import Server
from kbsync_standin.vectors import application
from tests.cli.place import Place

KEY = "id.secret-for-tests"
PNG = b"\x89PNG\r\n\x1a\n\x00 a beehive under an apple tree \x00\xff"


class PlaceWithServices(Place):
    """A place whose mirror asks the stand-in at `url` for vectors and orders."""

    def __init__(self, root: Path, url: str) -> None:
        super().__init__(root)
        self.url = url

    def aim(self, embedding: str, rerank: str = "{type: builtin}") -> None:
        self.configure(f"target: {{type: local, embedding: {embedding}, rerank: {rerank}}}")

    def service(self, dialect: str, **more: Any) -> str:
        block = {"type": dialect, "base_url": f"{self.url}/{dialect}/v1", "api_key": KEY, "model": "words"}
        return json.dumps({**block, **more})

    def once(self) -> None:
        done = self.run("--once")
        assert done.code == 0, done.err

    def found(self, *words: str) -> list[str]:
        done = self.run("search", *words, "--json")
        assert done.code == 0, done.err
        return [hit["path"] for hit in done.json["hits"]]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[PlaceWithServices]:
    server = Server(application(KEY))
    with server.in_thread():
        yield PlaceWithServices(tmp_path, server.url)


def test_what_a_service_embedded_and_ranked_is_found_and_without_it_still_found_by_words(
    place: PlaceWithServices,
) -> None:
    place.aim(place.service("openai"), place.service("jina"))
    place.write("bees.md", "bees make honey in a beehive")
    place.write("taxes.md", "the tax return is due in may")
    place.write("honey.md", "honey honey honey and more honey")
    place.once()
    assert place.found("bees make honey")[:2] == ["bees.md", "honey.md"]
    assert place.found("bees make honey", "--rerank")[0] == "bees.md"
    place.aim(place.service("openai"))
    refused = place.run("search", "bees", "--rerank")
    assert (refused.code, "target.rerank" in refused.err) == (2, True)
    place.aim(place.service("openai", base_url="http://127.0.0.1:9"), place.service("jina"))
    done = place.go("search", "tax return", "--json")  # a process: its log is not set up by other tests
    assert [hit["path"] for hit in done.json["hits"]] == ["taxes.md"]
    assert "searched by words alone" in done.err
    place.aim(place.service("openai"), place.service("jina", base_url="http://127.0.0.1:9"))
    done = place.go("search", "tax return", "--json")  # a process: its log is not set up by other tests
    assert done.json["hits"][0]["path"] == "taxes.md"
    assert "the order kbsync finds by itself" in done.err
    assert KEY not in done.err


def test_a_picture_is_found_by_text(place: PlaceWithServices) -> None:
    place.aim(place.service("newapi"))
    place.write("garden.png", PNG)
    place.write("taxes.md", "the tax return is due in may")
    place.write("broken.png", b"no picture")
    done = place.run("--once")
    assert done.code == 1
    assert "broken.png" in done.err
    assert place.found("a beehive under a tree")[0] == "garden.png"
    place.aim("{type: builtin}")
    plan = place.run("plan", "--json")
    assert plan.json["mirrors"][0]["delete"] == []  # not taken any more, and left


def test_a_ranking_by_texts_leaves_pictures_where_they_were_found(place: PlaceWithServices) -> None:
    place.aim(place.service("newapi"))
    place.write("garden.png", PNG)
    place.write("garden.md", "a beehive")
    for n in range(3):
        place.write(f"tree{n}.md", f"a tree {n}")
    place.once()
    plain = place.found("a beehive under an apple tree")
    place.aim(place.service("newapi"), place.service("jina"))
    ranked = place.found("a beehive under an apple tree")
    assert plain.index("garden.png") == ranked.index("garden.png") < 2
    assert set(ranked) == set(plain)


def test_another_model_indexes_anew_and_another_address_does_not(place: PlaceWithServices) -> None:
    place.aim(place.service("openai"))
    place.write("bees.md", "bees make honey in a beehive")
    place.once()
    place.aim(place.service("openai", base_url=place.url.replace("127.0.0.1", "localhost") + "/openai/v1"))
    plan = place.run("plan", "--json").json["mirrors"][0]
    assert (plan["reembed"], plan["unchanged"]) == ([], 1)
    place.aim(place.service("openai", model="other", dimensions=128))
    plan = place.run("plan", "--json").json["mirrors"][0]
    assert plan["reembed"] == ["bees.md"]
    place.once()
    assert place.found("bees") == ["bees.md"]
