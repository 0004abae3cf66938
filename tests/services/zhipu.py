"""Zhipu for tests: its worlds, and its faults. The other services' worlds and benches are based on these."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from kbsync_standin.faults import Fault
from tests.bench.zhipu import ZhipuBench
from tests.conformance.served import ServedWorld
from tests.remote.world import RemoteWorld
from tests.services.row import ServiceRow, unclear


class ServedZhipu(ServedWorld):
    """A stand-in and a client on the same clock."""

    service = "zhipu"
    settings: ClassVar = {"max_bytes": 3_000_000}
    recipe_settings: ClassVar[Mapping[str, Any]] = {"knowledge_type": 5, "sentence_size": 200}
    neutral_settings: ClassVar[Mapping[str, Any]] = {"sentence_size": 200}  # it has no effect without type 5

    def failure(self, stem: str) -> Fault:
        """Documents fail once and are then indexed correctly."""
        return Fault("fails", op="upload", match=f"{stem}*", args={"runs": 1})


ROW = ServiceRow(
    ZhipuBench,
    RemoteWorld,
    ServedZhipu,
    [
        {},
        {},
        {"list_lag": 8.0, "detail_lag": 8.0},
        {"order": "shuffled", "page_cap": 3, "word": "tokenised"},
        {"ids": "number", "stale_stat": 5.0},
        {"names": "nfd", "total": "zero"},
        {"names": "suffixed", "word": "ignored"},
        {"equal_names": "refuse", "unknown_delete": "null", "deleted_detail": "null"},
        {"clock_skew": -7200.0, "list_lag": 3.0},
    ],
    [
        *unclear("upload"),
        Fault("code-in-200", "upload"),
        Fault("neither-list", "upload"),
        Fault("both-lists", "upload"),
        Fault("success-null", "upload"),
        Fault("unlisted", "upload", args={"seconds": 8}),
        Fault("fails", "upload", args={"runs": 1}),
        Fault("fails", "upload", args={"runs": 0}),
        Fault("polls", "upload", args={"n": 3}),
        Fault("relapse", "upload"),
        Fault("detail-missing", "upload", args={"seconds": 8}),
        Fault("detail-missing", "detail"),
        Fault("stat", "detail", args={"value": None}),
        Fault("truncated-json", "detail"),
        Fault("still-listed", "delete", args={"seconds": 30}),
        Fault("keeps-document", "delete"),
        Fault("delete-unknown", "delete", effect=False),
        Fault("status", "delete", effect=False),
        Fault("duplicates", "list", args={"n": 2}),
        Fault("left-out", "list"),
        Fault("list-null", "list"),
        Fault("total", "list", args={"value": 1}),
        Fault("truncated-json", "list"),
        Fault("no-date", "list"),
        Fault("unauthorized", "list"),
        Fault("base-gone", "list"),
        Fault("truncated-json", "file"),
        Fault("nothing-found", "retrieve"),
    ],
    ["tagged", "tagged", "plain"],
)
