from __future__ import annotations

from kbsync.contract.target import Accepted, PutOutcome
from kbsync.core.model import Upload, UploadState
from kbsync.engine.journal import Happened
from kbsync.engine.status import TARGET_STUCK
from kbsync.engine.target_health import TargetHealth
from kbsync.errors import Halted, Rejected, Unavailable, Unsure


def row(path: str) -> Upload:
    return Upload(1, 1, 1, path, path, path, "d", 1, "r", UploadState.SENDING)


def refused(count: int, code: str = "7", start: int = 0) -> list[tuple[Upload, PutOutcome]]:
    return [(row(f"f{start + i}"), Rejected("no", code=code)) for i in range(count)]


def test_a_success_another_code_or_the_same_document_starts_anew() -> None:
    accepted = (row("x"), Accepted("id"))
    assert TargetHealth().blame([*refused(4), accepted, *refused(4, start=9)]) is None
    assert TargetHealth().blame([*refused(4, "7"), *refused(4, "8")]) is None
    assert TargetHealth().blame([refused(1)[0]] * 20) is None


def test_a_target_that_is_down_is_left_alone_longer_each_time_and_as_long_as_it_wishes() -> None:
    health = TargetHealth()
    health.answered([Unavailable("busy")], 1, now=100.0)
    assert 100.0 < health.not_before < 101.0
    health.answered([Unsure("reset")], 1, now=140.0)
    assert health.not_before >= 160.0
    health.answered([Unavailable("busy", retry_after=90.0)], 1, now=150.0)
    assert health.not_before == 240.0
    health.answered([Unavailable("busy")], 2, now=250.0)
    assert health.down_since is None


def test_that_documents_are_accepted_proves_nothing_where_none_got_done() -> None:
    health = TargetHealth(halted=Halted(TARGET_STUCK, "none was searchable")).taken_up()
    health.accepted()
    assert not health.is_proven
    health = health.taken_up()  # halted again over something else meanwhile
    health.accepted()
    assert not health.is_proven
    health.went_well([Happened("document.ready", row("f0.md"))])
    assert health.is_proven and not health.is_stuck
