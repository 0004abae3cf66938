"""Tests `kbsync verify`: comparing folder, state and knowledge base, and the requested repair."""

from __future__ import annotations

import shutil
from contextlib import closing

import apsw
import pytest

from tests.cli.sandbox import Sandbox, eventually
from tests.share import long


def test_verify_is_clean_after_a_pass(mirrored: Sandbox) -> None:
    result = mirrored.run("verify", "--json", "--folder", "docs")
    none: dict[str, list[str]] = {"missing": [], "stale": [], "orphaned": [], "duplicate": []}
    assert result.json == {"mirrors": [{"name": "docs", "ok": True, **none, "foreign": 0}]}
    assert mirrored.run("verify", "--folder", "docs").out == "docs: all is well\n"


@long
def test_verify_finds_stale_documents_and_repair_schedules_them(sandbox: Sandbox) -> None:
    sandbox.mirror({"a.md": "alpha"})
    sandbox.write("a.md", "alpha, changed")
    verification = sandbox.run("verify", "--json")
    assert (verification.code, verification.json["mirrors"][0]["stale"]) == (1, ["a.md"])
    before = sandbox.files()
    assert "stale      a.md" in sandbox.run("verify").out
    assert sandbox.files() == before

    repaired = sandbox.run("verify", "--repair")
    assert repaired.code == 1
    assert (
        "repair of handbook scheduled; the next pass will handle the request; "
        "to run a pass now: kbsync --once" in repaired.err
    )
    assert sandbox.run("--once", "--json").json["replaced"] == 1
    assert sandbox.run("verify").code == 0


@long
@pytest.mark.parametrize(
    ("damage", "missing"),
    [
        ("DELETE FROM chunk", ["a.md", "b.md"]),
        ("DELETE FROM chunk WHERE text LIKE '%kestrel%'", ["a.md"]),
        ("DELETE FROM run", ["a.md", "b.md"]),
        ("INSERT INTO words(words) VALUES ('delete-all')", ["a.md", "b.md"]),
    ],
)
def test_verify_finds_documents_without_passages(sandbox: Sandbox, damage: str, missing: list[str]) -> None:
    sandbox.mirror(
        {"a.md": "# Falcons\n\nThe kestrel.\n\n# Waders\n\nThe heron.\n", "b.md": "# Gulls\n\nThe tern.\n"}
    )
    with closing(apsw.Connection(str(sandbox.state / "kb/handbook/index.db"))) as index:
        index.execute(damage)
    verification = sandbox.run("verify", "--json")
    assert (verification.code, verification.json["mirrors"][0]["missing"]) == (1, missing)
    assert sandbox.run("verify", "--repair").code == 1
    assert sandbox.run("--once").code == 0
    for word, path in (("kestrel", "a.md"), ("heron", "a.md"), ("tern", "b.md")):
        hits = sandbox.run("search", word, "--json").json["hits"]
        having = [hit["path"] for hit in hits if any(word in passage["text"] for passage in hit["passages"])]
        assert having == [path]
    assert sandbox.run("verify").code == 0
    assert documents(sandbox) == ["a.md", "b.md"]


@long
def test_verify_names_a_folder_that_it_could_not_read(ordinary: Sandbox) -> None:
    ordinary.prepare(
        {"a.md": "alpha", "shut/b.md": "beta", "shut.md": "a file whose name begins like the folder's"}
    )
    assert ordinary.go("--once").code == 0
    (ordinary.docs / "shut").chmod(0)
    printed, verified = ordinary.go("verify"), ordinary.go("verify", "--json")
    (ordinary.docs / "shut").chmod(0o755)
    assert (printed.code, verified.code) == (1, 1)
    assert printed.out.splitlines() == [
        "unchecked  shut/  cannot be listed: permission denied; give the user who runs kbsync read access",
        "handbook: 1 unchecked",
    ]
    [mirror] = verified.json["mirrors"]
    assert (mirror["ok"], mirror["unchecked"], mirror["missing"]) == (False, ["shut/"], [])
    assert ordinary.go("verify").out == "handbook: all is well\n"


@long
def test_folder_excluded_from_the_mirror_needs_no_check(ordinary: Sandbox) -> None:
    ordinary.prepare({"a.md": "alpha", "shut/b.md": "beta"}, "exclude: [shut/]")
    assert ordinary.go("--once").code == 0
    (ordinary.docs / "shut").chmod(0)
    assert ordinary.go("verify").code == 0
    (ordinary.docs / "shut").chmod(0o755)


@long
def test_mirror_that_cannot_be_verified_is_named_after_the_reports_of_the_others(sandbox: Sandbox) -> None:
    sandbox.prepare({"a.md": "alpha"})
    for name in ("broken", "missing", "pets"):
        sandbox.add_mirror(name, {f"{name}.md": name})
    sandbox.once()
    (sandbox.state / "kb/broken/index.db").write_bytes(b"no database" * 1000)
    for file in (sandbox.state / "kb/missing").glob("index.db*"):
        file.unlink()
    result = sandbox.run("verify")
    assert (result.code, result.out) == (2, "handbook: all is well\npets: all is well\n")
    assert "kbsync: broken: " in result.err
    assert "index.db is damaged" in result.err
    assert "kbsync: missing: the index " in result.err
    assert "index.db doesn't exist; run: kbsync --once" in result.err
    result = sandbox.run("verify", "--json")
    mirrors = {mirror["name"]: mirror for mirror in result.json["mirrors"]}
    assert list(mirrors) == ["handbook", "broken", "missing", "pets"]
    assert [mirror["ok"] for mirror in mirrors.values()] == [True, False, False, True]
    assert "index.db is damaged" in mirrors["broken"]["error"]
    one_bad = ("--mirror", "broken", "--mirror", "pets")
    assert sandbox.run("verify", *one_bad).code == 4
    sandbox.run("verify", "--mirror", "broken", "--json").check_refusal(4, "index.db is damaged")


@long
def test_findings_of_several_mirrors_follow_the_name_of_their_mirror(sandbox: Sandbox) -> None:
    sandbox.prepare({"a.md": "alpha"})
    pets = sandbox.add_mirror("pets", {"b.md": "beta"})
    sandbox.once()
    sandbox.write("a.md", "alpha, changed")
    (pets / "b.md").write_text("beta, changed")
    lines = sandbox.run("verify").out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["handbook: 1 stale", "stale", "pets: 1 stale", "stale"]
    assert "a.md" in lines[1] and "b.md" in lines[3]
    # The result of one mirror comes last, where it stays on the screen.
    assert sandbox.run("verify", "--mirror", "pets").out.endswith("\npets: 1 stale\n")


def documents(sandbox: Sandbox) -> list[str]:
    with closing(apsw.Connection(str(sandbox.state / "kb/handbook/index.db"))) as index:
        return [path for (path,) in index.execute("SELECT path FROM document ORDER BY path")]


@long
def test_documents_of_a_deleted_knowledge_base_are_missing(sandbox: Sandbox) -> None:
    sandbox.mirror({"a.md": "alpha"})
    shutil.rmtree(sandbox.state / "kb/handbook")
    result = sandbox.run("verify", "--json")
    assert (result.code, result.json["mirrors"][0]["missing"]) == (1, ["a.md"])
    assert sandbox.run("verify", "--repair").code == 1
    assert sandbox.run("--once", "--json").json["uploaded"] == 1
    assert sandbox.run("verify").code == 0


@long
def test_running_kbsync_repairs_a_deleted_knowledge_base(sandbox: Sandbox) -> None:
    sandbox.prepare({"a.md": "alpha"})
    daemon = sandbox.watch(until="daemon.watching")
    eventually(lambda: sandbox.run("search", "alpha").out.startswith("a.md"))
    assert sandbox.run("verify").code == 0
    shutil.rmtree(sandbox.state / "kb/handbook")
    assert sandbox.run("verify", "--repair").code == 1
    eventually(lambda: sandbox.run("search", "alpha").out.startswith("a.md"))
    assert sandbox.run("verify").code == 0
    assert daemon.end() == 0


def test_each_mirror_without_a_pass_is_named_with_its_own_folder(sandbox: Sandbox) -> None:
    sandbox.configure()
    other = sandbox.add_mirror("other")
    result = sandbox.run("verify")
    lines = [
        f"kbsync: {name}: {folder} has not been mirrored yet; run: kbsync --once"
        for name, folder in (("handbook", sandbox.docs), ("other", other))
    ]
    assert (result.code, result.err.splitlines()) == (2, lines)
