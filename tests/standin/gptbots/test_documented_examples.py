"""Compares the stand-in with requests and responses on the service's pages, and with their restrictions."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from kbsync_standin.faults import Fault
from kbsync_standin.gptbots import HOME_ID
from tests.standin.direct import Direct


class DirectGptbots(Direct):
    service = "gptbots"

    def ask(self, method: str, target: str, body: Any = None, **more: Any) -> Any:
        return json.loads(self.send(method, target, json=body, **more).body)

    def add(self, *names: str, fault: Fault | None = None, **fields: Any) -> Any:
        body = {"knowledge_base_id": HOME_ID, "files": [file(name) for name in names], "chunk_token": 600}
        return self.ask("POST", "/v1/bot/doc/text/add", {**body, **fields}, fault=fault)


def file(name: str, text: str = "Hello", **fields: Any) -> dict[str, Any]:
    return {
        "file_base64": base64.b64encode(text.encode()).decode(),
        "file_name": name,
        "source_url": "https://kbsync.invalid/handbook/test_1.txt",
        **fields,
    }


def test_add_returns_id_and_name_and_failures() -> None:
    payload = DirectGptbots().add("test_1.txt")
    [stored] = payload["doc"]
    assert stored["doc_name"] == "test_1.txt"
    assert len(stored["doc_id"]) == 24
    assert int(stored["doc_id"][:8], 16) == 1_699_843_200
    assert payload["failed"] == []


@pytest.fixture
def bot() -> DirectGptbots:
    return DirectGptbots()


def test_status_is_a_bare_array_and_finally_available(bot: DirectGptbots) -> None:
    [stored] = bot.add("test_1.txt")["doc"]
    where = f"/v1/bot/data/detail/list?data_ids={stored['doc_id']}"
    assert bot.ask("GET", where) == [{"data_id": stored["doc_id"], "data_status": "EMBEDDING"}]
    bot.now += 2
    assert bot.ask("GET", where) == [{"data_id": stored["doc_id"], "data_status": "AVAILABLE"}]


@pytest.mark.parametrize(("source_url", "is_kept"), [("", True), ("NULL", False)])
def test_empty_source_url_keeps_the_old_one_and_the_word_null_clears_it(
    bot: DirectGptbots, source_url: str, is_kept: bool
) -> None:
    [stored] = bot.add("a.txt")["doc"]
    bot.now += 5
    changed: dict[str, Any] = {"knowledge_base_id": HOME_ID, "chunk_token": 600}
    changed["files"] = [file("a.txt", "Bye", source_url=source_url) | {"doc_id": stored["doc_id"]}]
    bot.ask("PUT", "/v1/bot/doc/text/update", changed)
    bot.now += 5
    [row] = bot.ask("GET", f"/v1/bot/doc/query/page?knowledge_base_id={HOME_ID}&page=1&page_size=10")["list"]
    assert bool(row["source_url"]) is is_kept


def test_ids_encoded_together_are_one_unknown_id(bot: DirectGptbots) -> None:
    first, second = (document["doc_id"] for document in bot.add("a.txt", "b.txt")["doc"])
    assert len(bot.ask("GET", f"/v1/bot/data/detail/list?data_ids={first}&data_ids={second}")) == 2
    assert bot.ask("GET", f"/v1/bot/data/detail/list?data_ids={first}%26data_ids%3D{second}") == []


def test_update_keeps_the_id_and_serves_the_old_text_until_done(bot: DirectGptbots) -> None:
    [stored] = bot.add("test_1.txt")["doc"]
    bot.now += 2
    change = {"knowledge_base_id": HOME_ID, "chunk_token": 600}
    change["files"] = [file("test_1.txt", "Goodbye", doc_id=stored["doc_id"])]  # type: ignore[assignment]
    assert bot.ask("PUT", "/v1/bot/doc/text/update", change)["doc"] == [stored]
    question = {"prompt": "hello goodbye", "top_k": 3, "group_ids": [HOME_ID]}
    assert [passage["content"] for passage in bot.ask("POST", "/v1/vector/match", question)["list"]] == [
        "Hello"
    ]
    bot.now += 2
    assert [passage["content"] for passage in bot.ask("POST", "/v1/vector/match", question)["list"]] == [
        "Goodbye"
    ]


def test_empty_id_lists_search_nothing_and_both_lists_are_united(bot: DirectGptbots) -> None:
    [stored] = bot.add("test_1.txt")["doc"]
    bot.now += 2

    def count_hits(**among: list[str]) -> int:
        payload = bot.ask("POST", "/v1/vector/match", {"prompt": "hello", "top_k": 3, **among})
        return int(payload["total"])

    assert count_hits() == 1
    assert count_hits(group_ids=[]) == count_hits(data_ids=[]) == 0
    assert count_hits(group_ids=["other"], data_ids=[stored["doc_id"]]) == 1


def test_delete_always_says_ok(bot: DirectGptbots) -> None:
    ids = ",".join(document["doc_id"] for document in bot.add("a.txt", "b.txt")["doc"])
    assert bot.ask("DELETE", f"/v1/bot/doc/batch/delete?doc={ids},f00") == {"code": 0, "message": "OK"}
    listed = bot.ask("GET", f"/v1/bot/doc/query/page?knowledge_base_id={HOME_ID}&page=1&page_size=10")
    assert listed == {"list": [], "total": 0}


def test_key_of_another_region_is_40127() -> None:
    assert DirectGptbots().ask("GET", "/v1/bot/knowledge/base/page", key="other")["code"] == 40127


@pytest.mark.parametrize(
    "change",
    [
        {"chunk_token": None},
        {"chunk_token": 0},
        {"splitter": "\n"},
        {"header_row": 1},
        {"files": []},
        {"files": [file(f"{n}.txt") for n in range(11)]},
        {"files": [file("a.txt"), file("a.txt")]},
        {"files": [file("a.csv")]},
        {"files": [file("n" * 201 + ".txt")]},
        {"files": [file("sub/a.txt")]},
        {"files": [file("a.txt", "")]},
        {"files": [file("a.txt", source_url="local://a")]},
        {"files": [file("a.txt", source_url="https://kbsync.invalid/a b")]},
        {"files": [file("a.txt", "x" * 10_000_001)]},
        {"files": [{**file("a.txt"), "file_base64": "!"}]},
    ],
    ids=lambda change: str(change)[:40],
)
def test_documented_restrictions_are_enforced_and_recorded(
    bot: DirectGptbots, change: dict[str, Any]
) -> None:
    assert bot.add("a.txt", **change)["code"] == 40000
    assert len(bot.app.violations) == 1
    assert bot.app.snapshot()["documents"] == []


@pytest.mark.parametrize("size", ["9", "101", "", "ten"])
def test_page_size_is_10_to_100(size: str) -> None:
    where = f"/v1/bot/doc/query/page?knowledge_base_id={HOME_ID}&page=1&page_size={size}"
    assert DirectGptbots().ask("GET", where)["code"] == 40000


def test_foreign_deletion_by_id_or_name(bot: DirectGptbots) -> None:
    [first, _] = bot.add("a.txt", "b.txt")["doc"]
    bot.app.put_foreign({"delete": first["doc_id"]})
    bot.app.put_foreign({"delete": "b.txt"})
    assert [document["deleted"] for document in bot.app.snapshot()["documents"]] == [True, True]
    with pytest.raises(ValueError, match=r"b\.txt"):
        bot.app.put_foreign({"delete": "b.txt"})


MAKE = "/v1/bot/knowledge/base/create"


def test_base_is_created_and_returned_with_its_description(bot: DirectGptbots) -> None:
    created = bot.ask("POST", MAKE, {"name": "guides", "desc": "How to"})
    [_, row] = bot.ask("GET", "/v1/bot/knowledge/base/page")["knowledge_base"]
    assert created == {"knowledge_base_id": row["id"]}
    assert (row["name"], row["desc"], row["doc"]) == ("guides", "How to", 0)
    assert bot.app.violations == []


@pytest.mark.parametrize(
    "body",
    [
        {"name": "guides"},
        {"name": "guides", "desc": ""},
        {"name": "", "desc": "How to"},
        {"name": "guides", "desc": "How to", "graph_enable": "no"},
        {"name": "guides", "desc": "How to", "kg_ner_extraction_user_prompt": "people"},
        {"name": "guides", "desc": "How to", "model": "3"},
    ],
)
def test_base_with_missing_or_unknown_fields_is_refused(bot: DirectGptbots, body: Any) -> None:
    assert bot.ask("POST", MAKE, body)["code"] == 40000
    assert len(bot.app.violations) == 1
    assert len(bot.ask("GET", "/v1/bot/knowledge/base/page")["knowledge_base"]) == 1


def test_retry_covers_every_failed_document_of_the_bot_and_returns_the_count(bot: DirectGptbots) -> None:
    other = bot.ask("POST", MAKE, {"name": "guides", "desc": "How to"})["knowledge_base_id"]
    fails = Fault("fails", args={"name": "bad*"})
    bot.add("bad.txt", "good.txt", fault=fails)
    bot.add("bad too.txt", fault=fails, knowledge_base_id=other)
    bot.now += 2
    retry = "/v1/bot/data/retry/batch"
    assert bot.ask("POST", retry, {}, fault=fails) == {"affectCount": 2}
    assert bot.ask("POST", retry, {}) == {"affectCount": 0}
    bot.now += 2
    assert bot.ask("POST", retry, {}) == {"affectCount": 2}
    bot.now += 2
    assert all(document["serving"] for document in bot.app.snapshot()["documents"])
    assert bot.ask("POST", retry, {"doc_id": "f00"})["code"] == 40000


MATCH = "/v1/vector/match"


@pytest.mark.parametrize(
    "change",
    [
        {"embedding_rate": 1.1},
        {"embedding_rate": True},
        {"doc_correlation": 0.05},
        {"doc_correlation": 0.96},
        {"rerank_version": "BGE"},
        {"rerank": True},
        {"top_k": 51},
        {"group_ids": "all"},
    ],
    ids=str,
)
def test_search_accepts_the_documented_fields_within_their_limits(
    bot: DirectGptbots, change: dict[str, Any]
) -> None:
    legal = {"embedding_rate": 0, "doc_correlation": 0.95, "rerank_version": "BCE-Rerank"}
    assert bot.ask("POST", MATCH, {"prompt": "who", "top_k": 50, **legal}) == {"total": 0, "list": []}
    assert bot.ask("POST", MATCH, {"prompt": "who", "top_k": 50, **change})["code"] == 40000
    assert len(bot.app.violations) == 1
