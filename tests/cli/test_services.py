"""The embedded knowledge base with vectors and ranking from a service, as real processes."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import warm

KEY = "id.secret-for-tests"
PNG = b"\x89PNG\r\n\x1a\n\x00 a beehive under an apple tree \x00\xff"


@dataclass
class Place:
    """A folder, a config, and the address of the stand-in."""

    root: Path
    url: str

    def configure(self, embedding: str, rerank: str = "{type: builtin}") -> None:
        (self.root / "kb.yaml").write_text(
            "mirrors:\n  - name: docs\n    folder: ./docs\n    settle: 100ms\n"
            "    target:\n      type: local\n"
            f"      embedding: {embedding}\n      rerank: {rerank}\n"
        )

    def service(self, dialect: str, **more: Any) -> str:
        path = {"zhipu": "zhipu/api/paas/v4", "tei": "tei"}.get(dialect, f"{dialect}/v1")
        block = {"type": dialect, "base_url": f"{self.url}/{path}", "api_key": KEY, "model": "words", **more}
        return json.dumps(block)

    def write(self, name: str, content: str | bytes) -> None:
        path = self.root / "docs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())

    def go(self, *words: str) -> subprocess.CompletedProcess[str]:
        return warm.run([*words, "--config", "kb.yaml", "--state-dir", "state"], cwd=self.root, text=True)

    def once(self) -> None:
        time.sleep(0.15)
        done = self.go("--once")
        assert done.returncode == 0, done.stderr

    def found(self, *words: str) -> list[str]:
        done = self.go("search", *words, "--json")
        assert done.returncode == 0, done.stderr
        return [hit["path"] for hit in json.loads(done.stdout)["hits"]]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    words = ["vectors", "--quiet"]
    with warm.Warm(words, module=warm.STANDIN, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        address = server.stdout.readline().split()[-1]
        (tmp_path / "docs").mkdir()
        try:
            yield Place(tmp_path, address)
        finally:
            server.terminate()


def test_what_a_service_embedded_and_ranked_is_found_and_without_it_still_found_by_words(
    place: Place,
) -> None:
    place.configure(place.service("openai"), place.service("jina"))
    place.write("bees.md", "bees make honey in a beehive")
    place.write("taxes.md", "the tax return is due in may")
    place.write("honey.md", "honey honey honey and more honey")
    place.once()
    assert place.found("bees make honey")[:2] == ["bees.md", "honey.md"]
    assert place.found("bees make honey", "--rerank")[0] == "bees.md"
    place.configure(place.service("openai"))
    refused = place.go("search", "bees", "--rerank")
    assert (refused.returncode, "target.rerank" in refused.stderr) == (2, True)
    place.configure(place.service("openai", base_url="http://127.0.0.1:9"), place.service("jina"))
    done = place.go("search", "tax return", "--json")
    assert [hit["path"] for hit in json.loads(done.stdout)["hits"]] == ["taxes.md"]
    assert "searched by words alone" in done.stderr
    place.configure(place.service("openai"), place.service("jina", base_url="http://127.0.0.1:9"))
    done = place.go("search", "tax return", "--json")
    assert json.loads(done.stdout)["hits"][0]["path"] == "taxes.md"
    assert "the order kbsync finds by itself" in done.stderr
    assert KEY not in done.stderr


def test_a_picture_is_found_by_text(place: Place) -> None:
    place.configure(place.service("newapi"))
    place.write("garden.png", PNG)
    place.write("taxes.md", "the tax return is due in may")
    place.write("broken.png", b"no picture")
    time.sleep(0.15)
    done = place.go("--once")
    assert done.returncode == 1
    assert "broken.png" in done.stderr
    assert place.found("a beehive under a tree")[0] == "garden.png"
    place.configure("{type: builtin}")
    plan = place.go("plan", "--json")
    assert json.loads(plan.stdout)["mirrors"][0]["delete"] == []  # not taken any more, and left


def test_a_ranking_by_texts_leaves_pictures_where_they_were_found(place: Place) -> None:
    place.configure(place.service("newapi"))
    place.write("garden.png", PNG)
    place.write("garden.md", "a beehive")
    for n in range(3):
        place.write(f"tree{n}.md", f"a tree {n}")
    place.once()
    plain = place.found("a beehive under an apple tree")
    place.configure(place.service("newapi"), place.service("jina"))
    ranked = place.found("a beehive under an apple tree")
    assert plain.index("garden.png") == ranked.index("garden.png") < 2
    assert set(ranked) == set(plain)


def test_another_model_indexes_anew_and_another_address_does_not(place: Place) -> None:
    place.configure(place.service("openai"))
    place.write("bees.md", "bees make honey in a beehive")
    place.once()
    place.configure(
        place.service("openai", base_url=place.url.replace("127.0.0.1", "localhost") + "/openai/v1")
    )
    plan = json.loads(place.go("plan", "--json").stdout)["mirrors"][0]
    assert (plan["reembed"], plan["unchanged"]) == ([], 1)
    place.configure(place.service("openai", model="other", dimensions=128))
    plan = json.loads(place.go("plan", "--json").stdout)["mirrors"][0]
    assert plan["reembed"] == ["bees.md"]
    place.once()
    assert place.found("bees") == ["bees.md"]


def test_a_model_that_is_not_served_halts_and_spends_no_document(place: Place) -> None:
    place.configure(place.service("zhipu", model="embeding-3"))
    for name in ("bees", "honey", "wax"):
        place.write(f"{name}.md", f"all about {name}")
    fault = json.dumps({"kind": "not-found", "times": 0}).encode()
    urllib.request.urlopen(f"{place.url}/_standin/faults", fault).close()
    time.sleep(0.15)
    done = place.go("--once")
    assert done.returncode == 3, done.stderr
    assert "embedding.model" in done.stderr
    status = json.loads(place.go("status", "--json").stdout)["mirrors"][0]
    assert (status["halt"]["reason"], status["documents"]["failed"]) == ("embedding-missing", 0)


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "status", "args": {"status": 403, "body": "<html><title>Request blocked</title></html>"}},
        {"kind": "bad-item", "times": 0, "args": {"word": "wax", "status": 403}},
    ],
    ids=["page once", "one text each time"],
)
def test_a_text_that_is_forbidden_halts_nothing_and_holds_no_other_back(
    place: Place, fault: dict[str, Any]
) -> None:
    place.configure(place.service("openai"))
    for name in ("bees", "honey", "wax"):
        place.write(f"{name}.md", f"all about {name}")
    urllib.request.urlopen(f"{place.url}/_standin/faults", json.dumps(fault).encode()).close()
    time.sleep(0.15)
    done = place.go("--once")
    status = json.loads(place.go("status", "--json").stdout)["mirrors"][0]
    assert status["halt"] is None
    failed = 1 if fault["kind"] == "bad-item" else 0
    assert (done.returncode, status["documents"]["ready"]) == (failed, 3 - failed)
    assert "wax.md" in done.stderr or not failed


def stutter(place: Place, **args: Any) -> None:
    """From now on the service gives no vector for a text the first times it is asked for."""
    fault = json.dumps({"kind": "stutter", "op": "embed", "times": 0, "args": args}).encode()
    urllib.request.urlopen(f"{place.url}/_standin/faults", fault).close()


@pytest.mark.parametrize("dialect", ["openai", "jina", "newapi", "zhipu", "tei", "vllm"])
def test_a_text_that_has_no_vector_at_first_is_asked_about_again(place: Place, dialect: str) -> None:
    """NaN, null, zeros and no list at all, each for one document."""
    place.configure(place.service(dialect))
    for name in ("bees", "honey", "wax", "hive"):
        place.write(f"{name}.md", f"all about {name}")
    place.write("other.md", "something else")
    stutter(place, word="about")
    place.once()
    status = json.loads(place.go("status", "--json").stdout)["mirrors"][0]
    assert (status["documents"]["ready"], status["halt"]) == (5, None)


def test_a_text_that_never_has_a_vector_is_quarantined_and_holds_no_other_back(place: Place) -> None:
    place.configure(place.service("openai"))
    for name in ("bees", "honey", "wax"):
        place.write(f"{name}.md", f"all about {name}")
    stutter(place, word="wax", n=1000)
    time.sleep(0.15)
    began = time.monotonic()
    done = place.go("--once")
    assert time.monotonic() - began < 30.0
    assert done.returncode == 1, done.stderr
    assert "wax.md" in done.stderr
    with urllib.request.urlopen(f"{place.url}/_standin/journal") as answer:
        asked = sum(entry["texts"] for entry in json.load(answer))
    assert asked <= 9  # three texts, the one of them a few times more, and a harmless one
    status = json.loads(place.go("status", "--json").stdout)["mirrors"][0]
    assert (status["documents"]["ready"], status["documents"]["failed"]) == (2, 1)
    again = place.go("--once")
    assert again.returncode == 1
    with urllib.request.urlopen(f"{place.url}/_standin/journal") as answer:
        assert sum(entry["texts"] for entry in json.load(answer)) == asked


def test_a_service_that_has_no_vector_for_anything_is_to_blame_and_no_document(place: Place) -> None:
    place.configure(place.service("openai"))
    for name in ("bees", "honey", "wax"):
        place.write(f"{name}.md", f"all about {name}")
    stutter(place, n=3)
    place.once()
    status = json.loads(place.go("status", "--json").stdout)["mirrors"][0]
    assert (status["documents"]["ready"], status["documents"]["failed"]) == (3, 0)


def test_a_refused_key_halts_and_says_which(place: Place) -> None:
    place.configure(place.service("openai", api_key="wrong"))
    place.write("bees.md", "bees make honey in a beehive")
    time.sleep(0.15)
    done = place.go("--once")
    assert done.returncode == 3, done.stderr
    assert "embedding.api_key" in done.stderr
    status = json.loads(place.go("status", "--json").stdout)["mirrors"][0]
    assert status["halt"]["reason"] == "credentials"
