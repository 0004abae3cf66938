"""Tests the account: journal, snapshot, changes by others, speed."""

from __future__ import annotations

import hashlib
import json

from kbsync_standin.forms import parse_form as parse
from kbsync_standin.zhipu import HOME_ID
from tests.standin.zhipu.client import DirectZhipu


def test_snapshot_shows_the_actual_state(service: DirectZhipu) -> None:
    service.fault("stat", value=99)
    ident = service.put("a.txt", "one")
    deleted = service.put("b.txt")
    service.call("DELETE", f"/document/{deleted}")
    first, second = service.app.snapshot()["documents"]
    assert first == {
        "id": ident,
        "name": "a.txt",
        "sent_name": "a.txt",
        "base": HOME_ID,
        "size": 3,
        "sha256": hashlib.sha256(b"one").hexdigest(),
        "stat": 1,
        "searchable": True,
        "knowledge_type": 1,
        "foreign": False,
        "deleted": False,
        "address": "",
    }
    assert (second["id"], second["deleted"], second["size"]) == (deleted, True, len("hello world"))
    json.dumps(service.app.snapshot())


def test_reading_the_snapshot_is_not_a_poll(service: DirectZhipu) -> None:
    service.fault("polls", n=1)
    ident = service.put()
    service.app.snapshot()
    assert service.stat(ident) == 0


def test_foreign_uploads_and_deletions(service: DirectZhipu) -> None:
    ours = service.put("ours.txt")
    foreign = service.app.put_foreign({"name": "theirs.csv", "text": "alpha,beta"})
    assert (foreign["foreign"], foreign["knowledge_type"], foreign["size"]) == (True, 3, 10)
    assert service.names() == ["theirs.csv", "ours.txt"]
    assert service.search("beta")[0]["metadata"]["doc_id"] == foreign["id"]
    assert service.app.put_foreign({"delete": ours})["deleted"]
    service.app.put_foreign({"delete": "theirs.csv"})
    assert service.names() == []
    assert service.effects() == ["stored", "foreign-stored", "foreign-deleted", "foreign-deleted"]


def test_better_passages_come_first_up_to_the_requested_number(service: DirectZhipu) -> None:
    service.put("a.txt", "printer\n\nprinter paper jam\r\n\r\nnothing")
    service.put("b.txt", "如何更换打印机纸张")
    hits = service.search("paper printer")
    assert [(hit["text"], hit["score"]) for hit in hits] == [("printer paper jam", 1.0), ("printer", 0.5)]
    assert len(service.search("paper printer", top_k=1)) == 1
    assert [hit["score"] for hit in service.search("paper printer", fractional_threshold=0.6)] == [1.0]
    assert [hit["metadata"]["doc_name"] for hit in service.search("打印机")] == ["b.txt"]


def test_form_content_may_contain_anything_but_its_boundary() -> None:
    content = b"x--B\r\n\r\n\r\n--b--\r\n--\x00\xff"
    body = b'--B\r\nContent-Disposition: form-data; name="x"\r\n\r\n' + content + b"\r\n--B--"
    assert parse("B", body)[0].content == content
