"""Tests that the list is read completely in spite of wrong pages, and polls need few pages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from email.utils import formatdate
from typing import Any

import httpx
import pytest

from kbsync.contract.target import DocState, DocStatus, Listed
from kbsync.errors import Halted, Unavailable
from kbsync.targets.http.reading import ListPage, ListSweep, find_on_pages
from kbsync.targets.zhipu.shapes import ZhipuDocument
from tests.clocks import NOW
from tests.targets.zhipu.scripted import BASE, ScriptedService, failed, ok, row, snowflake, target

READY = DocStatus(DocState.READY)
ZhipuPage = ListPage[ZhipuDocument]


def rows(count: int, since: float = NOW) -> list[ZhipuDocument]:
    """Return documents created one per second, oldest first."""
    return [ZhipuDocument(snowflake(since + n), f"{n}.md", None, since + n, READY) for n in range(count)]


class PagedList:
    """A list with pages; `falsify` changes the response to the n-th request (from 1)."""

    def __init__(
        self,
        documents: Sequence[ZhipuDocument],
        *,
        cap: int = 100,
        beyond_repeats: bool = False,
        offset_by_asked: bool = False,
        falsify: Callable[[int, ZhipuPage], ZhipuPage] = lambda _, page: page,
    ) -> None:
        self.documents = list(documents)
        self.cap, self.beyond_repeats, self.offset_by_asked, self.falsify = (
            cap,
            beyond_repeats,
            offset_by_asked,
            falsify,
        )
        self.requests: list[tuple[int, int]] = []

    async def __call__(self, number: int, size: int) -> ZhipuPage:
        self.requests.append((number, size))
        real = min(size, self.cap)
        step = size if self.offset_by_asked else real
        last = max(1, -(-len(self.documents) // step))
        index = (min(number, last) if self.beyond_repeats else number) - 1
        rows_of_page = tuple(self.documents[index * step : index * step + real])
        return self.falsify(len(self.requests), ListPage(rows_of_page, len(self.documents)))

    async def swept(self) -> list[str]:
        return [document.id async for document in ListSweep(self).rows()]


def with_total(total: Callable[[int, int], int | None]) -> Callable[[int, ZhipuPage], ZhipuPage]:
    """Return a `falsify` that sets `total` from (request, true total)."""
    return lambda n, page: ListPage(page.rows, total(n, page.total or 0), page.is_null)


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101, 250, 1000])
@pytest.mark.parametrize("cap", [10, 50, 100])
@pytest.mark.parametrize("offset_by_asked", [False, True])
@pytest.mark.parametrize("beyond_repeats", [False, True])
async def test_every_document_is_listed_once(
    count: int, cap: int, offset_by_asked: bool, beyond_repeats: bool
) -> None:
    shelf = PagedList(rows(count), cap=cap, offset_by_asked=offset_by_asked, beyond_repeats=beyond_repeats)
    ids = await shelf.swept()
    assert sorted(ids) == sorted(document.id for document in shelf.documents)


@pytest.mark.parametrize(
    "total",
    [
        lambda n, true: None,
        lambda n, true: 0,
        lambda n, true: 1,
        lambda n, true: true + 50,
        lambda n, true: true * 10,
        lambda n, true: true + n,
    ],
    ids=["missing", "zero", "low", "high", "very high", "changing"],
)
@pytest.mark.parametrize("cap", [10, 100])
async def test_wrong_count_hides_no_document(total: Callable[[int, int], int | None], cap: int) -> None:
    shelf = PagedList(rows(230), cap=cap, falsify=with_total(total))
    ids = await shelf.swept()
    assert len(ids) == len(set(ids)) == 230
    sweeps = sum(number == 1 for number, _ in shelf.requests)
    assert sweeps <= 3


async def test_shifted_page_is_read_again() -> None:
    """Others delete a document of the first page before the second is read, so one row is missed."""
    shelf = PagedList(rows(250))
    slipped = shelf.documents[100].id

    def delete_first(number: int, page: ZhipuPage) -> ZhipuPage:
        if number == 1:
            del shelf.documents[0]
        return page

    shelf.falsify = delete_first
    assert slipped in await shelf.swept()


async def test_null_page_in_the_middle_is_repaired_by_another_sweep() -> None:
    shelf = PagedList(rows(250), falsify=lambda n, page: ListPage((), page.total, True) if n == 2 else page)
    assert len(await shelf.swept()) == 250


# ---- the target's list


async def listed(service: ScriptedService) -> list[Listed]:
    return [document async for document in target(service).list()]


def base(documents: Any) -> Any:
    return ok({"id": BASE, "document_size": documents})


@pytest.mark.parametrize(("skew", "created"), [(200, NOW - 60), (-200, NOW - 60), (7_200, None)])
async def test_document_times_are_converted_to_our_clock_unless_far_off(
    skew: int, created: float | None
) -> None:
    remote_id = snowflake(NOW + skew - 60)
    page = ok({"total": 2, "list": [row(remote_id), row("a-uuid")]})
    response = httpx.Response(200, json=page, headers={"Date": formatdate(NOW + skew, usegmt=True)})
    result = await listed(ScriptedService(list=[response]))
    # A `Date` has whole seconds.
    assert [document.created for document in result] == [created and pytest.approx(created, abs=1), None]


@pytest.mark.parametrize("data", [{"total": 5, "list": []}, {"total": 0, "list": None}, {"list": []}, None])
async def test_empty_list_of_a_base_with_documents_is_not_believed(data: Any) -> None:
    with pytest.raises(Unavailable, match="shows 0 of 5"):
        await listed(ScriptedService(list=[ok(data)], base=[base(5)]))


async def test_list_far_shorter_than_two_counts_is_not_believed() -> None:
    short = ok({"total": 10, "list": [row(str(n)) for n in range(7)]})
    end = ok({"total": 10, "list": []})
    with pytest.raises(Unavailable, match="shows 7 of 10"):
        await listed(ScriptedService(list=[short, end] * 4, base=[base(10)]))
    assert len(await listed(ScriptedService(list=[short, end] * 4, base=[base(8)]))) == 7
    assert len(await listed(ScriptedService(list=[short, end] * 4, base=[base(None)]))) == 7


async def test_list_without_a_count_is_compared_with_the_base_count() -> None:
    uncounted = [ok({"list": [row(str(n)) for n in range(7)]}), ok({"list": []})]
    with pytest.raises(Unavailable, match="shows 7 of 10"):
        await listed(ScriptedService(list=[*uncounted], base=[base(10)]))
    assert len(await listed(ScriptedService(list=[*uncounted], base=[base(7)]))) == 7


@pytest.mark.parametrize("reply", [404, failed(400, "知识库不存在"), failed(400, "参数错误")])
async def test_refused_list_is_never_an_empty_one(reply: Any) -> None:
    with pytest.raises(Halted) as caught:
        await listed(ScriptedService(list=[reply], base=[404]))
    assert caught.value.halt == "knowledge-base-missing"
    with pytest.raises(Unavailable, match="can't read the list"):
        await listed(ScriptedService(list=[reply]))


# ---- statuses


def ids_of(documents: list[ZhipuDocument]) -> set[str]:
    return {document.id for document in documents}


@pytest.mark.parametrize(
    ("count", "is_newest_first", "shape", "expected"),
    [
        (150, True, {}, [(1, 100), (2, 100)]),
        (60, False, {}, [(1, 100), (11, 100), (10, 100)]),
        (60, False, {"cap": 50, "offset_by_asked": True}, [(1, 100), (21, 50), (20, 50)]),
    ],
    ids=["newest first", "oldest first", "smaller pages than asked for"],
)
async def test_newest_documents_are_found_at_the_end_where_they_are(
    count: int, is_newest_first: bool, shape: dict[str, Any], expected: list[tuple[int, int]]
) -> None:
    documents = rows(1030)
    shelf = PagedList(documents[::-1] if is_newest_first else documents, **shape)
    expected_ids = ids_of(documents[-count:])
    states, _ = await find_on_pages(shelf, expected_ids)
    assert states.keys() == expected_ids
    assert shelf.requests == expected


async def test_documents_newer_than_the_list_are_not_searched_for_in_old_pages() -> None:
    documents = rows(1000)
    shelf = PagedList(documents[::-1])
    states, requests = await find_on_pages(shelf, ids_of(rows(50, NOW + 5_000)))
    assert not states
    assert requests == 1


async def test_few_old_documents_are_polled_instead_of_reading_pages() -> None:
    documents = rows(5000)
    shelf = PagedList(documents[::-1])
    states, _ = await find_on_pages(shelf, ids_of(documents[-100:]) | ids_of(documents[:2]))
    assert len(states) == 100
    assert len(shelf.requests) == 1


@pytest.mark.parametrize("count", [3, 5, 30, 150])
@pytest.mark.parametrize("order", ["newest", "oldest", "shuffled"])
@pytest.mark.parametrize("total", [0, 50, None, 100_000])
async def test_pages_and_remaining_polls_never_cost_more_than_single_polls(
    count: int, order: str, total: int | None
) -> None:
    documents = rows(700)
    ids = ids_of(documents[::5][:count])
    shelf_order = {
        "newest": documents[::-1],
        "oldest": documents,
        "shuffled": documents[1::2] + documents[::2],
    }
    shelf = PagedList(shelf_order[order], falsify=with_total(lambda _, __: total))
    states, requests = await find_on_pages(shelf, ids)
    assert requests <= len(ids)
    assert requests + len(ids) - len(states) <= len(ids) + 1 + len(ids) // 10


async def test_list_that_repeats_itself_is_abandoned() -> None:
    shelf = PagedList(rows(100)[::-1], falsify=with_total(lambda _, __: None), beyond_repeats=True)
    states, requests = await find_on_pages(shelf, ids_of(rows(100)) | ids_of(rows(50, NOW - 9_999)))
    assert len(states) == 100
    assert requests <= 2
