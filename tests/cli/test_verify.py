"""Tests `kbsync verify`: comparing folder, state and knowledge base, and the requested repair."""

from __future__ import annotations

import shutil
from contextlib import closing

import apsw
import pytest

from tests.cli.place import Place, eventually


def test_verify_is_clean_after_a_pass(mirrored: Place) -> None:
    ran = mirrored.run("verify", "--json", "--folder", "docs")
    none: dict[str, list[str]] = {"missing": [], "stale": [], "orphaned": [], "duplicate": []}
    assert ran.json == {"mirrors": [{"name": "docs", "ok": True, **none, "foreign": 0}]}
    assert mirrored.run("verify", "--folder", "docs").out == "docs: all is well\n"


def test_verify_finds_stale_documents_and_repair_schedules_them(place: Place) -> None:
    place.write("a.md", "alpha")
    place.configure()
    place.run("--once")
    place.write("a.md", "alpha, changed")
    verification = place.run("verify", "--json")
    assert (verification.code, verification.json["mirrors"][0]["stale"]) == (1, ["a.md"])
    before = place.files()
    assert "stale      a.md" in place.run("verify").out
    assert place.files() == before

    repaired = place.run("verify", "--repair")
    assert repaired.code == 1
    assert "repair of handbook scheduled; the next pass does this: kbsync --once" in repaired.err
    assert place.run("--once", "--json").json["replaced"] == 1
    assert place.run("verify").code == 0


@pytest.mark.parametrize(
    ("damage", "missing"),
    [
        ("DELETE FROM chunk", ["a.md", "b.md"]),
        ("DELETE FROM chunk WHERE text LIKE '%kestrel%'", ["a.md"]),
        ("DELETE FROM run", ["a.md", "b.md"]),
        ("INSERT INTO words(words) VALUES ('delete-all')", ["a.md", "b.md"]),
    ],
)
def test_verify_finds_documents_without_passages(place: Place, damage: str, missing: list[str]) -> None:
    place.write("a.md", "# Falcons\n\nThe kestrel.\n\n# Waders\n\nThe heron.\n")
    place.write("b.md", "# Gulls\n\nThe tern.\n")
    place.configure()
    assert place.run("--once").code == 0
    with closing(apsw.Connection(str(place.state / "kb/handbook/index.db"))) as index:
        index.execute(damage)
    verification = place.run("verify", "--json")
    assert (verification.code, verification.json["mirrors"][0]["missing"]) == (1, missing)
    assert place.run("verify", "--repair").code == 1
    assert place.run("--once").code == 0
    for word, path in (("kestrel", "a.md"), ("heron", "a.md"), ("tern", "b.md")):
        hits = place.run("search", word, "--json").json["hits"]
        having = [hit["path"] for hit in hits if any(word in passage["text"] for passage in hit["passages"])]
        assert having == [path]
    assert place.run("verify").code == 0
    assert documents(place) == ["a.md", "b.md"]


def documents(place: Place) -> list[str]:
    with closing(apsw.Connection(str(place.state / "kb/handbook/index.db"))) as index:
        return [path for (path,) in index.execute("SELECT path FROM document ORDER BY path")]


def test_repair_requested_for_one_base_does_not_affect_the_next(place: Place) -> None:
    place.write("a.md", "# Falcons\n\nThe kestrel.\n")
    place.configure()
    place.run("--once")
    with closing(apsw.Connection(str(place.state / "kb/handbook/index.db"))) as index:
        index.execute("DELETE FROM chunk")
    assert place.run("verify", "--repair").code == 1
    with closing(apsw.Connection(str(place.state / "state.db"))) as state:
        request = state.execute("SELECT at, verb, mirror, args FROM inbox").fetchall()
    place.run("--once")  # the damaged index is set aside, and the new one's documents get the same ids
    with closing(apsw.Connection(str(place.state / "state.db"))) as state:
        state.executemany("INSERT INTO inbox(at, verb, mirror, args) VALUES (?, ?, ?, ?)", request)
    assert place.run("--once", "--json").json["uploaded"] == 0
    assert documents(place) == ["a.md"]


def test_documents_of_a_deleted_knowledge_base_are_missing(place: Place) -> None:
    place.write("a.md", "alpha")
    place.configure()
    assert place.run("--once").code == 0
    shutil.rmtree(place.state / "kb/handbook")
    ran = place.run("verify", "--json")
    assert (ran.code, ran.json["mirrors"][0]["missing"]) == (1, ["a.md"])
    assert place.run("verify", "--repair").code == 1
    assert place.run("--once", "--json").json["uploaded"] == 1
    assert place.run("verify").code == 0


def test_running_kbsync_repairs_a_deleted_knowledge_base(place: Place) -> None:
    place.write("a.md", "alpha")
    place.configure()
    daemon = place.watch()
    daemon.wait_for_event("daemon.watching")
    eventually(lambda: place.run("verify").code == 0)
    shutil.rmtree(place.state / "kb/handbook")
    assert place.run("verify", "--repair").code == 1
    eventually(lambda: place.run("search", "alpha").out.startswith("a.md"))
    assert place.run("verify").code == 0
    assert daemon.end() == 0
