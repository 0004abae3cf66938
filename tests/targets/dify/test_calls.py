"""Single calls of the target, beside a stand-in that errs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from kbsync.contract.searching import Query
from kbsync.contract.target import Accepted, DocState
from kbsync.errors import Halted, Rejected, Unavailable, Unsure
from kbsync_standin.faults import Fault
from tests.conformance.test_dify import DifyConformance


@pytest.fixture
async def world() -> AsyncIterator[Any]:
    world = DifyConformance("tagged")
    async with world.serving():
        world.target = await world.open()
        yield world
        await world.target.aclose()


async def test_only_the_word_for_it_makes_a_document_missing(world: Any) -> None:
    [one] = await world.make_ready(world.document("a.md", "alpha"))
    world.server.faults.add(Fault("error", "detail", args={"code": "invalid_param"}))
    assert (await world.target.status([one]))[one].state is DocState.UNKNOWN
    assert (await world.target.status([one]))[one].state is DocState.READY


async def test_an_empty_list_is_not_believed_against_the_count_of_the_base(world: Any) -> None:
    await world.make_ready(world.document("a.md", "alpha"))
    world.server.faults.add(Fault("shape", "list", args={"form": "nulls"}))
    with pytest.raises(Unavailable, match="0 of 1 documents"):
        await world.rows()


async def test_a_refused_list_tells_that_the_base_is_gone(world: Any) -> None:
    world.server.faults.add(Fault("status", "list", effect=False, args={"status": 404}))
    with pytest.raises(Unavailable, match="the list cannot be had"):
        await world.rows()
    world.app.set_behaviour({"base": "deleted"})
    world.server.faults.add(Fault("status", "list", effect=False, args={"status": 404}))
    with pytest.raises(Halted):
        await world.rows()


async def test_only_documents_of_the_name_are_asked_for(world: Any) -> None:
    documents = [world.document(f"{name}.md", name) for name in ("alpha", "beta")]
    await world.make_ready(*documents)
    assert [row.name for row in await world.target.find(documents[0].name)] == [documents[0].name]


async def test_a_search_keeps_to_what_it_is_among_and_leaves_paths_to_others(world: Any) -> None:
    documents = [world.document(f"{number}.md", f"kestrel {number}") for number in range(3)]
    ids = await world.make_ready(*documents)
    search = world.target.search
    assert {hit.remote_id for hit in await search(Query("kestrel", among=(ids[1],)))} == {ids[1]}
    assert len(await search(Query("kestrel", top_k=1))) == 1
    assert len(await search(Query("kestrel", top_k=1, types=("md",)))) == 3


@pytest.mark.parametrize(
    ("path", "size", "code"), [("a.exe", 5, "format"), ("a.md", 15 * 1024 * 1024 + 1, "too-large")]
)
async def test_what_dify_would_refuse_without_a_word_is_not_sent(
    world: Any, path: str, size: int, code: str
) -> None:
    [outcome] = await world.target.put([world.document(path, b"x" * size)])
    assert isinstance(outcome, Rejected) and outcome.code == code
    assert world.server.requests.by_op["upload"] == 0


async def test_an_answer_without_an_id_proves_nothing_and_another_name_is_told(world: Any) -> None:
    world.server.faults.add(Fault("no-id", "upload"))
    world.server.faults.add(Fault("other-name", "upload"))
    first, second, third = [world.document(f"{number}.md", "text") for number in range(3)]
    outcomes = await world.target.put([first, second, third])
    assert isinstance(outcomes[0], Unsure)
    assert isinstance(outcomes[1], Accepted) and outcomes[1].name == f"renamed {second.name}"
    assert isinstance(outcomes[2], Accepted) and outcomes[2].name == ""


async def test_an_upload_that_no_call_takes_blames_the_document_only_while_the_base_is_there(
    world: Any,
) -> None:
    await world.target.base()
    for behaviour, kind in (("present", Rejected), ("deleted", Halted)):
        world.app.set_behaviour({"base": behaviour})
        world.server.faults.add(Fault("status", "upload", effect=False, args={"status": 404}))
        [outcome] = await world.target.put([world.document("a.md", "alpha")])
        assert type(outcome) is kind


async def test_a_base_that_is_kept_elsewhere_takes_no_documents(world: Any) -> None:
    world.app.set_behaviour({"external": True})
    with pytest.raises(Halted, match="external to Dify"):
        await world.target.base()
    [outcome] = await world.target.put([world.document("a.md", "alpha")])
    assert isinstance(outcome, Halted)
    assert world.server.requests.by_op["upload"] == 0


@pytest.mark.parametrize(
    ("runtime", "words"), [("rag_pipeline", "a knowledge pipeline"), ("agent", "of the kind agent")]
)
async def test_a_base_with_a_way_of_its_own_takes_no_documents(world: Any, runtime: str, words: str) -> None:
    world.app.set_behaviour({"runtime": runtime})
    with pytest.raises(Halted, match=words) as caught:
        await world.target.base()
    assert "choose a general one" in caught.value.reason
    [outcome] = await world.target.put([world.document("a.md", "alpha")])
    assert isinstance(outcome, Halted)
    assert world.server.requests.by_op["upload"] == 0


@pytest.mark.parametrize("files_url", ["broken", "untold"])
async def test_an_address_that_is_none_proves_no_bytes(world: Any, files_url: str) -> None:
    [one] = await world.make_ready(world.document("a.md", "alpha"))
    world.app.set_behaviour({"files_url": files_url})
    world.server.requests.clear()
    assert await world.target.digest(one) is None
    assert dict(world.server.requests.by_op) == {"file": 1}
