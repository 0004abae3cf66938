"""Reads a service's responses without trusting them, both single fields and whole lists.

A missing field, or one of a different type, reads as None, "" or empty. Lists are unreliable: the order may
be undocumented, there may be no cursor, `total` may be wrong, missing or text, a page beyond the end may
repeat the last one, and rows move from page to page while others add and delete documents.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Iterable, Iterator
from contextlib import aclosing
from dataclasses import field
from datetime import UTC, datetime
from typing import Any, Generic, Protocol, TypeVar
from urllib.parse import quote

from kbsync.contract.searching import Hit, Passage
from kbsync.contract.target import BaseCard, DocStatus, Listed
from kbsync.core.text import number_in
from kbsync.dataclass import dataclass
from kbsync.errors import Unavailable, Unsure

_MAX_COUNT = 2**63 - 1  # SQLite's largest integer
_MAX_NUMBER = 1e9  # excludes NaN and infinity
_LATEST_SECONDS = 100_000_000_000  # larger numbers are milliseconds


def text_of(value: object) -> str:
    """Return a string; "" for anything else."""
    return value if isinstance(value, str) else ""


def id_of(value: object) -> str | None:
    """Return an id as a string. It may be JSON text or a JSON integer; return None for anything else.

    That includes a float, because a float above 53 bits has already lost digits.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return text_of(value).strip() or None


def path_part(remote_id: str) -> str:
    """Return an id escaped for a URL path."""
    return quote(remote_id, safe="")


def integer(value: object) -> int | None:
    """Return an integer, which may be given as a string of digits, or None for anything else."""
    if isinstance(value, str):
        return number_in(value.strip())
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def count_of(value: object) -> int | None:
    """Return a count, or None if the value isn't one.

    A count is an integer or a string of digits, not negative, and small enough for SQLite.
    """
    count = integer(value)
    return count if count is not None and 0 <= count <= _MAX_COUNT else None


def number(value: object) -> float | None:
    """Return a number, such as a score. Return None for anything else, and for absurdly large numbers."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < _MAX_NUMBER else None


def seconds_of(value: object) -> float | None:
    """Return a time in epoch seconds.

    This accepts seconds or milliseconds, as a number or as digits, and ISO 8601 (UTC by default).
    """
    if isinstance(value, str) and (count := number_in(value.strip())) is not None:
        value = count
    elif isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            return None
        value = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 1e15:
        return None
    return value / 1000 if value > _LATEST_SECONDS else float(value)


class Fields(dict[str, Any]):
    """A JSON object. Each method reads a field with the corresponding function above."""

    def text(self, key: str) -> str:
        """Return a string, or ""."""
        return text_of(self.get(key))

    def id(self, key: str) -> str | None:
        """Return an id as a string."""
        return id_of(self.get(key))

    def integer(self, key: str) -> int | None:
        """Return an integer."""
        return integer(self.get(key))

    def count(self, key: str) -> int | None:
        """Return a count."""
        return count_of(self.get(key))

    def number(self, key: str) -> float | None:
        """Return a number."""
        return number(self.get(key))

    def flag(self, key: str) -> bool | None:
        """Return a boolean, given as 0, 1, false or true."""
        value = self.get(key)
        return bool(value) if isinstance(value, int) and value in (0, 1) else None

    def seconds(self, key: str) -> float | None:
        """Return a time in epoch seconds."""
        return seconds_of(self.get(key))

    def object(self, key: str) -> Fields:
        """Return an object, which may be empty."""
        return object_of(self.get(key))

    def objects(self, key: str) -> Iterator[Fields]:
        """Yield the objects of a list."""
        return objects_in(self.get(key))


def object_of(value: object) -> Fields:
    """Return the value if it is an object, otherwise an empty object."""
    return Fields(value) if isinstance(value, dict) else Fields()


def objects_in(value: object) -> Iterator[Fields]:
    """Yield the objects of a list, skipping anything else in it."""
    return (Fields(item) for item in value if isinstance(item, dict)) if isinstance(value, list) else iter(())


def created_id(body: Any) -> str | None:
    """Return the `id` of the object in a response, such as one that the request created."""
    return object_of(body).id("id")


V = TypeVar("V")


def row_reader(read: Callable[[Fields], V]) -> Callable[[object], V | None]:
    """Decorate a function that parses an object with an `id`, which it gets as a string.

    The decorated function accepts any JSON value, and returns None if it isn't such an object.
    """

    def read_row(value: object) -> V | None:
        row = object_of(value)
        remote_id = row.id("id")
        return None if remote_id is None else read(Fields(row, id=remote_id))

    return read_row


def require_document(op: str, row: V | None) -> V:
    """Return `row`, the document that an upload created.

    Raises `Unsure` if it is None, because the upload may have created a document anyway.
    """
    if row is None:
        raise Unsure(f"{op}: the response doesn't contain the document's id", code="no-id")
    return row


def require_shape(op: str, value: V | None) -> V:
    """Return `value`, the parsed response.

    Raises `Unavailable` if it is None, because the response has an unexpected shape.
    """
    if value is None:
        raise Unavailable(f"{op}: the response has an unexpected shape", code="shape")
    return value


def require_id(op: str, received: str | None, wanted: str) -> None:
    """Raise `Unavailable` if a response is about a different object, because its state would be mistaken for
    that of the requested object.

    A service may return an id in lowercase.
    """
    require_shape(op, (received or "").lower() == wanted.lower() or None)


def batches(ids: Iterable[str], limit: int) -> Iterator[tuple[str, ...]]:
    """Yield the ids in batches, one for each request, with each id only once."""
    unique = tuple(dict.fromkeys(ids))
    return (unique[start : start + limit] for start in range(0, len(unique), limit))


PAGE_SIZE = 100
SWEEPS = 3
_MIN_PAGE_CAP = 10  # the smallest default page size of services; shorter pages have a different cause
_ENOUGH = 0.8
"""Minimum share of the base's document count that a list must contain; the count may be slightly off."""


def check_shown(shown: int, counted: int | None, base_id: str) -> None:
    """Raise `Unavailable` if a list shows far fewer documents than the base counts."""
    # Trusting such a list would make documents look deleted (promise 1).
    if counted is not None and shown < counted * _ENOUGH:
        raise Unavailable(f"the list shows {shown} of {counted} documents of knowledge base {base_id}")


class HasId(Protocol):
    """A row of a list, identified by its `id`."""

    @property
    def id(self) -> str:
        """The service's id."""


T = TypeVar("T", bound=HasId)
T_co = TypeVar("T_co", bound=HasId, covariant=True)


@dataclass(frozen=True, slots=True)
class ListPage(Generic[T_co]):
    """A page of a list. `total`: the list's own count. `is_null`: whether the response has no list."""

    rows: tuple[T_co, ...]
    total: int | None
    is_null: bool = False


@dataclass(frozen=True, slots=True)
class DocumentRow:
    """A document in a service's list.

    `size` is in bytes, `created` in epoch seconds. `path`, `digest`, `upload_id` and `recipe` are our marks,
    if the service stores them. `addresses`: see `Listed`.
    """

    id: str
    name: str
    size: int | None
    created: float | None
    status: DocStatus
    path: str | None = None
    digest: str | None = None
    upload_id: int | None = None
    recipe: str | None = None
    addresses: tuple[str, ...] = ()

    @property
    def listed(self) -> Listed:
        """Return the row as the contract's `Listed`."""
        mark = self.path, self.digest, self.upload_id, self.recipe, self.addresses
        return Listed(self.id, self.name, self.size, self.created, self.status.state, *mark)


def page_in(listed: object, total: object, read: Callable[[object], T | None]) -> ListPage[T] | None:
    """Return the rows of the list, each parsed by `read` (see `row_reader`), or None if there is no list."""
    if not isinstance(listed, list):
        return None
    rows = map(read, listed)
    return ListPage(tuple(row for row in rows if row is not None), count_of(total))


def value_at(body: Any, path: str) -> Any:
    """Return the value at a path of keys, such as `data.docs`, or None if it is missing."""
    for key in path.split("."):
        body = object_of(body).get(key)
    return body


def list_at(body: Any, *paths: str) -> list[Any] | None:
    """Return the body if it is a list, otherwise the first list at one of the `paths` (see `value_at`)."""
    values = [body, *(value_at(body, path) for path in paths)]
    return next((value for value in values if isinstance(value, list)), None)


def card_in(row: Fields, setting: str) -> BaseCard:
    """Parse a knowledge base whose fields have the usual names. `setting`: the setting to show with it."""
    settings = {setting: row.text(setting)} if row.text(setting) else {}
    name, description, model = row.text("name"), row.text("description"), row.text("embedding_model")
    return BaseCard(row["id"], name, description, model, row.count("document_count"), settings=settings)


Match = tuple[str, Passage]
"""A passage from a search, with the id of its document."""


def matches_in(listed: object, read: Callable[[Fields], tuple[object, Passage]]) -> tuple[Match, ...] | None:
    """Return the passages that a search found, each parsed by `read`, or None if there is no list."""
    if not isinstance(listed, list):
        return None
    matches = map(read, objects_in(listed))
    return tuple((remote_id, passage) for raw_id, passage in matches if (remote_id := id_of(raw_id)))


def hits_of(matches: Iterable[Match]) -> list[Hit]:
    """Return a hit for each document, in order, with the score of its first passage."""
    passages: dict[str, list[Passage]] = {}
    for remote_id, passage in matches:
        passages.setdefault(remote_id, []).append(passage)
    return [Hit(remote_id, several[0].score, tuple(several)) for remote_id, several in passages.items()]


def path_below(prefix: str, path: str) -> str | None:
    """Return `path` without the mirror's prefix, or None for a file with another mirror's prefix."""
    return path.removeprefix(prefix) if path.startswith(prefix) and path != prefix else None


FetchPage = Callable[[int, int], Awaitable[ListPage[T]]]
"""Takes a page number, starting from 1, and a page size. Returns that page of the list."""


def real_size(page: ListPage[T], size: int) -> int:
    """Return the page size that the server really uses, which is the length of a first page that isn't full.

    If that size is requested from then on, every row is read, whether the server pages by the requested size
    or by its own.
    """
    count = len(page.rows)
    return size if count == page.total or not _MIN_PAGE_CAP <= count < size else count


R = TypeVar("R", bound=DocumentRow)


async def find_on_pages(fetch_page: FetchPage[R], ids: Collection[str]) -> tuple[dict[str, R], int]:
    """Return the rows for `ids` found on the pages with the newest documents, and the number of pages read.

    Few services document how their lists are sorted, so if the first page has the oldest documents, start
    from the last page. Stop at the first page that contains none of the ids; read at most one page per id.
    """
    rows: dict[str, R] = {}
    number, step, size, requests = 1, 1, PAGE_SIZE, 0
    # Read a page only if it saves more than one request.
    while (number > 1 or not requests) and len(ids) - len(rows) > requests + 1:
        page = await fetch_page(number, size)
        requests += 1
        matches = {row.id: row for row in page.rows if row.id in ids and row.id not in rows}
        rows |= matches
        if requests == 1:
            size = real_size(page, size)
            times = [row.created for row in page.rows if row.created is not None]
            last = -(-(page.total or 0) // size)
            if last > 1 and times and times[0] < times[-1]:
                number, step = last, -1
                continue
        if not matches or (step > 0 and len(page.rows) < size):
            break
        number += step
    return rows, requests


class ListSweep(Generic[T]):
    """Reads the whole list repeatedly until the result is reliable, at most `SWEEPS` times.

    Only the ids are kept in memory. `shown` is the number of ids.
    """

    def __init__(self, fetch_page: FetchPage[T]) -> None:
        self._fetch_page = fetch_page
        self._size = PAGE_SIZE
        self._last_turns: dict[str, int] = {}  # id → the last turn that listed it
        self._last = _Turn()
        self._is_confirmed_empty = False

    @property
    def shown(self) -> int:
        """The number of documents listed."""
        return len(self._last_turns)

    @property
    def claimed_count(self) -> int:
        """The lowest of the counts that the list reports, or 0 if it reports none."""
        return min(self._last.totals, default=0)

    @property
    def is_doubtful(self) -> bool:
        """Whether the list may be incomplete.

        True if the list has fewer documents than every count that it reported, or if it reported none.
        """
        return not (0 < self.claimed_count <= self.shown or self._is_confirmed_empty)

    async def rows(self) -> AsyncGenerator[T, None]:
        """Yield every row once. Raises the same errors as requesting a page."""
        for turn in range(1, SWEEPS + 1):
            async with aclosing(self._turn(turn)) as rows:
                async for row in rows:
                    yield row
            if self._last.is_complete:
                return
            # Rows may have moved between pages while others worked; a missed row would look deleted.

    async def _turn(self, mark: int) -> AsyncGenerator[T, None]:
        # each further turn uses smaller pages, so that a row missed at a page boundary is then inside a page
        turn = _Turn(size=self._size - (mark - 1) * (self._size // 10))
        while True:
            page = await self._fetch_page(turn.number, turn.size)
            if turn.number == 1:
                self._is_confirmed_empty = page.total == 0 and not page.is_null
                turn.size = real_size(page, turn.size)
            if page.total is not None:
                turn.totals.add(page.total)
            new_in_turn = {row.id: row for row in page.rows if self._last_turns.get(row.id) != mark}
            fresh = [row for remote_id, row in new_in_turn.items() if remote_id not in self._last_turns]
            self._last_turns.update(dict.fromkeys(new_in_turn, mark))
            turn.distinct += len(new_in_turn)
            for row in fresh:
                yield row
            if mark == 1:
                self._size = min(self._size, turn.size)
            # Done: the page had nothing new, or is the last by its length and by the count. A count lower
            # than the number of listed rows is wrong and doesn't mark the end.
            is_last = len(page.rows) < turn.size and turn.distinct == max(turn.totals, default=0)
            if not new_in_turn or is_last:
                break
            turn.number += 1
        self._last = turn


@dataclass(slots=True)
class _Turn:
    """One pass through the list.

    `distinct` counts the list's rows; `totals` are the counts reported on its pages.
    """

    number: int = 1
    size: int = PAGE_SIZE
    distinct: int = 0
    totals: set[int] = field(default_factory=set)

    @property
    def is_complete(self) -> bool:
        """Whether every page reported the same count, and the pass listed that many documents."""
        return len(self.totals) < 2 and self.distinct >= max(self.totals, default=0)
