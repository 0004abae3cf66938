"""The program with a knowledge base at Zhipu, run from outside: mirroring, looking, repairing, ending."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from kbsync.core.names import Naming
from tests.cli.place import eventually
from tests.cli.test_once import ONCE_KEYS
from tests.cli.vendor import ZhipuPlace, digests_in, zhipu_place


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZhipuPlace]:
    """A folder that is mirrored beside a document of somebody else. Tests must not change anything."""
    with zhipu_place(tmp_path_factory.mktemp("shared")) as zhipu:
        zhipu.write("install.md", "# Installation\n\nRun the installer, then reset the password.\n")
        zhipu.write("guides/hours.txt", "The office opens at nine.\n\nThe office closes at five.\n")
        zhipu.write("guides/配置.md", "# 配置\n\n重置密码需要管理员权限。\n")
        old = zhipu.write("archive/office.md", "Long ago the office opens at ten.\n")
        os.utime(old, (1e9, 1e9))
        zhipu.write("empty.md", "")
        zhipu.vendor.plant("others.txt", "The office opens at nine. Not ours.")
        zhipu.once()
        yield zhipu
        assert zhipu.vendor.violations() == []


# -- mirroring -----------------------------------------------------------------------------------------


def test_a_pass_mirrors_and_says_what_was_done(zhipu: ZhipuPlace) -> None:
    zhipu.write("a.md", "alpha")
    zhipu.write("sub/b.txt", "beta")
    zhipu.write("empty.md", "")
    ran = zhipu.go("--once", "--json")
    assert (ran.code, ran.err) == (0, "")
    assert set(ran.json) == ONCE_KEYS
    [mirror] = ran.json["mirrors"]
    assert (mirror["name"], mirror["target"], mirror["halt"]) == ("handbook", "zhipu", None)
    assert (mirror["documents"]["ready"], mirror["documents"]["skipped"]) == (2, 1)
    assert ran.json["uploaded"] == 2
    (zhipu.docs / "empty.md").unlink()
    assert zhipu.vendor.digests() == digests_in(zhipu.docs)

    zhipu.write("a.md", "alpha, changed")
    (zhipu.docs / "sub/b.txt").rename(zhipu.docs / "c.txt")
    again = zhipu.once()
    assert (again["uploaded"], again["replaced"], again["renamed"], again["deleted"]) == (0, 1, 1, 0)
    assert zhipu.vendor.digests() == digests_in(zhipu.docs)

    stored = len(zhipu.vendor.effects("stored"))
    os.utime(zhipu.docs / "a.md")
    third = zhipu.once()
    assert (third["uploaded"], third["replaced"], third["renamed"], third["deleted"]) == (0, 0, 0, 0)
    assert len(zhipu.vendor.effects("stored")) == stored


def test_plain_names_carry_no_tag_and_are_proven_by_their_bytes(zhipu: ZhipuPlace) -> None:
    zhipu.aim("names: plain")
    zhipu.write("a.md", "alpha")
    zhipu.write("guides/b.md", "beta")
    zhipu.once()
    assert zhipu.vendor.names() == {"a.md", "guides__b.md"}
    (zhipu.state / "state.db").unlink()
    assert zhipu.once()["uploaded"] == 0
    assert zhipu.vendor.asked("file") == 2
    zhipu.aim("names: tagged")
    zhipu.write("a.md", "alpha, changed")
    zhipu.once()
    [tagged] = zhipu.vendor.names() - {"guides__b.md"}
    assert tagged == Naming().name("a.md", *digests_in(zhipu.docs)["a.md"])


def test_two_mirrors_share_a_base_without_touching_each_other(zhipu: ZhipuPlace) -> None:
    other = zhipu.root / "other"
    other.mkdir()
    config = zhipu.aim("prefix: one-\ndeletions: {hold_fraction: 1.0, hold_count: 100}")
    both = config.read_text()
    second = both.split("mirrors:\n")[1].replace(str(zhipu.docs), str(other))
    config.write_text(both + second.replace("name: handbook", "name: other").replace("one-", "two-"))
    for n in range(4):
        zhipu.write(f"{n}.md", f"first {n}")
        (other / f"{n}.md").write_text(f"second {n}")
    assert zhipu.once()["uploaded"] == 8
    theirs = {one["id"] for one in zhipu.vendor.ours() if one["sent_name"].startswith("two-")}
    assert len(theirs) == 4

    for n in range(3):
        (zhipu.docs / f"{n}.md").unlink()
    zhipu.write("3.md", "first 3, changed")
    zhipu.once()
    assert theirs <= {one["id"] for one in zhipu.vendor.ours()}
    assert zhipu.vendor.digests(Naming("one-")) == digests_in(zhipu.docs)
    assert zhipu.vendor.digests(Naming("two-")) == digests_in(other)
    assert sorted(zhipu.found("second")) == [f"{n}.md" for n in range(4)]
    verified = zhipu.run("verify", "--json").json["mirrors"]
    assert [(each["ok"], each["foreign"]) for each in verified] == [(True, 0), (True, 0)]

    ran = zhipu.go("forget", "handbook", "--delete-documents", "--yes")
    assert ran.code == 0, ran.err
    assert {one["id"] for one in zhipu.vendor.ours()} == theirs


def test_forget_deletes_exactly_our_documents(zhipu: ZhipuPlace) -> None:
    zhipu.write("a.md", "alpha")
    zhipu.write("b.md", "beta")
    zhipu.once()
    foreign = zhipu.vendor.plant("a.md", "somebody's alpha")
    twin = zhipu.vendor.plant(zhipu.vendor.document("b.md")["sent_name"], "beta, by somebody else")
    ran = zhipu.run("forget", "handbook", "--delete-documents")
    assert (ran.code, len(zhipu.vendor.ours())) == (2, 2)
    assert "--yes" in ran.err
    ran = zhipu.go("forget", "handbook", "--delete-documents", "--yes")
    assert ran.code == 0
    assert "2 documents deleted" in ran.out
    assert {one["id"] for one in zhipu.vendor.documents()} == {foreign, twin}


# -- looking -------------------------------------------------------------------------------------------


def test_hits_are_our_files_and_nobody_elses(shared: ZhipuPlace) -> None:
    ran = shared.go("search", "office opens at nine", "--json")
    assert ran.code == 0
    hits = ran.json["hits"]
    assert [hit["path"] for hit in hits] == ["guides/hours.txt", "archive/office.md"]
    best = hits[0]
    assert best["abs_path"] == str(shared.docs / "guides/hours.txt")
    assert best["document_id"] == shared.vendor.document("guides/hours.txt")["id"]
    assert best["text"] == "The office opens at nine."
    assert [passage["text"] for passage in best["passages"]] == [best["text"], "The office closes at five."]
    assert best["score"] == best["passages"][0]["score"] > hits[1]["score"]
    assert shared.found("需要管理员权限") == ["guides/配置.md"]
    none = shared.run("search", "xylophone", "--json")
    assert (none.code, none.json) == (0, {"hits": []})


def test_a_search_goes_on_without_a_ranking_model_that_fails_and_says_so(zhipu: ZhipuPlace) -> None:
    zhipu.write("a.md", "apples")
    zhipu.once()
    zhipu.vendor.play("code-in-200", op="retrieve", args={"code": 1311})
    ran = zhipu.go("search", "apples", "--rerank", "--files")
    assert (ran.code, ran.out.strip()) == (0, str(zhipu.docs / "a.md"))
    assert "without its ranking model" in ran.err
    assert "1311" in ran.err


def test_hits_of_a_service_and_of_the_embedded_base_are_merged_by_rank(zhipu: ZhipuPlace) -> None:
    """Their scores mean different things: the better one of each comes before the worse one of any."""
    config = zhipu.aim()
    folder = zhipu.root / "own"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.md").write_text("office " + "and other words " * 8 * number)
        zhipu.write(f"{number}.md", "office " + "and other words " * 8 * number)
    config.write_text(config.read_text() + f"  - {{name: own, folder: {folder}, settle: 100ms}}\n")
    assert zhipu.go("--once").code == 0
    alone = {
        name: [hit["path"] for hit in zhipu.run("search", "office", "--mirror", name, "--json").json["hits"]]
        for name in ("handbook", "own")
    }
    hits = zhipu.run("search", "office", "--json").json["hits"]
    assert {name: [hit["path"] for hit in hits if hit["mirror"] == name] for name in alone} == alone
    ranks = [alone[hit["mirror"]].index(hit["path"]) for hit in hits]
    assert ranks == [0, 0, 1, 1, 2, 2]
    best = zhipu.run("search", "office", "--json", "-k", "2").json["hits"]
    assert {hit["mirror"] for hit in best} == {"handbook", "own"}


def test_status_names_the_vendors_ids(shared: ZhipuPlace) -> None:
    items = {item["path"]: item for item in shared.status()["items"]}
    assert {path for path, item in items.items() if item["state"] == "ready"} == set(shared.vendor.by_path())
    assert items["empty.md"]["state"] == "skipped"
    for path, [document] in shared.vendor.by_path().items():
        assert items[path]["document_id"] == document["id"]
        assert items[path]["size"] == document["size"]
    assert shared.run("status", "--check").code == 0


def test_a_ready_document_is_explained(shared: ZhipuPlace) -> None:
    ran = shared.run("explain", "guides/hours.txt")
    assert ran.code == 0
    assert "It is searchable." in ran.out
    assert shared.vendor.document("guides/hours.txt")["id"] in ran.out
    assert "The knowledge base says that the document is ready." in ran.out


def test_all_is_well_beside_a_document_of_somebody_else(shared: ZhipuPlace) -> None:
    ran = shared.run("verify", "--json")
    assert ran.code == 0
    none: dict[str, list[str]] = {"missing": [], "stale": [], "orphaned": [], "duplicate": []}
    assert ran.json["mirrors"] == [{"name": "handbook", "ok": True, **none, "foreign": 1}]


# -- documents on their way, and documents that fail ------------------------------------------------------


def test_a_document_that_is_being_indexed_is_explained(zhipu: ZhipuPlace) -> None:
    zhipu.vendor.turn(vectorize=[600, 600])
    zhipu.write("a.md", "alpha")
    process = zhipu.start("--once", "--json")
    eventually(lambda: zhipu.vendor.asked("detail") >= 2)
    told = zhipu.state_of("a.md")
    assert (told["state"], told["document_id"]) == ("indexing", None)
    ran = zhipu.go("explain", "a.md")
    assert "the knowledge base is still indexing it" in ran.out
    assert zhipu.vendor.document("a.md")["id"] in ran.out
    assert zhipu.found("alpha") == []
    zhipu.vendor.server.advance(600)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, b"")
    assert zhipu.found("alpha") == ["a.md"]


def test_a_document_that_fails_is_told_in_the_vendors_words_and_tried_again(zhipu: ZhipuPlace) -> None:
    zhipu.write("good.md", "alpha")
    zhipu.write("bad.md", "beta")
    zhipu.vendor.play("fails", op="upload", match="bad*", times=0, args={"runs": 0, "text": "无法解析此文件"})
    ran = zhipu.go("--once")
    assert ran.code == 1
    assert "bad.md" in ran.err
    assert "无法解析此文件" in ran.err
    assert "1 failed" in ran.out
    told = zhipu.state_of("bad.md")
    assert (told["state"], told["document_id"]) == ("failed", None)
    assert "无法解析此文件" in told["reason"]
    why = zhipu.go("explain", "bad.md").out
    assert "无法解析此文件" in why
    assert "kbsync retry bad.md" in why
    assert zhipu.run("status", "--check").code == 1

    tries = zhipu.vendor.asked("upload")
    assert zhipu.go("--once").code == 1
    assert zhipu.vendor.asked("upload") == tries

    zhipu.vendor.server.faults.clear()
    assert zhipu.go("retry", "bad.md").code == 0
    zhipu.once()
    assert zhipu.vendor.digests() == digests_in(zhipu.docs)


# -- verifying and repairing ---------------------------------------------------------------------------


def test_what_verify_finds_is_repaired_and_others_are_left_alone(zhipu: ZhipuPlace) -> None:
    for n in range(8):
        zhipu.write(f"f{n}.md", f"text of f{n}")
    zhipu.once()
    zhipu.vendor.take_away(zhipu.vendor.document("f0.md")["id"])
    twin = zhipu.vendor.plant(zhipu.vendor.document("f1.md")["sent_name"], "text of f1")
    (zhipu.docs / "f2.md").unlink()
    zhipu.write("f3.md", "text of f3, changed")
    foreign = zhipu.vendor.plant("guide.md", "not ours")
    namesake = zhipu.vendor.plant(zhipu.vendor.document("f4.md")["sent_name"], "other bytes under our name")

    ran = zhipu.go("verify", "--json")
    assert ran.code == 1
    [found] = ran.json["mirrors"]
    assert (found["ok"], found["missing"], found["duplicate"]) == (False, ["f0.md"], ["f1.md"])
    assert (found["orphaned"], found["stale"]) == (["f2.md"], ["f3.md"])
    assert found["foreign"] == 2
    uploads = zhipu.vendor.asked("upload")
    repair = zhipu.go("verify", "--repair")
    assert repair.code == 1
    assert zhipu.vendor.asked("upload") == uploads

    zhipu.once()
    ours = {path: [one["sha256"] for one in them] for path, them in zhipu.vendor.by_path().items()}
    assert ours == digests_in(zhipu.docs)
    left = {one["id"] for one in zhipu.vendor.documents()}
    assert {foreign, namesake} <= left
    assert twin not in left
    assert zhipu.run("verify").code == 0


# -- deletions that ask ----------------------------------------------------------------------------------


# -- signals ---------------------------------------------------------------------------------------------


# -- signed tokens -------------------------------------------------------------------------------------
