"""The state machine over the real clients and the stand-ins, a row for each service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule

from kbsync_standin.faults import Fault
from tests.bench.dify import DifyBench
from tests.bench.gptbots import GptbotsBench
from tests.bench.lightrag import LightragBench
from tests.bench.openai import OpenaiBench
from tests.bench.openwebui import OpenWebuiBench
from tests.bench.ragflow import RagflowBench
from tests.bench.zhipu import ZhipuBench
from tests.engine.machine import MirrorMachine
from tests.remote.world import RemoteWorld
from tests.targets.dify.world import DifyWorld
from tests.targets.gptbots.world import GptbotsWorld
from tests.targets.lightrag.world import LightragWorld
from tests.targets.openai.world import OpenaiWorld
from tests.targets.openwebui.world import OpenWebuiWorld
from tests.targets.ragflow.world import RagflowWorld


@dataclass(frozen=True, slots=True)
class ServiceRow:
    """Where a mirror lives.

    `behaviours`: how the service may be taken to behave. `oddities`: what it does wrong besides what every
    service does: answers that say nothing, too much or the untruth. `names`: of its documents.
    """

    bench: type[ZhipuBench]
    world: type[RemoteWorld]
    behaviours: Sequence[dict[str, Any]]
    oddities: Sequence[Fault]
    names: Sequence[str] = ("tagged",)


def unclear(*ops: str) -> list[Fault]:
    """Requests that are carried out, or not, and whose answers do not say so."""
    return [
        fault
        for op in ops
        for fault in (
            Fault("cut-body", op),
            Fault("truncated-json", op),
            Fault("html", op, effect=False),
            Fault("status", op),
            Fault("status", op, effect=False, args={"status": 503}),
            Fault("late-effect", op, args={"after": 5}),
        )
    ]


SERVICES: Mapping[str, ServiceRow] = {
    "zhipu": ServiceRow(
        ZhipuBench,
        RemoteWorld,
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
            Fault("retrieve-empty", "retrieve"),
        ],
        ["tagged", "tagged", "plain"],
    ),
    "gptbots": ServiceRow(
        GptbotsBench,
        GptbotsWorld,
        [
            {},
            {},
            {"list_lag": 8.0, "order": "shuffled"},
            {"names": "bare", "total": "missing", "times": "ms"},
            {"stale_status": 5.0, "failed": "objects"},
        ],
        [
            *unclear("add"),
            *unclear("update"),
            Fault("left-out", "list"),
            Fault("left-out", "status"),
            Fault("keeps-documents", "delete"),
            Fault("truncated-json", "list"),
        ],
    ),
    "openai": ServiceRow(
        OpenaiBench,
        OpenaiWorld,
        [{}, {}, {"list_lag": 8.0}, {"extra_fields": True}, {"dialect": "ogx"}],
        [
            *unclear("upload"),
            *unclear("attach"),
            *unclear("put-back"),
            Fault("no-id", "upload"),
            Fault("fails", "attach"),
            Fault("stuck", "attach"),
            Fault("file-status", "status", args={"value": "SURPRISE"}),
            Fault("file-status", "list", args={"missing": True}),
            Fault("left-out", "list", args={"name": "f*"}),
            Fault("shape", "list", args={"form": "nulls"}),
            Fault("lost-answer", "files"),
            Fault("lost-answer", "rename"),
            Fault("lost-answer", "delete-file"),
            Fault("not-deleted", "delete-file"),
            Fault("keeps-file", "delete"),
            Fault("not-deleted", "delete"),
            Fault("unauthorized", "attach"),
        ],
    ),
    "openwebui": ServiceRow(
        OpenWebuiBench,
        OpenWebuiWorld,
        [{}, {}, {"page_size": 3}, {"looks_late": False}, {"extra_fields": True}, {"list_lag": 3.0}],
        [
            *unclear("upload"),
            Fault("no-id", "upload"),
            Fault("busy-database", "upload"),
            Fault("fails", "upload"),
            Fault("fails", "upload", args={"runs": 0}),
            Fault("stuck", "upload"),
            Fault("unlinked", "upload"),
            Fault("lost-answer", "move"),
            Fault("lost-answer", "rename"),
            Fault("lost-answer", "make-folder"),
            Fault("not-made", "make-folder"),
            Fault("lost-answer", "link"),
            Fault("lost-answer", "update"),
            Fault("odd-status", "state", args={"value": "SURPRISE"}),
            Fault("left-out", "list"),
            Fault("empty-list", "list"),
            Fault("shape", "list", args={"form": "nulls"}),
            Fault("keeps-files", "cleanup"),
            Fault("no-base", "list"),
        ],
    ),
    "lightrag": ServiceRow(
        LightragBench,
        LightragWorld,
        [{}, {}, {"list_lag": 3.0}, {"deleting": 5.0}, {"most_at_once": 3}, {"extra_fields": True}],
        [
            *unclear("upload"),
            Fault("name-taken", "upload"),
            Fault("not-stored", "upload"),
            Fault("clearing", "upload"),
            Fault("no-receipt", "upload"),
            Fault("no-receipt", "upload", args={"stored": True}),
            Fault("fails", "upload"),
            Fault("stuck", "upload"),
            Fault("left-out", "list", args={"name": "f*"}),
            Fault("status-word", "list", args={"value": "SURPRISE"}),
            Fault("shape", "list", args={"form": "nulls"}),
            Fault("busy", "delete"),
            Fault("keeps-document", "delete"),
            Fault("miscounts", "deletion"),
            Fault("slow", "delete", args={"seconds": 20}),
        ],
    ),
    "dify": ServiceRow(
        DifyBench,
        DifyWorld,
        [
            {},
            {},
            {"fresh": True},
            {"deleted": "number"},
            {"deleted": "object", "extra_fields": True},
            {"indexing_deletion": "refused"},
            {"files_url": "missing"},
            {"list_lag": 3.0, "page_cap": 3},
        ],
        [
            *unclear("upload"),
            Fault("no-lock", "upload"),
            Fault("no-id", "upload"),
            Fault("other-name", "upload"),
            Fault("fails", "upload"),
            Fault("stuck", "upload"),
            Fault("hidden", "upload"),
            Fault("odd-status", "list", args={"value": "paused"}),
            Fault("odd-status", "detail", args={"missing": True, "field": "indexing_status"}),
            Fault("left-out", "list", args={"name": "f*"}),
            Fault("shape", "list", args={"form": "nulls"}),
            Fault("not-found", "list"),
            Fault("keeps-document", "delete"),
            Fault("error-after", "delete", args={"status": 500, "code": "unknown"}),
            Fault("truncated-json", "file"),
        ],
        ["tagged", "tagged", "plain"],
    ),
    "ragflow": ServiceRow(
        RagflowBench,
        RagflowWorld,
        [
            {},
            {},
            {"ids_filter": False, "runs": "digits"},
            {"unknown_ids": "told", "no_ids": "all"},
            {"page_cap": 3, "page_beyond": "repeats", "total": "missing"},
            {"statuses": "mapped", "extra_fields": True},
            {"pipeline": True},
            {"list_lag": 3.0},
        ],
        [
            *unclear("upload"),
            Fault("lost-answer", "parse"),
            Fault("lost-answer", "parse", effect=False),
            Fault("no-id", "upload"),
            Fault("two-ids", "upload"),
            Fault("other-name", "upload"),
            Fault("begun-already", "parse"),
            Fault("fails", "parse"),
            Fault("stuck", "parse"),
            Fault("no-chunks", "parse"),
            Fault("stopped", "parse"),
            Fault("run", "list", args={"value": "SURPRISE"}),
            Fault("left-out", "list", args={"name": "f*"}),
            Fault("shape", "list", args={"form": "null"}),
            Fault("keeps-documents", "delete"),
            Fault("code-after", "delete", args={"code": 100}),
        ],
    ),
}


class ServiceMachine(MirrorMachine):
    """A mirror at a service."""

    at: ClassVar[ServiceRow]

    @initialize(
        behaviour=st.runner().flatmap(lambda machine: st.sampled_from(machine.at.behaviours)),
        indexing=st.sampled_from([0.0, 3.0]),
        names=st.runner().flatmap(lambda machine: st.sampled_from(machine.at.names)),
    )
    def begin(self, behaviour: dict[str, Any], indexing: float, names: str) -> None:
        self.note("begin", behaviour, indexing, names)
        world = self.at.world(Path(self.place.name), vectorize=(indexing, indexing), give_up=60.0)
        world.settings = replace(world.settings, names=names)
        world.turn(**behaviour)
        self.start(self.at.bench(world))

    @rule(oddity=st.runner().flatmap(lambda machine: st.sampled_from(machine.at.oddities)))
    def odd_answer(self, oddity: Fault) -> None:
        self.note("odd_answer", oddity)
        type(self).faults += 1
        self.bench.world.server.faults.add(oddity)

    def told_move(self, old: str, new: str) -> None:
        super().told_move(old, new)
        if self.bench.has_gaps_in_renames:
            self.oracle.made_anew([new])

    def change_prefix(self, prefix: str) -> None:
        """Where a text is taken once, what an old prefix has keeps out the same under the new one."""
        if not self.bench.has_gaps_in_renames:
            super().change_prefix(prefix)

    def begin_pass(self) -> None:
        """Where a text is taken once, somebody changes files that cannot be taken as they are.

        These are two with one text, and those that exchange theirs.
        """
        if not self.bench.has_gaps_in_renames:
            super().begin_pass()
            return
        texts: set[str] = set()
        files = self.oracle.files
        at = {one.digest: one for one in self.bench.ours() if not one.failed}
        for path, text in list(files.items()):
            one = at.get(sha256(text.encode()).hexdigest())
            is_elsewhere = one is not None and one.path != path
            if text in texts or (is_elsewhere and one.path in files):
                self.write(path, self.text())
            texts.add(files[path])
        super().begin_pass()

    def step_clock(self, seconds: float) -> None:
        """A lost update that looks longer absent than it is is made again while the first is on its way."""
        super().step_clock(seconds)
        if seconds > 0 and self.at.bench is GptbotsBench:
            self.bench.world.tolerated = "with the same bytes"


def machine(name: str) -> type[ServiceMachine]:
    """Of the mirror at this service."""
    return type(f"{name.title()}Machine", (ServiceMachine,), {"at": SERVICES[name]})
