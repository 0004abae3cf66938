"""The program with a knowledge base at Zhipu, run from outside: mirroring, looking, repairing, ending."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kbsync.core.names import Naming
from tests.cli.place import eventually
from tests.cli.test_once import ONCE_KEYS
from tests.cli.vendor import Desk, desk_in, digests_in


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with desk_in(tmp_path) as desk:
        yield desk
        assert desk.vendor.violations() == []


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A folder that is mirrored beside a document of somebody else. Tests must not change anything."""
    with desk_in(tmp_path_factory.mktemp("shelf")) as desk:
        desk.write("install.md", "# Installation\n\nRun the installer, then reset the password.\n")
        desk.write("guides/hours.txt", "The office opens at nine.\n\nThe office closes at five.\n")
        desk.write("guides/配置.md", "# 配置\n\n重置密码需要管理员权限。\n")
        old = desk.write("archive/office.md", "Long ago the office opens at ten.\n")
        os.utime(old, (1e9, 1e9))
        desk.write("empty.md", "")
        desk.vendor.plant("others.txt", "The office opens at nine. Not ours.")
        desk.once()
        yield desk
        assert desk.vendor.violations() == []


# -- mirroring -----------------------------------------------------------------------------------------


def test_a_pass_mirrors_and_says_what_was_done(desk: Desk) -> None:
    desk.write("a.md", "alpha")
    desk.write("sub/b.txt", "beta")
    desk.write("empty.md", "")
    ran = desk.go("--once", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert set(ran.json) == ONCE_KEYS
    [mirror] = ran.json["mirrors"]
    assert (mirror["name"], mirror["target"], mirror["halt"]) == ("handbook", "zhipu", None)
    assert (mirror["documents"]["ready"], mirror["documents"]["skipped"]) == (2, 1)
    assert ran.json["uploaded"] == 2
    (desk.docs / "empty.md").unlink()
    assert desk.vendor.digests() == digests_in(desk.docs)

    desk.write("a.md", "alpha, changed")
    (desk.docs / "sub/b.txt").rename(desk.docs / "c.txt")
    again = desk.once()
    assert (again["uploaded"], again["replaced"], again["renamed"], again["deleted"]) == (0, 1, 1, 0)
    assert desk.vendor.digests() == digests_in(desk.docs)

    stored = len(desk.vendor.effects("stored"))
    os.utime(desk.docs / "a.md")
    third = desk.once()
    assert (third["uploaded"], third["replaced"], third["renamed"], third["deleted"]) == (0, 0, 0, 0)
    assert len(desk.vendor.effects("stored")) == stored


def test_plain_names_carry_no_tag_and_are_proven_by_their_bytes(desk: Desk) -> None:
    desk.aim("names: plain")
    desk.write("a.md", "alpha")
    desk.write("guides/b.md", "beta")
    desk.once()
    assert desk.vendor.names() == {"a.md", "guides__b.md"}
    (desk.state / "state.db").unlink()
    assert desk.once()["uploaded"] == 0
    assert desk.vendor.asked("file") == 2
    desk.aim("names: tagged")
    desk.write("a.md", "alpha, changed")
    desk.once()
    [tagged] = desk.vendor.names() - {"guides__b.md"}
    assert tagged == Naming().name("a.md", *digests_in(desk.docs)["a.md"])


def test_two_mirrors_share_a_base_without_touching_each_other(desk: Desk) -> None:
    other = desk.root / "other"
    other.mkdir()
    config = desk.aim("prefix: one-\ndeletions: {hold_fraction: 1.0, hold_count: 100}")
    both = config.read_text()
    second = both.split("mirrors:\n")[1].replace(str(desk.docs), str(other))
    config.write_text(both + second.replace("name: handbook", "name: other").replace("one-", "two-"))
    for n in range(4):
        desk.write(f"{n}.md", f"first {n}")
        (other / f"{n}.md").write_text(f"second {n}")
    assert desk.once()["uploaded"] == 8
    theirs = {one["id"] for one in desk.vendor.ours() if one["sent_name"].startswith("two-")}
    assert len(theirs) == 4

    for n in range(3):
        (desk.docs / f"{n}.md").unlink()
    desk.write("3.md", "first 3, changed")
    desk.once()
    assert theirs <= {one["id"] for one in desk.vendor.ours()}
    assert desk.vendor.digests(Naming("one-")) == digests_in(desk.docs)
    assert desk.vendor.digests(Naming("two-")) == digests_in(other)
    assert sorted(desk.found("second")) == [f"{n}.md" for n in range(4)]
    verified = desk.run("verify", "--json").json["mirrors"]
    assert [(each["ok"], each["foreign"]) for each in verified] == [(True, 0), (True, 0)]

    ran = desk.go("forget", "handbook", "--delete-documents", "--yes")
    assert ran.code == 0, ran.err
    assert {one["id"] for one in desk.vendor.ours()} == theirs


def test_forget_deletes_exactly_our_documents(desk: Desk) -> None:
    desk.write("a.md", "alpha")
    desk.write("b.md", "beta")
    desk.once()
    foreign = desk.vendor.plant("a.md", "somebody's alpha")
    twin = desk.vendor.plant(desk.vendor.document("b.md")["sent_name"], "beta, by somebody else")
    ran = desk.run("forget", "handbook", "--delete-documents")
    assert (ran.code, len(desk.vendor.ours())) == (2, 2)
    assert "--yes" in ran.err
    ran = desk.go("forget", "handbook", "--delete-documents", "--yes")
    assert ran.code == 0
    assert "2 documents deleted" in ran.out
    assert {one["id"] for one in desk.vendor.documents()} == {foreign, twin}


# -- looking -------------------------------------------------------------------------------------------


def test_hits_are_our_files_and_nobody_elses(shelf: Desk) -> None:
    ran = shelf.go("search", "office opens at nine", "--json")
    assert ran.code == 0
    hits = ran.json["hits"]
    assert [hit["path"] for hit in hits] == ["guides/hours.txt", "archive/office.md"]
    best = hits[0]
    assert best["abs_path"] == str(shelf.docs / "guides/hours.txt")
    assert best["document_id"] == shelf.vendor.document("guides/hours.txt")["id"]
    assert best["text"] == "The office opens at nine."
    assert [passage["text"] for passage in best["passages"]] == [best["text"], "The office closes at five."]
    assert best["score"] == best["passages"][0]["score"] > hits[1]["score"]
    assert shelf.found("需要管理员权限") == ["guides/配置.md"]
    none = shelf.run("search", "xylophone", "--json")
    assert (none.code, none.json) == (0, {"hits": []})


def test_a_search_goes_on_without_a_ranking_model_that_fails_and_says_so(desk: Desk) -> None:
    desk.write("a.md", "apples")
    desk.once()
    desk.vendor.play("code-in-200", op="retrieve", args={"code": 1311})
    ran = desk.go("search", "apples", "--rerank", "--files")
    assert (ran.code, ran.out.strip()) == (0, str(desk.docs / "a.md"))
    assert "without its ranking model" in ran.err
    assert "1311" in ran.err


def test_hits_of_a_service_and_of_the_embedded_base_are_merged_by_rank(desk: Desk) -> None:
    """Their scores mean different things: the better one of each comes before the worse one of any."""
    config = desk.aim()
    folder = desk.root / "own"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.md").write_text("office " + "and other words " * 8 * number)
        desk.write(f"{number}.md", "office " + "and other words " * 8 * number)
    config.write_text(config.read_text() + f"  - {{name: own, folder: {folder}, settle: 100ms}}\n")
    assert desk.go("--once").code == 0
    alone = {
        name: [hit["path"] for hit in desk.run("search", "office", "--mirror", name, "--json").json["hits"]]
        for name in ("handbook", "own")
    }
    hits = desk.run("search", "office", "--json").json["hits"]
    assert {name: [hit["path"] for hit in hits if hit["mirror"] == name] for name in alone} == alone
    ranks = [alone[hit["mirror"]].index(hit["path"]) for hit in hits]
    assert ranks == [0, 0, 1, 1, 2, 2]
    best = desk.run("search", "office", "--json", "-k", "2").json["hits"]
    assert {hit["mirror"] for hit in best} == {"handbook", "own"}


def test_status_names_the_vendors_ids(shelf: Desk) -> None:
    items = {item["path"]: item for item in shelf.status()["items"]}
    assert {path for path, item in items.items() if item["state"] == "ready"} == set(shelf.vendor.by_path())
    assert items["empty.md"]["state"] == "skipped"
    for path, [document] in shelf.vendor.by_path().items():
        assert items[path]["document_id"] == document["id"]
        assert items[path]["size"] == document["size"]
    assert shelf.run("status", "--check").code == 0


def test_a_ready_document_is_explained(shelf: Desk) -> None:
    ran = shelf.run("explain", "guides/hours.txt")
    assert ran.code == 0
    assert "It is searchable." in ran.out
    assert shelf.vendor.document("guides/hours.txt")["id"] in ran.out
    assert "The knowledge base says that the document is ready." in ran.out


def test_all_is_well_beside_a_document_of_somebody_else(shelf: Desk) -> None:
    ran = shelf.run("verify", "--json")
    assert ran.code == 0
    none: dict[str, list[str]] = {"missing": [], "stale": [], "orphaned": [], "duplicate": []}
    assert ran.json["mirrors"] == [{"name": "handbook", "ok": True, **none, "foreign": 1}]


# -- documents on their way, and documents that fail ------------------------------------------------------


def test_a_document_that_is_being_indexed_is_explained(desk: Desk) -> None:
    desk.vendor.turn(vectorize=[600, 600])
    desk.write("a.md", "alpha")
    process = desk.start("--once", "--json")
    eventually(lambda: desk.vendor.asked("detail") >= 2)
    told = desk.state_of("a.md")
    assert (told["state"], told["document_id"]) == ("indexing", None)
    ran = desk.go("explain", "a.md")
    assert "the knowledge base is still indexing it" in ran.out
    assert desk.vendor.document("a.md")["id"] in ran.out
    assert desk.found("alpha") == []
    desk.vendor.server.advance(600)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert desk.found("alpha") == ["a.md"]


def test_a_document_that_fails_is_told_in_the_vendors_words_and_tried_again(desk: Desk) -> None:
    desk.write("good.md", "alpha")
    desk.write("bad.md", "beta")
    desk.vendor.play("fails", op="upload", match="bad*", times=0, args={"runs": 0, "text": "无法解析此文件"})
    ran = desk.go("--once")
    assert ran.code == 1
    assert "bad.md" in ran.err
    assert "无法解析此文件" in ran.err
    assert "1 failed" in ran.out
    told = desk.state_of("bad.md")
    assert (told["state"], told["document_id"]) == ("failed", None)
    assert "无法解析此文件" in told["reason"]
    why = desk.go("explain", "bad.md").out
    assert "无法解析此文件" in why
    assert "kbsync retry bad.md" in why
    assert desk.run("status", "--check").code == 1

    tries = desk.vendor.asked("upload")
    assert desk.go("--once").code == 1
    assert desk.vendor.asked("upload") == tries

    desk.vendor.server.faults.clear()
    assert desk.go("retry", "bad.md").code == 0
    desk.once()
    assert desk.vendor.digests() == digests_in(desk.docs)


# -- verifying and repairing ---------------------------------------------------------------------------


def test_what_verify_finds_is_repaired_and_others_are_left_alone(desk: Desk) -> None:
    for n in range(8):
        desk.write(f"f{n}.md", f"text of f{n}")
    desk.once()
    desk.vendor.take_away(desk.vendor.document("f0.md")["id"])
    twin = desk.vendor.plant(desk.vendor.document("f1.md")["sent_name"], "text of f1")
    (desk.docs / "f2.md").unlink()
    desk.write("f3.md", "text of f3, changed")
    foreign = desk.vendor.plant("guide.md", "not ours")
    namesake = desk.vendor.plant(desk.vendor.document("f4.md")["sent_name"], "other bytes under our name")

    ran = desk.go("verify", "--json")
    assert ran.code == 1
    [found] = ran.json["mirrors"]
    assert (found["ok"], found["missing"], found["duplicate"]) == (False, ["f0.md"], ["f1.md"])
    assert (found["orphaned"], found["stale"]) == (["f2.md"], ["f3.md"])
    assert found["foreign"] == 2
    uploads = desk.vendor.asked("upload")
    repair = desk.go("verify", "--repair")
    assert repair.code == 1
    assert desk.vendor.asked("upload") == uploads

    desk.once()
    ours = {path: [one["sha256"] for one in them] for path, them in desk.vendor.by_path().items()}
    assert ours == digests_in(desk.docs)
    left = {one["id"] for one in desk.vendor.documents()}
    assert {foreign, namesake} <= left
    assert twin not in left
    assert desk.run("verify").code == 0


# -- deletions that ask ----------------------------------------------------------------------------------


# -- signals ---------------------------------------------------------------------------------------------


# -- signed tokens -------------------------------------------------------------------------------------
