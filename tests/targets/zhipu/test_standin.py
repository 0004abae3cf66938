"""The target in front of the stand-in server, over TCP, with the vendor's documented traps switched on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from kbsync.contract.searching import Query
from kbsync.contract.target import Accepted, DocState, Listed, PutOutcome
from kbsync.errors import Halted, NameTaken, NotOffered, Rejected, Unavailable, Unsure
from kbsync.targets.zhipu.config import ZhipuTargetConfig
from kbsync.targets.zhipu.target import ZhipuTarget
from kbsync_standin.faults import Fault
from kbsync_standin.server import Server
from kbsync_standin.zhipu import HOME_ID, application
from tests.targets.blocks import around, block
from tests.targets.zhipu.vendor import document

NAME = "guide.md"
TEXT = b"# About kestrels\n\nThis guide explains the kestrel.\n"


class Scene:
    """A stand-in and the target that looks at it; the clock passes for both."""

    def __init__(self) -> None:
        self.app: Any = application()
        self.server = Server(self.app)

    async def open(self) -> None:
        await self.server.start()
        address, key = f"{self.server.url}/api", "id.secret-for-tests"
        self.target = ZhipuTarget(
            block(ZhipuTargetConfig, base_url=address, api_key=key, knowledge_id=HOME_ID),
            around("handbook"),
            wall=self.app.clock.now,
            sleep=self.sleep,
        )

    async def sleep(self, seconds: float) -> None:
        self.server.advance(seconds)

    def fault(self, kind: str, op: str, *, times: int = 1, effect: bool = True, **args: Any) -> None:
        self.server.faults.add(Fault(kind, op=op, times=times, effect=effect, args=args))

    async def put(self, text: bytes = TEXT) -> PutOutcome:
        [outcome] = await self.target.put([document(NAME, text)])
        return outcome

    async def stored(self) -> str:
        outcome = await self.put()
        assert isinstance(outcome, Accepted)
        return outcome.remote_id

    async def state(self, remote_id: str) -> DocState:
        return (await self.target.status([remote_id]))[remote_id].state

    async def listed(self) -> list[Listed]:
        return [one async for one in self.target.list()]

    def fill(self, count: int) -> set[str]:
        return {self.app.put_foreign({"name": f"{n}.md", "text": f"page {n}"})["id"] for n in range(count)}

    @property
    def documents(self) -> int:
        """How many are there now."""
        return sum(not one["deleted"] for one in self.app.snapshot()["documents"])


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """Nothing that the target sends breaks the vendor's rules."""
    scene = Scene()
    await scene.open()
    yield scene
    await scene.target.aclose()
    await scene.server.stop()
    assert scene.app.violations == []


# ---- one upload, whatever happens to it


@pytest.mark.parametrize(
    ("kind", "args", "effect", "outcome"),
    [
        ("lost-answer", {}, True, Unsure),
        ("lost-answer", {}, False, Unsure),
        ("cut-headers", {}, True, Unsure),
        ("cut-body", {}, True, Unsure),
        ("reset-reading", {}, True, Unsure),
        ("truncated-json", {}, True, Unsure),
        ("empty", {}, True, Unsure),
        ("html", {}, True, Unsure),
        ("status", {"status": 500}, True, Unsure),
        ("status", {"status": 503}, False, Unsure),
        ("code-in-200", {"code": 500}, True, Unsure),
        ("code-in-200", {"missing": True}, True, Unsure),
        ("error-shapes", {"shape": "detail-list"}, True, Unsure),
        ("both-lists", {}, True, Unsure),
        ("neither-list", {}, True, Unsure),
        ("success-null", {}, True, Unsure),
        ("status", {"status": 429, "retry_after": 2}, False, Unavailable),
        ("rate-limited", {"code": 1302}, True, Unavailable),
        ("redirect", {"to": "http://127.0.0.1:9/api"}, False, Unsure),
        ("redirect", {"to": "http://127.0.0.1:9/api"}, True, Unsure),
        ("rate-limited", {"code": 1113}, True, Halted),
        ("rate-limited", {"code": 1308}, True, Halted),
        ("unauthorized", {"code": 1003}, True, Halted),
        ("no-right", {}, True, Halted),
        ("status", {"status": 413}, False, Rejected),
        ("status", {"status": 435}, False, Rejected),
        ("failed-info", {}, True, Rejected),
        ("failed-info", {"reason": "文档名称已存在"}, True, NameTaken),
        ("failed-info", {"reason": "知识库空间不足"}, True, Rejected),  # the account has room
        ("failed-info", {"reason": "账户余额不足"}, True, Halted),
        ("bom", {}, True, Accepted),
        ("wrong-type", {}, True, Accepted),
        ("gzip", {}, True, Unsure),
        ("http10", {}, True, Accepted),
        ("connection-close", {}, True, Accepted),
        ("code-in-200", {"code": 200, "as_string": True}, True, Accepted),
        ("other-name", {"form": "suffixed"}, True, Accepted),
    ],
)
async def test_an_upload_ends_in_one_clear_way(
    scene: Scene, kind: str, args: dict[str, Any], effect: bool, outcome: type
) -> None:
    scene.fault(kind, "upload", effect=effect, **args)
    ended = await scene.put()
    assert type(ended) is outcome, ended
    assert scene.server.requests.by_op["upload"] == 1
    if not isinstance(ended, Accepted | Unsure):
        assert scene.documents == 0, "only what is unsure may have been stored"


async def test_what_was_unsure_is_found_by_its_name_and_time(scene: Scene) -> None:
    before = scene.app.clock.now()
    scene.fault("lost-answer", "upload")
    assert isinstance(await scene.put(), Unsure)
    [found] = await scene.listed()
    assert (found.name, found.size) == (NAME, len(TEXT))
    assert found.created is not None
    assert found.created >= before - 0.1


@pytest.mark.parametrize("form", ["nfd", "mojibake", "basename", "suffixed", "question_marks"])
async def test_the_name_the_vendor_gives_is_told(scene: Scene, form: str) -> None:
    scene.app.set_behaviour({"names": form})
    [outcome] = await scene.target.put([document("café 手册.md", TEXT)])
    assert isinstance(outcome, Accepted)
    [found] = await scene.listed()
    assert found.name == outcome.name or (outcome.name == "" and found.name == "café 手册.md")


async def test_equal_names_are_refused_where_the_vendor_does_so(scene: Scene) -> None:
    scene.app.set_behaviour({"equal_names": "refuse"})
    await scene.stored()
    assert type(await scene.put(b"other")) is NameTaken
    assert scene.documents == 1


async def test_a_full_account_stops_uploads_before_they_are_sent(scene: Scene) -> None:
    scene.app.set_behaviour({"capacity_bytes": 1000})
    await scene.stored()
    outcome = await scene.put(b"x" * 1000)
    assert isinstance(outcome, Halted)
    assert outcome.halt == "quota"
    assert "guide.md needs 1.0 kB" in outcome.reason
    assert scene.server.requests.by_op["upload"] == 1


@pytest.mark.parametrize("full", ["10001", "10002", "refused"])
async def test_an_account_that_turns_out_full_is_to_blame(scene: Scene, full: str) -> None:
    scene.app.set_behaviour({"capacity_bytes": 10, "full": full, "not_offered": ["capacity"]})
    outcome = await scene.put()
    if isinstance(outcome, Accepted):
        status = (await scene.target.status([outcome.remote_id]))[outcome.remote_id]
        assert (status.state, status.halt) == (DocState.FAILED, "quota")
    else:
        assert isinstance(outcome, Halted)
        assert outcome.halt == "quota"


@pytest.mark.parametrize(("room", "halt"), [(10, "quota"), (100_000, "")])
async def test_a_full_account_is_what_the_capacity_call_says(scene: Scene, room: int, halt: str) -> None:
    scene.fault("fails", "upload", code=10002, text="字数超出限制")
    outcome = await scene.put()
    assert isinstance(outcome, Accepted)
    scene.app.set_behaviour({"capacity_bytes": room})
    status = (await scene.target.status([outcome.remote_id]))[outcome.remote_id]
    assert (status.state, status.halt) == (DocState.FAILED, halt)
    assert "字数超出限制" in status.reason


# ---- lists and statuses

LISTS: list[dict[str, Any]] = [
    {},
    {"order": "oldest"},
    {"order": "shuffled"},
    {"page_cap": 10},
    {"page_cap": 50, "page_beyond": "repeats"},
    {"page_beyond": "repeats", "total": "missing"},
    {"total": "high"},
    {"total": "low"},
    {"total": "zero"},
    {"total": "string"},
    {"total": "missing", "page_cap": 10},
    {"total": "low", "page_cap": 50, "page_beyond": "repeats"},
    {"unstable_pages": True},
    {"unstable_pages": True, "page_cap": 50},
    {"ids": "number"},
    {"sparse": "missing"},
    {"sparse": "null"},
    {"extra_fields": True},
    {"clock_skew": -86_400.0},
]


@pytest.mark.parametrize("switches", LISTS, ids=str)
async def test_the_list_is_whole(scene: Scene, switches: dict[str, Any]) -> None:
    scene.app.set_behaviour(switches)
    ids = scene.fill(230)
    listed = [one.remote_id for one in await scene.listed()]
    assert sorted(listed) == sorted(ids)


@pytest.mark.parametrize("switches", LISTS, ids=str)
async def test_statuses_of_many_cost_few_requests(scene: Scene, switches: dict[str, Any]) -> None:
    scene.app.set_behaviour(switches)
    scene.fill(170)
    ids = scene.fill(60)
    states = await scene.target.status(sorted(ids))
    assert scene.server.requests.total <= len(ids)
    told = [one.state for one in states.values()]
    assert set(told) <= {DocState.READY, DocState.UNKNOWN}
    assert told.count(DocState.READY) >= 54
    if switches.get("order") != "shuffled" and "total" not in switches and not switches.get("page_cap"):
        assert scene.server.requests.total <= 3


@pytest.mark.parametrize(
    ("kind", "args"),
    [
        *(("duplicates", {"n": 5}), ("list-null", {}), ("list-null", {"form": "missing"}), ("total", {})),
        *(("total", {"value": "many"}), ("left-out", {"name": "7.md"}), ("truncated-json", {}), ("html", {})),
        *(("status", {"status": 502}), ("lost-answer", {}), ("cut-body", {}), ("code-in-200", {"code": 500})),
    ],
)
@pytest.mark.parametrize("skip", [0, 1])
async def test_one_bad_page_hides_no_document(
    scene: Scene, kind: str, args: dict[str, Any], skip: int
) -> None:
    ids = scene.fill(150)
    scene.server.faults.add(Fault(kind, op="list", skip=skip, args=args))
    assert {one.remote_id for one in await scene.listed()} == ids


async def test_an_empty_answer_that_lasts_is_not_an_empty_base(scene: Scene) -> None:
    scene.fill(5)
    scene.fault("list-null", "list", times=0)
    with pytest.raises(Unavailable):
        await scene.listed()


@pytest.mark.parametrize("form", ["list", "null", "missing"])
async def test_an_empty_base_is_empty(scene: Scene, form: str) -> None:
    scene.app.set_behaviour({"empty_list": form})
    assert await scene.listed() == []
    assert (await scene.target.base()).documents == 0


@pytest.mark.parametrize("form", ["string", "float"])
async def test_a_status_of_another_type_is_never_ready(scene: Scene, form: str) -> None:
    remote_id = await scene.stored()
    scene.app.set_behaviour({"stat_form": form})
    assert await scene.state(remote_id) is DocState.UNKNOWN
    assert await scene.target.is_searchable(remote_id, "kestrel.md")


async def test_a_document_becomes_ready_in_its_time(scene: Scene) -> None:
    scene.app.set_behaviour({"vectorize": (5.0, 5.0)})
    remote_id = await scene.stored()
    assert await scene.state(remote_id) is DocState.INDEXING
    assert not await scene.target.is_searchable(remote_id, "kestrel.md")
    scene.server.advance(5.0)
    assert await scene.state(remote_id) is DocState.READY


async def test_a_failure_is_cured_by_indexing_again(scene: Scene) -> None:
    scene.fault("fails", "upload")
    remote_id = await scene.stored()
    status = (await scene.target.status([remote_id]))[remote_id]
    assert (status.state, status.code, status.halt) == (DocState.FAILED, "10001", "")
    assert "文档损坏" in status.reason
    await scene.target.reembed(remote_id)
    assert await scene.state(remote_id) is DocState.READY


# ---- gone, missing, refused


@pytest.mark.parametrize("form", ["404", "code", "null"])
@pytest.mark.parametrize("code", [400, 404])
async def test_gone_is_gone_in_all_forms(scene: Scene, form: str, code: int) -> None:
    scene.app.set_behaviour({"deleted_detail": form, "unknown_delete": form, "missing_code": code})
    remote_id = await scene.stored()
    for _ in range(2):
        assert await scene.target.delete([remote_id]) == {remote_id: None}
    assert await scene.state(remote_id) is DocState.MISSING
    assert await scene.target.digest(remote_id) is None


@pytest.mark.parametrize("form", ["404", "code", "null"])
@pytest.mark.parametrize("code", [400, 404])
async def test_a_base_that_is_deleted_halts_every_call(scene: Scene, form: str, code: int) -> None:
    remote_id = await scene.stored()
    scene.app.set_behaviour(
        {"base": "deleted", "deleted_base": form, "deleted_detail": form, "missing_code": code}
    )
    calls: list[Callable[[], Awaitable[object]]] = [
        scene.target.base,
        scene.listed,
        lambda: scene.target.status([remote_id]),
        lambda: scene.target.search(Query("kestrel")),
        lambda: scene.target.reembed(remote_id),
    ]
    for call in calls[:3] if form == "null" else calls:  # to these two, no data is an answer like others
        with pytest.raises(Halted) as caught:
            await call()
        assert caught.value.halt == "knowledge-base-missing"
    outcomes = [await scene.put(), (await scene.target.delete([remote_id]))[remote_id]]
    if form == "null":
        assert type(outcomes.pop(0)) is Unsure
    assert {one.halt for one in outcomes if isinstance(one, Halted)} == {"knowledge-base-missing"}
    assert all(isinstance(one, Halted) for one in outcomes)


async def test_a_key_that_is_revoked_halts_and_comes_back(scene: Scene) -> None:
    remote_id = await scene.stored()
    scene.app.set_behaviour({"key_revoked": True})
    calls: list[Callable[[], Awaitable[object]]] = [
        scene.target.base,
        lambda: scene.target.status([remote_id]),
        scene.listed,
    ]
    for call in calls:
        with pytest.raises(Halted) as caught:
            await call()
        assert caught.value.halt == "credentials"
    outcome = await scene.put()
    assert isinstance(outcome, Halted)
    scene.app.set_behaviour({"key_revoked": False})
    assert await scene.state(remote_id) is DocState.READY


async def test_a_wrong_clock_is_named_when_the_key_is_refused(scene: Scene) -> None:
    scene.app.set_behaviour({"clock_skew": 7_200.0})
    await scene.target.base()
    scene.app.set_behaviour({"key_revoked": True})
    with pytest.raises(Halted, match="clock of this machine is 2 h 0 min behind"):
        await scene.target.base()


async def test_no_money_is_no_rate_limit(scene: Scene) -> None:
    scene.app.set_behaviour({"money_gone": True})
    outcome = await scene.put()
    assert isinstance(outcome, Halted)
    assert outcome.halt == "quota"
    assert scene.server.requests.by_op["upload"] == 1


async def test_calls_that_are_not_offered_are_done_without(scene: Scene) -> None:
    remote_id = await scene.stored()
    scene.app.set_behaviour({"not_offered": ["reembed", "reslice", "retrieve", "capacity", "url"]})
    for _ in range(2):
        with pytest.raises(NotOffered):
            await scene.target.reembed(remote_id)
        with pytest.raises(NotOffered):
            await scene.target.reslice(remote_id, NAME, {})
        with pytest.raises(NotOffered):
            await scene.target.search(Query("kestrel"))
    assert await scene.target.digest(remote_id) is None
    assert isinstance(await scene.put(b"more"), Accepted)
    assert scene.server.requests.by_op["reembed"] == 2
    assert scene.server.requests.by_op["reslice"] == 2


@pytest.mark.parametrize("form", ["missing", "null", "expired", "wrong"])
async def test_a_bad_address_gives_no_digest(scene: Scene, form: str) -> None:
    remote_id = await scene.stored()
    scene.fault("url", "detail", form=form)
    assert await scene.target.digest(remote_id) is None
    assert await scene.target.digest(remote_id) == document(NAME, TEXT).digest


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("retrieve-empty", 0),
        ("retrieve-null", 0),
        ("retrieve-no-scores", 1),
        ("retrieve-no-metadata", 0),
        ("retrieve-deleted", 2),
    ],
)
async def test_odd_answers_to_a_search_are_read(scene: Scene, kind: str, count: int) -> None:
    remote_id = await scene.stored()
    scene.fault(kind, "retrieve")
    hits = await scene.target.search(Query("kestrel"))
    assert len(hits) == count
    assert count == 0 or remote_id in {hit.remote_id for hit in hits}


async def test_own_separators_come_back_as_the_recipe_they_were_sent_with(scene: Scene) -> None:
    scene.app.set_behaviour({"sentence_size": "string"})
    given = {"knowledge_type": 5, "custom_separator": ["\n\n", "。"], "sentence_size": 500}
    await scene.target.put([document(NAME, TEXT, **given, parse_image=True)])
    [found] = await scene.listed()
    assert found.recipe == scene.target.recipe(NAME, {**given, "parse_image": True})
