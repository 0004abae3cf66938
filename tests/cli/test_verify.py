"""`kbsync verify`: folder against state against knowledge base, and the repair that is asked for."""

from __future__ import annotations

from tests.cli.place import Place


def test_verify_finds_nothing_wrong_after_a_pass(mirrored: Place) -> None:
    ran = mirrored.run("verify", "--json", "--folder", "docs")
    none: dict[str, list[str]] = {"missing": [], "stale": [], "orphaned": [], "duplicate": []}
    assert ran.json == {"mirrors": [{"name": "docs", "ok": True, **none, "foreign": 0}]}
    assert mirrored.run("verify", "--folder", "docs").out == "docs: all is well\n"


def test_verify_finds_what_is_stale_and_repair_asks_for_it(place: Place) -> None:
    place.write("a.md", "alpha")
    place.configure()
    place.run("--once")
    place.write("a.md", "alpha, changed")
    found = place.run("verify", "--json")
    assert (found.code, found.json["mirrors"][0]["stale"]) == (1, ["a.md"])
    before = place.files()
    assert "stale      a.md" in place.run("verify").out
    assert place.files() == before

    repaired = place.run("verify", "--repair")
    assert repaired.code == 1
    assert "repair of handbook scheduled; the next pass does it: kbsync --once" in repaired.err
    assert place.run("--once", "--json").json["replaced"] == 1
    assert place.run("verify").code == 0
