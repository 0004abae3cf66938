"""Tests the account: journal, snapshot, changes by others, speed."""

from __future__ import annotations

import hashlib
import json

from kbsync_standin.forms import parse_form as parse
from kbsync_standin.zhipu import HOME_ID, ZhipuBehaviour
from tests.standin.zhipu.vendor import START, DirectZhipu


def test_journal_lists_effects_in_order(vendor: DirectZhipu) -> None:
    ident = vendor.put("a.txt", "one")
    vendor.clock.advance(7)
    vendor.call("DELETE", f"/document/{ident}")
    digest = hashlib.sha256(b"one").hexdigest()
    common = {"id": ident, "name": "a.txt", "sha256": digest}
    assert vendor.app.journal() == [
        {"n": 1, "at": START, "effect": "stored", **common},
        {"n": 2, "at": START + 7, "effect": "deleted", **common},
    ]


def test_snapshot_shows_the_actual_state(vendor: DirectZhipu) -> None:
    vendor.fault("stat", value=99)
    ident = vendor.put("a.txt", "one")
    deleted = vendor.put("b.txt")
    vendor.call("DELETE", f"/document/{deleted}")
    first, second = vendor.app.snapshot()["documents"]
    assert first == {
        "id": ident,
        "name": "a.txt",
        "sent_name": "a.txt",
        "base": HOME_ID,
        "size": 3,
        "sha256": hashlib.sha256(b"one").hexdigest(),
        "stat": 1,
        "searchable": True,
        "fail_info": None,
        "knowledge_type": 1,
        "created_ms": int(START * 1000),
        "foreign": False,
        "deleted": False,
        "address": "",
        "visits": 0,
    }
    assert (second["id"], second["deleted"], second["size"]) == (deleted, True, len("hello world"))
    json.dumps(vendor.app.snapshot())


def test_reading_the_snapshot_is_not_a_poll(vendor: DirectZhipu) -> None:
    vendor.fault("polls", n=1)
    ident = vendor.put()
    vendor.app.snapshot()
    assert vendor.stat(ident) == 0


def test_reset_leaves_one_empty_base(vendor: DirectZhipu) -> None:
    ident = vendor.put()
    vendor.app.set_behaviour({"order": "oldest", "base": "deleted"})
    vendor.call("GET", "/nowhere")
    vendor.app.reset()
    assert (vendor.app.journal(), vendor.app.violations) == ([], [])
    assert vendor.app.behaviour == ZhipuBehaviour()
    assert vendor.app.snapshot()["bases"] == [
        {"id": HOME_ID, "name": "handbook", "documents": 0, "hidden": False}
    ]
    assert vendor.call("GET", f"/document/{ident}").status == 404


def test_foreign_uploads_and_deletions(vendor: DirectZhipu) -> None:
    ours = vendor.put("ours.txt")
    foreign = vendor.app.put_foreign({"name": "theirs.csv", "text": "alpha,beta"})
    assert (foreign["foreign"], foreign["knowledge_type"], foreign["size"]) == (True, 3, 10)
    assert vendor.names() == ["theirs.csv", "ours.txt"]
    assert vendor.search("beta")[0]["metadata"]["doc_id"] == foreign["id"]
    assert vendor.app.put_foreign({"delete": ours})["deleted"]
    vendor.app.put_foreign({"delete": "theirs.csv"})
    assert vendor.names() == []
    assert vendor.effects() == ["stored", "foreign-stored", "foreign-deleted", "foreign-deleted"]


def test_better_passages_come_first_up_to_the_requested_number(vendor: DirectZhipu) -> None:
    vendor.put("a.txt", "printer\n\nprinter paper jam\r\n\r\nnothing")
    vendor.put("b.txt", "如何更换打印机纸张")
    hits = vendor.search("paper printer")
    assert [(hit["text"], hit["score"]) for hit in hits] == [("printer paper jam", 1.0), ("printer", 0.5)]
    assert len(vendor.search("paper printer", top_k=1)) == 1
    assert [hit["score"] for hit in vendor.search("paper printer", fractional_threshold=0.6)] == [1.0]
    assert [hit["metadata"]["doc_name"] for hit in vendor.search("打印机")] == ["b.txt"]


def test_form_content_may_contain_anything_but_its_boundary() -> None:
    content = b"x--B\r\n\r\n\r\n--b--\r\n--\x00\xff"
    body = b'--B\r\nContent-Disposition: form-data; name="x"\r\n\r\n' + content + b"\r\n--B--"
    assert parse("B", body)[0].content == content
