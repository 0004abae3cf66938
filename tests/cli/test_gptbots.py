"""A mirror into GPTBots as real processes beside a real stand-in."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kbsync_standin.faults import Fault
from kbsync_standin.gptbots import HOME_ID, application
from kbsync_standin.server import Server
from tests import warm

KEY = "app-secret-for-tests"


class Place:
    """A folder, a config, and the stand-in."""

    def __init__(self, root: Path, server: Server) -> None:
        self.root, self.server = root, server
        (root / "docs").mkdir()
        (root / "kb.yaml").write_text(
            "mirrors:\n  - name: docs\n    folder: ./docs\n    settle: 100ms\n"
            '    documents: [{match: "faq.csv", gptbots: {kind: qa}}]\n'
            f"    target: {{type: gptbots, base_url: '{server.url}', api_key: {KEY},\n"
            f"      knowledge_base_id: {HOME_ID}, vectorization: {{poll_first: 100ms}}}}\n"
        )

    def write(self, name: str, text: str) -> None:
        (self.root / "docs" / name).write_text(text)
        time.sleep(0.15)

    def go(self, *words: str) -> subprocess.CompletedProcess[str]:
        return warm.run([*words, "--config", "kb.yaml", "--state-dir", "state"], cwd=self.root, text=True)

    def documents(self) -> dict[str, dict[str, Any]]:
        there = self.server.app.snapshot()["documents"]
        return {one["name"]: one for one in there if not one["deleted"]}


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    server = Server(application(KEY))
    with server.in_thread():
        yield Place(tmp_path, server)
    assert server.app.violations == []


def test_a_folder_is_mirrored_searched_and_verified(place: Place) -> None:
    place.write("bees.md", "# Bees\n\nA hive stands under the apple tree.\n")
    place.write("faq.csv", "question,answer\nwho,me\n")
    first = place.go("--once", "--json")
    assert first.returncode == 0, first.stderr
    before = place.documents()
    assert {name: one["kind"] for name, one in before.items()} == {"bees.md": "text", "faq.csv": "qa"}
    place.write("bees.md", "# Bees\n\nThe hive was moved to the meadow.\n")
    assert json.loads(place.go("--once", "--json").stdout)["replaced"] == 1
    assert place.documents()["bees.md"]["id"] == before["bees.md"]["id"]
    found = place.go("search", "meadow", "--json")
    assert [hit["path"] for hit in json.loads(found.stdout)["hits"]] == ["bees.md"]
    assert place.go("verify").returncode == 0


def test_what_makes_the_id_of_a_base_does_not_need_it(place: Place) -> None:
    config = place.root / "kb.yaml"
    config.write_text(config.read_text().replace(f"knowledge_base_id: {HOME_ID}, ", ""))
    assert HOME_ID in place.go("kb", "list").stdout
    made = place.go("kb", "create", "first")
    assert made.returncode == 0, made.stderr
    assert made.stdout.startswith('knowledge_base_id: "')


@pytest.mark.parametrize("narrowing", [(), ("--type", "md")], ids=["all", "by-type"])
def test_better_hits_that_are_not_of_the_mirror_hide_none_of_it(
    place: Place, narrowing: tuple[str, ...]
) -> None:
    place.write("bees.md", "The hive was moved to the meadow.\n")
    assert place.go("--once").returncode == 0
    for number in range(3):
        better = {"name": f"{number}.md", "text": "red meadow", "source_url": ""}
        if number:
            better["source_url"] = f"https://kbsync.invalid/others/{number}.md#u={number}"
        place.server.app.put_foreign(better)
    found = json.loads(place.go("search", "red meadow", "-k", "3", *narrowing, "--json").stdout)["hits"]
    assert [hit["path"] for hit in found] == ["bees.md"]


def test_a_key_of_another_region_is_told_and_never_shown(place: Place) -> None:
    place.write("bees.md", "bees")
    place.server.app.set_behaviour({"key_revoked": True})
    ended = place.go("--once")
    assert ended.returncode == 3
    assert "region" in ended.stdout + ended.stderr
    assert KEY not in ended.stdout + ended.stderr


def test_a_page_that_refuses_one_request_halts_nothing(place: Place) -> None:
    page = {"status": 403, "body": "<html><title>Request blocked</title></html>"}
    for op in ("base", "add", "status", "list"):
        place.server.faults.add(Fault("status", op=op, effect=False, args=page))
    place.write("bees.md", "bees")
    ended = place.go("--once")
    assert ended.returncode == 0, ended.stderr
    assert set(place.documents()) == {"bees.md"}


def bases(place: Place) -> dict[str, str]:
    """Name by id of everything that is there."""
    listed = json.loads(place.go("kb", "list", "--json").stdout)["knowledge_bases"]
    return {one["id"]: one["name"] for one in listed}


def test_a_base_is_made_listed_and_shown(place: Place) -> None:
    place.write("bees.md", "bees")
    assert place.go("--once").returncode == 0
    made = place.go("kb", "create", "guides", "--description", "How to")
    assert made.returncode == 0, made.stderr
    key, _, value = made.stdout.strip().partition(": ")
    assert (key, bases(place)) == ("knowledge_base_id", {HOME_ID: "Default", value.strip('"'): "guides"})
    shown = json.loads(place.go("kb", "show", value.strip('"'), "--json").stdout)["knowledge_base"]
    assert (shown["name"], shown["description"], shown["documents"]) == ("guides", "How to", 0)
    own = json.loads(place.go("kb", "show", "--json").stdout)["knowledge_base"]
    assert (own["id"], own["documents"], own["ours"], own["mirrors"]) == (HOME_ID, 1, 1, ["docs"])
    again = place.go("kb", "create", "guides")
    assert (again.returncode, again.stdout) == (2, "")
    assert value.strip('"') in again.stderr
    unknown = place.go("kb", "show", "4711")
    assert (unknown.returncode, unknown.stdout) == (3, "")
    assert "kbsync kb list" in unknown.stderr


def test_a_base_is_made_with_what_its_service_has_to_set(place: Place) -> None:
    prompt = "Name the machines = and their parts."
    words = ["--set", "graph_enable=true", "--set", f"kg_ner_extraction_user_prompt={prompt}"]
    made = place.go("kb", "create", "guides", *words, "--json")
    assert made.returncode == 0, made.stderr
    told = {"graph_enable": "true", "kg_ner_extraction_user_prompt": prompt}
    assert json.loads(made.stdout)["knowledge_base"]["settings"] == told
    known = {one["id"]: one["settings"] for one in place.server.app.snapshot()["bases"]}
    sent = {"graph_enable": True, "kg_ner_extraction_user_prompt": prompt}
    assert known[json.loads(made.stdout)["knowledge_base"]["id"]] == sent


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["icon=book"], "it has: graph_enable, access_control_enabled, kg_ner_extraction_user_prompt"),
        (["graph_enable=maybe"], "allowed: false, true"),
        (["kg_ner_extraction_user_prompt=x"], "goes with graph_enable=true"),
        (["kg_ner_extraction_user_prompt=x", "graph_enable=false"], "goes with graph_enable=true"),
    ],
    ids=str,
)
def test_what_its_service_has_not_to_set_is_refused_before_anybody_is_asked(
    place: Place, settings: list[str], said: str
) -> None:
    ran = place.go("kb", "create", "guides", *(word for one in settings for word in ("--set", one)))
    assert (ran.returncode, ran.stdout) == (2, "")
    assert said in ran.stderr
    assert place.server.requests.total == 0


@pytest.mark.parametrize("kind", ["lost-answer", "code-after", "shape"])
def test_a_lost_answer_leaves_one_base_and_its_id_is_found(place: Place, kind: str) -> None:
    place.server.faults.add(Fault(kind, op="create-base"))
    made = place.go("kb", "create", "guides", "--json")
    assert made.returncode == 0, made.stderr
    there = [base_id for base_id, name in bases(place).items() if name == "guides"]
    assert there == [json.loads(made.stdout)["knowledge_base"]["id"]]


def test_a_base_that_was_not_made_is_not_claimed(place: Place) -> None:
    place.server.faults.add(Fault("code", op="create-base"))
    ran = place.go("kb", "create", "guides")
    assert (ran.returncode, ran.stdout) == (4, "")
    assert "kbsync kb list" in ran.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("models",), "models"),
        (("capacity",), "space"),
        (("update", HOME_ID, "--name", "other"), "console"),
        (("update", HOME_ID, "--model", "3"), "console"),
        (("delete", HOME_ID), "console"),
        (("delete", HOME_ID, "--yes", "Default"), "console"),
        (("create", "guides", "--model", "3"), "--model"),
    ],
)
def test_what_the_service_does_not_offer_is_said_before_anybody_is_asked(
    place: Place, words: tuple[str, ...], said: str
) -> None:
    ran = place.go("kb", *words)
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1), ran.stderr
    assert said in ran.stderr
    assert "deleted for good" not in ran.stderr
    assert bases(place) == {HOME_ID: "Default"}


def test_the_doctor_looks_at_the_service_and_shows_no_key(place: Place) -> None:
    ran = place.go("doctor", "--json")
    assert ran.returncode == 0, ran.stdout
    checks = {one["name"]: one["result"] for one in json.loads(ran.stdout)["checks"]}
    wanted = ("DNS", "connection", "key", "knowledge base")
    assert {checks[f"docs: {name}"] for name in wanted} == {"ok"}
    assert KEY not in ran.stdout + ran.stderr
    place.server.app.set_behaviour({"key_revoked": True})
    refused = place.go("doctor")
    assert refused.returncode == 3
    assert "wrong    docs: key" in refused.stdout
    place.server.app.set_behaviour({"key_revoked": False, "base": "deleted"})
    missing = place.go("doctor")
    assert missing.returncode == 3
    assert "ok       docs: key" in missing.stdout
    assert "wrong    docs: knowledge base" in missing.stdout


def test_a_ranking_model_orders_what_is_found_and_its_failure_is_said(place: Place) -> None:
    place.write("long.md", "red kestrel and many a word that nobody asked for")
    place.write("short.md", "kestrel")
    assert place.go("--once").returncode == 0

    def found(*words: str) -> tuple[list[str], str]:
        ran = place.go("search", "red kestrel", *words, "--json")
        assert ran.returncode == 0, ran.stderr
        return [hit["path"] for hit in json.loads(ran.stdout)["hits"]], ran.stderr

    assert found() == (["long.md", "short.md"], "")
    assert found("--rerank") == (["short.md", "long.md"], "")
    place.server.faults.add(Fault("code", op="match", args={"code": 40000, "message": "no such model"}))
    paths, said = found("--rerank")
    assert paths == ["long.md", "short.md"]
    assert "without its ranking model" in said
    assert "no such model" in said


def fail_once(place: Place) -> None:
    """A document of ours fails there for good."""
    config = place.root / "kb.yaml"
    config.write_text(config.read_text().replace("poll_first", "reembed_tries: 0, poll_first"))
    place.server.faults.add(Fault("fails", op="add", times=0, args={"name": "bees*"}))
    place.write("bees.md", "bees")
    place.write("wasps.md", "wasps")
    assert place.go("--once").returncode == 1
    place.server.faults.clear()


def serving(place: Place) -> set[str]:
    return {name for name, one in place.documents().items() if one["serving"]}


def test_a_retry_of_all_says_whom_it_concerns_and_wants_the_name_of_the_base(place: Place) -> None:
    fail_once(place)
    for words in ([], ["--yes", "yes"]):
        ran = place.go("kb", "retry", *words)
        assert (ran.returncode, ran.stdout) == (2, ""), ran.stderr
        assert "every failed document of the whole bot, in all of its knowledge bases" in ran.stderr
        assert "2 documents, 2 of them ours" in ran.stderr
    assert place.server.requests.by_op["retry"] == 0
    assert serving(place) == {"wasps.md"}
    ran = place.go("kb", "retry", "--yes", "Default")
    assert (ran.returncode, ran.stdout) == (0, "1 document will be indexed again\n"), ran.stderr
    assert serving(place) == {"wasps.md", "bees.md"}
    ran = place.go("kb", "retry", "--yes", "Default")
    assert (ran.returncode, ran.stdout) == (0, "nothing has failed there\n"), ran.stderr


def test_what_a_retry_of_all_mended_stays_failed_here_until_a_retry_of_ours(place: Place) -> None:
    fail_once(place)
    ran = place.go("kb", "retry", "--yes", "Default", "--json")
    assert json.loads(ran.stdout) == {"retried": 1}
    assert place.go("--once").returncode == 1
    assert place.go("retry").returncode == 0
    assert place.go("--once").returncode == 0
    assert serving(place) == {"wasps.md", "bees.md"}


def test_a_retry_of_all_with_a_lost_answer_is_sent_once_and_passing_trouble(place: Place) -> None:
    place.server.faults.add(Fault("lost-answer", op="retry"))
    ran = place.go("kb", "retry", "--yes", "Default")
    assert (ran.returncode, ran.stdout) == (4, ""), ran.stderr
    assert "no harm" in ran.stderr
    assert place.server.requests.by_op["retry"] == 1


def test_a_count_that_is_not_told_is_not_made_up(place: Place) -> None:
    place.server.faults.add(Fault("shape", op="retry", times=0))
    assert "does not say" in place.go("kb", "retry", "--yes", "Default").stdout
    assert json.loads(place.go("kb", "retry", "--yes", "Default", "--json").stdout) == {"retried": None}


def test_a_service_without_such_a_call_is_told(place: Place) -> None:
    place.server.faults.add(Fault("status", op="retry", effect=False, args={"status": 404}))
    ran = place.go("kb", "retry", "--yes", "Default")
    assert (ran.returncode, ran.stdout) == (2, ""), ran.stderr
    assert "no such call" in ran.stderr
