"""The target in front of the stand-in server, over TCP, with the vendor's documented traps switched on."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from kbsync.contract.searching import Query
from kbsync.contract.target import Accepted, DocState, Listed, PutOutcome
from kbsync.errors import Halted, Unsure
from kbsync.targets.zhipu.config import ZhipuTargetConfig
from kbsync.targets.zhipu.target import ZhipuTarget
from kbsync_standin.faults import Fault
from kbsync_standin.server import Server
from kbsync_standin.zhipu import HOME_ID, application
from tests.targets.blocks import around, block
from tests.targets.zhipu.vendor import document

NAME = "guide.md"
TEXT = b"# About kestrels\n\nThis guide explains the kestrel.\n"


class TargetAtStandIn:
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
async def scene() -> AsyncIterator[TargetAtStandIn]:
    """Nothing that the target sends breaks the vendor's rules."""
    scene = TargetAtStandIn()
    await scene.open()
    yield scene
    await scene.target.aclose()
    await scene.server.stop()
    assert scene.app.violations == []


# ---- one upload, whatever happens to it


@pytest.mark.parametrize("form", ["nfd", "mojibake", "basename", "suffixed", "question_marks"])
async def test_the_name_the_vendor_gives_is_told(scene: TargetAtStandIn, form: str) -> None:
    scene.app.set_behaviour({"names": form})
    [outcome] = await scene.target.put([document("café 手册.md", TEXT)])
    assert isinstance(outcome, Accepted)
    [found] = await scene.listed()
    assert found.name == outcome.name or (outcome.name == "" and found.name == "café 手册.md")


@pytest.mark.parametrize("full", ["10001", "10002", "refused"])
async def test_an_account_that_turns_out_full_is_to_blame(scene: TargetAtStandIn, full: str) -> None:
    scene.app.set_behaviour({"capacity_bytes": 10, "full": full, "not_offered": ["capacity"]})
    outcome = await scene.put()
    if isinstance(outcome, Accepted):
        status = (await scene.target.status([outcome.remote_id]))[outcome.remote_id]
        assert (status.state, status.halt) == (DocState.FAILED, "quota")
    else:
        assert isinstance(outcome, Halted)
        assert outcome.halt == "quota"


@pytest.mark.parametrize(("room", "halt"), [(10, "quota"), (100_000, "")])
async def test_a_full_account_is_what_the_capacity_call_says(
    scene: TargetAtStandIn, room: int, halt: str
) -> None:
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
async def test_the_list_is_whole(scene: TargetAtStandIn, switches: dict[str, Any]) -> None:
    scene.app.set_behaviour(switches)
    ids = scene.fill(230)
    listed = [one.remote_id for one in await scene.listed()]
    assert sorted(listed) == sorted(ids)


@pytest.mark.parametrize("switches", LISTS, ids=str)
async def test_statuses_of_many_cost_few_requests(scene: TargetAtStandIn, switches: dict[str, Any]) -> None:
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


# ---- gone, missing, refused


@pytest.mark.parametrize("form", ["404", "code", "null"])
@pytest.mark.parametrize("code", [400, 404])
async def test_a_base_that_is_deleted_halts_every_call(scene: TargetAtStandIn, form: str, code: int) -> None:
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


@pytest.mark.parametrize("form", ["missing", "null", "expired", "wrong"])
async def test_a_bad_address_gives_no_digest(scene: TargetAtStandIn, form: str) -> None:
    remote_id = await scene.stored()
    scene.fault("url", "detail", form=form)
    assert await scene.target.digest(remote_id) is None
    assert await scene.target.digest(remote_id) == document(NAME, TEXT).digest
